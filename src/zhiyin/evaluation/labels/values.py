"""How well numbers were predicted: ratings, times, prices."""

from __future__ import annotations

import numpy as np

from zhiyin.evaluation.labels.figures import LabelFigures, LabelKind
from zhiyin.evaluation.labels.judging import Measure, judge
from zhiyin.evaluation.labels.predicted import Doubles, PredictedLabels
from zhiyin.evaluation.labels.sums import Addend, Addends, Resampling, Sums

_NO_SPREAD = 1e-12
"""Share of the squared size of values below which a variance is rounding."""


def judge_values(predicted: PredictedLabels, *, n_resamples: int = 1000, seed: int = 0) -> LabelFigures:
    """Judge predicted numbers.

    The figures, each with the middle 95 % of resamples of users: ``rmse`` and ``mae`` in the unit of the
    labels; ``r_squared``, the share of their variance that is explained (1 is best, 0 is the mean told to
    everybody, below 0 is worse than that); ``correlation`` (Pearson); ``mean_error``, predicted minus true.

    Args:
        predicted: Any finite numbers.
        n_resamples: Draws of users.
        seed: Of the draws.
    """
    measure = Measure(
        LabelKind.VALUE,
        _addends,
        _figures,
        _reason,
        {"r_squared": (-np.inf, 1.0), "correlation": (-1.0, 1.0)},
    )
    return judge(predicted, measure, Resampling(n_resamples, seed))


def _addends(predicted: PredictedLabels) -> Addends:
    labels, values = predicted.labels.astype(np.float64), predicted.predictions.astype(np.float64)
    error = values - labels
    # Around their means, so that variances are not small differences of large sums.
    label, value = labels - labels.mean(), values - values.mean()
    size = np.full(len(labels), labels.mean() ** 2 + labels.var())
    size_of_values = np.full(len(labels), values.mean() ** 2 + values.var())
    return {
        "n": Addend(np.ones(len(labels))),
        "error": Addend(error),
        "absolute": Addend(np.abs(error)),
        "squared": Addend(error**2),
        "label": Addend(label),
        "value": Addend(value),
        "label_squared": Addend(label**2),
        "value_squared": Addend(value**2),
        "product": Addend(label * value),
        "size": Addend(size),
        "size_of_values": Addend(size_of_values),
    }


def _figures(sums: Sums) -> dict[str, Doubles]:
    n = sums["n"]
    of_labels = _spread(sums["label_squared"] - sums["label"] ** 2 / n, sums["size"])
    of_values = _spread(sums["value_squared"] - sums["value"] ** 2 / n, sums["size_of_values"])
    together = sums["product"] - sums["label"] * sums["value"] / n
    return {
        "rmse": np.sqrt(sums["squared"] / n),
        "mae": sums["absolute"] / n,
        "r_squared": 1 - sums["squared"] / of_labels,
        "correlation": np.clip(together / np.sqrt(of_labels * of_values), -1.0, 1.0),
        "mean_error": sums["error"] / n,
    }


def _spread(summed: Doubles, size: Doubles) -> Doubles:
    """Return sums of squares around the mean, NaN where values are all equal but for rounding."""
    spread: Doubles = np.where(summed > _NO_SPREAD * size, summed, np.nan)
    return spread


def _reason(_: str, predicted: PredictedLabels) -> str:
    if len(np.unique(predicted.labels)) == 1:
        return f"every label is {predicted.labels[0]:g}, so that there is no variance to explain"
    return f"every prediction is {predicted.predictions[0]:g}, which goes with nothing"
