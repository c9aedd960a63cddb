"""How well yes or no was predicted: click, purchase, liked."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from zhiyin.domain.errors import DataError
from zhiyin.evaluation.calibration import N_BINS
from zhiyin.evaluation.labels.figures import LabelFigures, LabelKind
from zhiyin.evaluation.labels.judging import Measure, judge
from zhiyin.evaluation.labels.placing import (
    Levels,
    area_addends,
    average_precision_addend,
    bins_of_levels,
    within_users_addends,
)
from zhiyin.evaluation.labels.predicted import Doubles, PredictedLabels
from zhiyin.evaluation.labels.sums import Addend, Addends, Resampling, Sums

LEAST_CHANCE = 1e-7
"""Chances are kept this far from 0 and 1 in the log-loss, about the precision of float32 near 1."""
_BOTH_CLASSES = ("roc_auc", "average_precision")


def judge_chances(
    predicted: PredictedLabels, *, threshold: float = 0.5, n_resamples: int = 1000, seed: int = 0
) -> LabelFigures:
    """Judge chances of yes.

    The figures, each with the middle 95 % of resamples of users: ``accuracy``; ``precision_yes``,
    ``recall_yes``, ``f1_yes`` and the same for ``no`` at the threshold; ``roc_auc``, ``gauc`` (within users)
    and ``average_precision`` (area under the precision-recall curve), which need no threshold; ``log_loss``
    (nats), ``brier`` and ``calibration_error`` (0 is best), which judge the chances themselves;
    ``share_of_yes`` and ``mean_chance``.

    Args:
        predicted: Labels 0 and 1, predictions from 0 to 1.
        threshold: Chance from which on a row counts as predicted yes. Choose it on validation, see
            `threshold_of_best_f1`.
        n_resamples: Draws of users.
        seed: Of the draws.

    Raises:
        DataError: when a label is neither 0 nor 1, or a prediction is no chance.
    """
    _refuse_unfit(predicted)
    measure = Measure(
        LabelKind.CHANCE,
        partial(_addends, threshold=threshold),
        _figures,
        partial(_reason, threshold=threshold),
        dict.fromkeys(("roc_auc", "average_precision", "calibration_error"), (0.0, 1.0)),
        shifted=frozenset({"calibration_error"}),
    )
    return judge(predicted, measure, Resampling(n_resamples, seed), threshold)


def threshold_of_best_f1(predicted: PredictedLabels) -> float:
    """Return the chance from which on saying yes gives the best F1 of yes; 0.5 where all labels are equal.

    Args:
        predicted: Of validation rows: what is chosen on test rows flatters.
    """
    _refuse_unfit(predicted)
    labels = predicted.labels.astype(np.float64)
    levels = Levels.of(labels, predicted.predictions.astype(np.float64))
    n_yes = levels.n_yes.sum()
    if n_yes in (0, len(labels)):
        return 0.5
    f1 = 2 * levels.n_yes_above / (levels.n_above + n_yes)
    return float(levels.value[np.argmax(f1)])


def _addends(predicted: PredictedLabels, threshold: float) -> Addends:
    labels, chances = predicted.labels.astype(np.float64), predicted.predictions.astype(np.float64)
    is_yes, says_yes = labels > 0, chances >= threshold
    levels = Levels.of(labels, chances)
    of_truth = np.clip(np.where(is_yes, chances, 1 - chances), LEAST_CHANCE, 1 - LEAST_CHANCE)
    return {
        "n": Addend(np.ones(len(labels))),
        "yes": Addend(labels),
        "chance": Addend(chances),
        "says_yes": Addend(says_yes),
        "right_yes": Addend(says_yes & is_yes),
        "loss": Addend(-np.log(of_truth)),
        "squared": Addend((chances - labels) ** 2),
        "gap": Addend(chances - labels, bins_of_levels(levels, N_BINS), N_BINS),
        "precision": average_precision_addend(levels, labels),
        **area_addends(levels, labels),
        **within_users_addends(levels, labels, predicted.user_index),
    }


def _figures(sums: Sums) -> dict[str, Doubles]:
    n, yes, says_yes, right_yes = sums["n"], sums["yes"], sums["says_yes"], sums["right_yes"]
    no, says_no = n - yes, n - says_yes
    right_no = says_no - (yes - right_yes)
    both = np.where((yes > 0) & (no > 0), 1.0, np.nan)
    return {
        "roc_auc": both * (sums["area_yes"] / yes + sums["area_no"] / no),
        "gauc": sums["within"] / sums["within_n"],
        "average_precision": both * sums["precision"] / yes,
        "log_loss": sums["loss"] / n,
        "brier": sums["squared"] / n,
        "calibration_error": np.abs(sums["gap"]).sum(axis=1) / n,
        "accuracy": (right_yes + right_no) / n,
        "precision_yes": right_yes / says_yes,
        "recall_yes": right_yes / yes,
        "f1_yes": 2 * right_yes / (says_yes + yes),
        "precision_no": right_no / says_no,
        "recall_no": right_no / no,
        "f1_no": 2 * right_no / (says_no + no),
        "share_of_yes": yes / n,
        "mean_chance": sums["chance"] / n,
    }


def _reason(name: str, predicted: PredictedLabels, threshold: float) -> str:
    only = {0.0: "no", 1.0: "yes"}.get(float(predicted.labels.mean()), "")
    if name in _BOTH_CLASSES:
        return f"every label is {only}, so that there is nothing to tell apart"
    if name == "gauc":
        return "no user has rows of yes and of no"
    answer = name.rpartition("_")[2]
    if name.startswith("precision"):
        return f"nothing was predicted {answer} at the threshold {threshold:g}"
    if name.startswith("recall"):
        return f"no label is {answer}"
    return f"no label is {answer}, and nothing was predicted so"


def _refuse_unfit(predicted: PredictedLabels) -> None:
    others = np.setdiff1d(predicted.labels, [0, 1])
    if len(others):
        raise DataError(
            f"Task '{predicted.task}': a label is {others[0]:g}; yes or no is 1 or 0.",
            remedy="Say from which value on a row means yes, or train the task as a rating.",
        )
    low, high = float(predicted.predictions.min()), float(predicted.predictions.max())
    if low < 0 or high > 1 or math.isnan(low):
        raise DataError(
            f"Task '{predicted.task}': predictions lie between {low:g} and {high:g}; chances are 0 to 1.",
            remedy="Turn logits into chances first:  1 / (1 + exp(-logit))",
        )
