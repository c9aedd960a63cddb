"""How well the ranker of a pipeline predicts rows that it has not seen."""

from __future__ import annotations

from typing import Any

import numpy as np

from zhiyin.evaluation.labels.chances import judge_chances, threshold_of_best_f1
from zhiyin.evaluation.labels.figures import LabelFigures
from zhiyin.evaluation.labels.predicted import PredictedLabels
from zhiyin.evaluation.labels.values import judge_values
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.pipeline.ranker_stage import Unseen

_MAIN = ("roc_auc", "log_loss", "rmse", "mae")


def ranker_figures(pipeline: Pipeline, *, seed: int = 0) -> tuple[LabelFigures, ...]:
    """Judge every task on the rows that training held back, in the order of the settings.

    Args:
        pipeline: Just trained; one that was loaded has no such rows, and neither has one without a ranker.
        seed: Of the resamples of users.
    """
    stage = pipeline.ranker
    if stage is None or stage.unseen is None:
        return ()
    judged = (_judged(stage.unseen, name, place, seed) for place, name in enumerate(stage.tasks))
    return tuple(figures for figures in judged if figures is not None)


def main_figures(figures: tuple[LabelFigures, ...]) -> dict[str, dict[str, float]]:
    """Return task → the figures that say most, as far as they could be had, and how many rows they judge."""
    found = {}
    for one in figures:
        told = {name: one.figures[name].value for name in _MAIN if name in one.figures}
        told = {name: round(value, 6) for name, value in told.items() if not np.isnan(value)}
        found[one.task] = {**told, "n_rows": one.whole.n_rows}
    return found


def predictions_record(figures: tuple[LabelFigures, ...]) -> dict[str, Any]:
    """Return the figures as plain values under ``ranker``; nothing where there are none."""
    return {"ranker": [one.record() for one in figures]} if figures else {}


def _judged(unseen: Unseen, name: str, place: int, seed: int) -> LabelFigures | None:
    test, validation = unseen.test, unseen.validation
    if np.isnan(test.labels[:, place]).all():
        return None
    rows = PredictedLabels.of(test, name, unseen.of_test[:, place], test.user_index)
    if not unseen.is_yes_no[place]:
        return judge_values(rows, seed=seed)
    if np.isnan(validation.labels[:, place]).all():
        return judge_chances(rows, seed=seed)
    chosen_by = PredictedLabels.of(validation, name, unseen.of_validation[:, place])
    return judge_chances(rows, threshold=threshold_of_best_f1(chosen_by), seed=seed)
