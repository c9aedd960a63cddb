"""From addends to figures with intervals, for all rows and for each length of history."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from zhiyin.evaluation.breakdown import group_labels, group_of
from zhiyin.evaluation.intervals import Interval, percentile_interval
from zhiyin.evaluation.labels.figures import LabelFigures, LabelKind, Part
from zhiyin.evaluation.labels.predicted import Doubles, PredictedLabels
from zhiyin.evaluation.labels.sums import Addends, Resampling, Sums, plain_sums, resampled_sums

HISTORY_LENGTHS = (0, 1, 4, 11, 51)
"""Where groups of history lengths begin: 0, 1–3, 4–10, 11–50, 51+."""
ALL = "all"


@dataclass(frozen=True)
class Measure:
    """How labels of one kind are judged.

    Attributes:
        kind: Of the labels.
        addends: What rows add to the sums.
        figures: Figures as functions of the sums, (R,) each.
        reason: Why a figure says nothing of these rows; empty where it is not known.
        bounds: Lowest and highest value of a figure; unbounded where it is not named.
        shifted: Figures that resamples make larger by themselves: their spread is right, their level is not.
    """

    kind: LabelKind
    addends: Callable[[PredictedLabels], Addends]
    figures: Callable[[Sums], Mapping[str, Doubles]]
    reason: Callable[[str, PredictedLabels], str]
    bounds: Mapping[str, tuple[float, float]]
    shifted: frozenset[str] = frozenset()


def judge(
    predicted: PredictedLabels, measure: Measure, resampling: Resampling, threshold: float | None = None
) -> LabelFigures:
    """Judge all rows, and those of each length of history."""
    numbers = group_of(predicted.n_known.astype(np.int64), HISTORY_LENGTHS)
    parts = [
        _part(label, predicted.take(numbers == number), measure, resampling)
        for number, label in enumerate(group_labels(HISTORY_LENGTHS))
        if (numbers == number).any()
    ]
    whole = _part(ALL, predicted, measure, resampling)
    digest = f"{predicted.digest()}-{resampling.n_resamples}-{resampling.seed}"
    return LabelFigures(predicted.task, measure.kind, whole, tuple(parts), digest, threshold)


def _part(label: str, predicted: PredictedLabels, measure: Measure, resampling: Resampling) -> Part:
    addends = measure.addends(predicted)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = {name: float(value[0]) for name, value in measure.figures(plain_sums(addends)).items()}
        drawn = measure.figures(resampled_sums(addends, predicted.user_index, resampling))
    resampled = {name: _bounded(name, values[name], drawn[name], measure) for name in values}
    nothing = [name for name, value in values.items() if np.isnan(value)]
    return Part(
        label,
        len(predicted),
        predicted.n_users,
        {name: _interval(value, resampled[name]) for name, value in values.items()},
        {name: measure.reason(name, predicted) for name in nothing},
        resampled,
    )


def _bounded(name: str, value: float, drawn: Doubles, measure: Measure) -> Doubles:
    known = drawn[~np.isnan(drawn)]
    if name in measure.shifted and len(known):
        drawn = drawn - known.mean() + value
    bounded: Doubles = np.clip(drawn, *measure.bounds.get(name, (-np.inf, np.inf)))
    return bounded


def _interval(value: float, resampled: Doubles) -> Interval:
    """NaN where nothing can be said: what resamples say of an unknown value is chance alone."""
    if np.isnan(value):
        return Interval(value, float("nan"), float("nan"))
    return percentile_interval(value, resampled)
