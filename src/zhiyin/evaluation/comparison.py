"""Which of two recommenders is better, judged on the same queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zhiyin.domain.errors import RequestError
from zhiyin.evaluation.evaluation import Evaluation
from zhiyin.evaluation.intervals import percentile_interval, resampled_means


@dataclass(frozen=True)
class Difference:
    """First minus second, on one metric.

    Attributes:
        metric: Its name.
        first: Mean of the first evaluation over the queries both say something about.
        second: Mean of the second.
        value: ``first - second``.
        low: Lower end of its 95 % interval.
        high: Upper end.
        p_value: How often a difference at least as large arises when there is none, two-sided.
    """

    metric: str
    first: float
    second: float
    value: float
    low: float
    high: float
    p_value: float

    @property
    def is_certain(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def compare(
    first: Evaluation, second: Evaluation, metrics: Sequence[str] | None = None
) -> tuple[Difference, ...]:
    """Compare pair by pair, by bootstrap over queries.

    The interval is the middle 95 % of the resampled mean differences d*; the p-value shifts them to a mean of
    zero: (1 + #{|d* - d| ≥ |d|}) / (R + 1). Efron and Tibshirani, *An Introduction to the Bootstrap* (1993),
    chapter 16.

    Args:
        first: One evaluation; its settings say how often to resample, and its seed.
        second: Another, of the same queries.
        metrics: Which; by default all metrics of single queries that both measured. Metrics of all slates
            together, such as coverage, cannot be paired.

    Raises:
        RequestError: when the two did not judge the same queries, or one has not measured a metric.
    """
    if first.queries_digest != second.queries_digest:
        raise RequestError(
            f"The two evaluations did not judge the same queries ({len(first)} and {len(second)} of them).",
            remedy="Evaluate both on the same examples: same dataset, same protocol.",
        )
    names = list(metrics or [name for name in first.values if name in second.values])
    _refuse_unmeasured(names, first, second)
    if not names:
        return ()
    pairs = [_pair(first, second, name) for name in names]
    differences = np.stack([a - b for a, b in pairs], axis=1)
    resampled = resampled_means(differences, first.settings.n_resamples, first.settings.seed)
    return tuple(
        _difference(name, a, b, resampled[:, column])
        for column, (name, (a, b)) in enumerate(zip(names, pairs, strict=True))
    )


Pair = tuple[
    np.ndarray[tuple[int, ...], np.dtype[np.float64]], np.ndarray[tuple[int, ...], np.dtype[np.float64]]
]


def _pair(first: Evaluation, second: Evaluation, metric: str) -> Pair:
    """(B,) float64 of both, NaN in both where one is NaN."""
    a, b = first.values[metric].astype(np.float64), second.values[metric].astype(np.float64)
    unknown = np.isnan(a) | np.isnan(b)
    return np.where(unknown, np.nan, a), np.where(unknown, np.nan, b)


def _difference(
    metric: str,
    first: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    second: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    resampled: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> Difference:
    known = ~np.isnan(first)
    a, b = (float(side[known].mean()) if known.any() else float("nan") for side in (first, second))
    interval = percentile_interval(a - b, resampled)
    # float32 sums of the resamples differ in the last digit; a tie must count as a tie.
    as_large = np.abs(resampled - (a - b)) >= abs(a - b) * (1 - 1e-6) - 1e-12
    p_value = (1 + int(as_large.sum())) / (1 + len(resampled)) if known.any() else float("nan")
    return Difference(metric, a, b, a - b, interval.low, interval.high, p_value)


def _refuse_unmeasured(names: Sequence[str], *evaluations: Evaluation) -> None:
    for evaluation in evaluations:
        missing = [name for name in names if name not in evaluation.values]
        if missing:
            raise RequestError(
                f"The metric '{missing[0]}' was not measured for every query.",
                possible=f"Measured were: {', '.join(evaluation.values)}.",
            )
