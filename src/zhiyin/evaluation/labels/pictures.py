"""What is drawn of predicted labels: a few hundred numbers, however many rows there are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zhiyin.evaluation.calibration import N_BINS, Bin
from zhiyin.evaluation.labels.placing import Levels, Places, bins_of_levels
from zhiyin.evaluation.labels.predicted import Doubles, PredictedLabels
from zhiyin.evaluation.labels.sums import Addend, Resampling, plain_sums, resampled_sums

N_POINTS = 200
"""Points that a curve is thinned to, at most."""
N_STEPS = 20
"""Steps of predicted and of true values in a picture of both."""
_OUTSIDE = 0.5
"""Percent of the values at each end that a picture of values may cut off."""

Curve = tuple[tuple[float, float], ...]
"""(x, y), x rising."""


@dataclass(frozen=True)
class ChancePicture:
    """Chances against what happened.

    Attributes:
        roc: False positive rate → true positive rate; empty where all labels are equal.
        precision_recall: Recall → precision; empty where all labels are equal.
        bins: Chances next to each other, the least first, with the share of yes; equal chances share a bin,
            and the interval of a share is by users.
        share_of_yes: What a precision is without any knowledge.
    """

    roc: Curve
    precision_recall: Curve
    bins: tuple[Bin, ...]
    share_of_yes: float


@dataclass(frozen=True)
class Step:
    """Rows whose predicted values are next to each other.

    Attributes:
        n: Rows.
        predicted: Mean prediction.
        true: Mean label.
        low: The tenth percent of the labels.
        high: The ninetieth.
    """

    n: int
    predicted: float
    true: float
    low: float
    high: float


@dataclass(frozen=True)
class ValuePicture:
    """Predicted against true values.

    Attributes:
        steps: Rows by rising prediction, about equally many in each.
        predicted_edges: P + 1 borders of cells along the predictions.
        true_edges: T + 1 borders along the labels.
        cells: T rows of P shares of all rows, the lowest labels first.
    """

    steps: tuple[Step, ...]
    predicted_edges: tuple[float, ...]
    true_edges: tuple[float, ...]
    cells: tuple[tuple[float, ...], ...]


def chance_picture(
    predicted: PredictedLabels, *, n_bins: int = N_BINS, n_resamples: int = 400, seed: int = 0
) -> ChancePicture:
    """Draw chances against what happened.

    Args:
        predicted: Labels 0 and 1, chances.
        n_bins: Bins of the calibration, at most.
        n_resamples: Draws of users behind their intervals.
        seed: Of the draws.
    """
    labels = predicted.labels.astype(np.float64)
    levels = Levels.of(labels, predicted.predictions.astype(np.float64))
    yes_above, above = levels.n_yes_above[::-1], levels.n_above[::-1]
    n_yes, n_no = levels.n_yes.sum(), (levels.n - levels.n_yes).sum()
    roc: Curve = ()
    precision_recall: Curve = ()
    if n_yes and n_no:
        roc = ((0.0, 0.0), *_thinned((above - yes_above) / n_no, yes_above / n_yes))
        precision_recall = _thinned(yes_above / n_yes, yes_above / above)
    bins = _bins(predicted, levels, n_bins, Resampling(n_resamples, seed))
    return ChancePicture(roc, precision_recall, bins, float(n_yes / len(labels)))


def value_picture(predicted: PredictedLabels) -> ValuePicture:
    """Draw predicted against true values."""
    labels, values = predicted.labels.astype(np.float64), predicted.predictions.astype(np.float64)
    levels = Levels.of(np.zeros(len(labels)), values)
    bin_of_row = bins_of_levels(levels, N_BINS)
    order = np.argsort(bin_of_row, kind="stable")
    ends = np.flatnonzero(np.diff(bin_of_row[order])) + 1
    steps = tuple(_step(labels[rows], values[rows]) for rows in np.split(order, ends))
    predicted_edges, true_edges = _edges(values), _edges(labels)
    row, column = _cell(labels, true_edges), _cell(values, predicted_edges)
    n_rows, n_columns = len(true_edges) - 1, len(predicted_edges) - 1
    cells = np.bincount(row * n_columns + column, minlength=n_rows * n_columns) / len(labels)
    return ValuePicture(
        steps,
        tuple(predicted_edges.tolist()),
        tuple(true_edges.tolist()),
        tuple(tuple(row) for row in cells.reshape(n_rows, n_columns).tolist()),
    )


def _thinned(x: Doubles, y: Doubles) -> Curve:
    """Keep points about evenly far from each other along the curve, the first and the last among them."""
    way = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
    wanted = np.linspace(0.0, way[-1], N_POINTS)
    kept = np.unique(np.concatenate([[0], np.searchsorted(way, wanted).clip(max=len(x) - 1), [len(x) - 1]]))
    return tuple(zip(x[kept].tolist(), y[kept].tolist(), strict=True))


def _bins(predicted: PredictedLabels, levels: Levels, n_bins: int, resampling: Resampling) -> tuple[Bin, ...]:
    labels = predicted.labels.astype(np.float64)
    cell = bins_of_levels(levels, n_bins)
    addends = {
        "n": Addend(np.ones(len(labels)), cell, n_bins),
        "yes": Addend(labels, cell, n_bins),
        "chance": Addend(predicted.predictions.astype(np.float64), cell, n_bins),
    }
    sums = plain_sums(addends)
    kept = np.flatnonzero(sums["n"][0])
    n, yes, chance = (sums[name][0, kept] for name in ("n", "yes", "chance"))
    drawn = resampled_sums({name: addends[name] for name in ("n", "yes")}, predicted.user_index, resampling)
    low, high = _shares(drawn["yes"][:, kept], drawn["n"][:, kept])
    return tuple(
        Bin(int(n[place]), chance[place] / n[place], yes[place] / n[place], low[place], high[place])
        for place in range(len(kept))
    )


def _shares(yes: Doubles, n: Doubles) -> tuple[list[float], list[float]]:
    """Middle 95 % of resampled shares, a resample without rows of a bin left out; NaN for one user."""
    shares = np.divide(yes, n, out=np.full(n.shape, np.nan), where=n > 0)
    ends = [
        np.nanquantile(column, [0.025, 0.975]) if np.isfinite(column).any() else (np.nan, np.nan)
        for column in shares.T
    ]
    return [float(low) for low, _ in ends], [float(high) for _, high in ends]


def _step(labels: Doubles, values: Doubles) -> Step:
    low, high = np.quantile(labels, [0.1, 0.9])
    return Step(len(labels), float(values.mean()), float(labels.mean()), float(low), float(high))


def _cell(values: Doubles, edges: Doubles) -> Places:
    """(N,) int: between which edges a value lies; those outside belong to the nearest."""
    found: Places = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    return found


def _edges(values: Doubles) -> Doubles:
    """Borders of cells: around each value where there are few, else even steps over nearly all of them."""
    distinct = np.unique(values)
    if 1 < len(distinct) <= N_STEPS:
        middles = (distinct[1:] + distinct[:-1]) / 2
        first, last = 2 * distinct[0] - middles[0], 2 * distinct[-1] - middles[-1]
        return np.concatenate([[first], middles, [last]])
    low, high = np.percentile(values, [_OUTSIDE, 100 - _OUTSIDE])
    if high <= low:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, N_STEPS + 1)
