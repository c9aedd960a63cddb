"""What is said about predicted labels: figures with intervals, for everybody and by length of history."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from zhiyin.domain.errors import RequestError, did_you_mean
from zhiyin.evaluation.comparison import Difference
from zhiyin.evaluation.intervals import Interval, percentile_interval
from zhiyin.evaluation.labels.predicted import Doubles

LOWER_IS_BETTER = frozenset({"log_loss", "brier", "calibration_error", "rmse", "mae"})
"""Figures of which less is better."""
WITHOUT_BETTER = frozenset({"share_of_yes", "mean_chance", "mean_error"})
"""Figures that describe, and of which neither more nor less is better."""


class LabelKind(StrEnum):
    """What the labels of a task are."""

    CHANCE = "chance"
    """Yes or no; a chance is predicted."""
    VALUE = "value"
    """Numbers, such as ratings."""
    RANKING = "ranking"
    """The order within groups counts."""


@dataclass(frozen=True, eq=False)
class Part:
    """Figures of some of the rows.

    Attributes:
        label: ``all``, or a length of history such as ``4–10``.
        n_rows: Rows.
        n_users: Users they belong to.
        figures: Name such as ``roc_auc`` → value and 95 % interval.
        reasons: Name → why a figure is NaN.
        resampled: Name → (R,) float64, the figure of each resample of users.
    """

    label: str
    n_rows: int
    n_users: int
    figures: Mapping[str, Interval]
    reasons: Mapping[str, str] = field(default_factory=dict)
    resampled: Mapping[str, Doubles] = field(default_factory=dict, repr=False)

    def record(self) -> dict[str, Any]:
        """Everything but the resamples as plain values; NaN becomes None."""
        return {
            "label": self.label,
            "n_rows": self.n_rows,
            "n_users": self.n_users,
            "figures": {
                name: {part: None if math.isnan(number) else number for part, number in asdict(one).items()}
                for name, one in self.figures.items()
            },
            "reasons": dict(self.reasons),
        }


@dataclass(frozen=True, eq=False)
class LabelFigures:
    """How well the labels of one task were predicted.

    Attributes:
        task: Its name.
        kind: What its labels are.
        whole: Figures of all rows.
        by_history: Figures by how many events were known of the user; lengths without rows are left out.
        digest: Fingerprint of the judged rows and of the resamples; two of the same can be compared.
        threshold: Chance from which on a row counts as predicted yes; None where there is none.
    """

    task: str
    kind: LabelKind
    whole: Part
    by_history: tuple[Part, ...]
    digest: str
    threshold: float | None = None

    @property
    def figures(self) -> Mapping[str, Interval]:
        """Figures of all rows."""
        return self.whole.figures

    @property
    def counted(self) -> str:
        """What is counted as rows: in a ranking they are candidates, several for each list."""
        return "candidates" if self.kind is LabelKind.RANKING else "rows"

    @property
    def reasons(self) -> Mapping[str, str]:
        """Why a figure of all rows is NaN."""
        return self.whole.reasons

    def record(self) -> dict[str, Any]:
        """Everything but the resamples as plain values, for a file."""
        return {
            "task": self.task,
            "kind": self.kind.value,
            "threshold": self.threshold,
            **self.whole.record(),
            "by_history": [part.record() for part in self.by_history],
        }


def label_differences(
    first: LabelFigures, second: LabelFigures, figures: Sequence[str] | None = None
) -> tuple[Difference, ...]:
    """Compare two sets of predictions for the same rows: first minus second, users drawn alike.

    Args:
        first: One.
        second: The other, of the same rows, resampled as often with the same seed.
        figures: Names; by default all that both have.

    Raises:
        RequestError: when the rows are not the same, or one lacks a figure.
    """
    _refuse_others(first, second)
    return _differences(first.whole, second.whole, figures)


def label_differences_by_history(
    first: LabelFigures, second: LabelFigures, figure: str
) -> dict[str, Difference]:
    """Compare one figure for each length of history; arguments and errors as for `label_differences`.

    Returns:
        Length such as ``1–3`` → the difference.
    """
    _refuse_others(first, second)
    return {
        a.label: _differences(a, b, [figure])[0]
        for a, b in zip(first.by_history, second.by_history, strict=True)
    }


def _differences(first: Part, second: Part, figures: Sequence[str] | None) -> tuple[Difference, ...]:
    both = [name for name in first.figures if name in second.figures]
    names = both if figures is None else list(figures)
    unknown = [name for name in names if name not in both]
    if unknown:
        raise RequestError(
            f"There is no figure '{unknown[0]}' of both.{did_you_mean(unknown[0], both)}",
            possible=f"Both have: {', '.join(both)}.",
        )
    return tuple(_difference(name, first, second) for name in names)


def _difference(name: str, first: Part, second: Part) -> Difference:
    a, b = first.figures[name].value, second.figures[name].value
    resampled = first.resampled[name] - second.resampled[name]
    known = resampled[~np.isnan(resampled)]
    interval = percentile_interval(a - b, resampled)
    # Sums differ in the last digit; a tie must count as a tie.
    n_as_large = int((np.abs(known - (a - b)) >= abs(a - b) * (1 - 1e-9) - 1e-12).sum())
    p_value = (1 + n_as_large) / (1 + len(known)) if len(known) else float("nan")
    return Difference(name, a, b, a - b, interval.low, interval.high, p_value)


def _refuse_others(first: LabelFigures, second: LabelFigures) -> None:
    if first.digest != second.digest:
        raise RequestError(
            f"The two did not judge the same rows alike: {first.whole.n_rows:,} and "
            f"{second.whole.n_rows:,} of them.",
            remedy="Predict the same examples with both, and judge both with the same resamples and seed.",
        )
