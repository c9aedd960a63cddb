"""How well a fine-tuned model foretells rows that it has not seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from zhiyin.data.labelled import LabelledExamples
from zhiyin.domain import FloatArray, IndexArray
from zhiyin.domain.errors import DataError
from zhiyin.evaluation.labels.chances import judge_chances, threshold_of_best_f1
from zhiyin.evaluation.labels.figures import LabelFigures
from zhiyin.evaluation.labels.predicted import PredictedLabels
from zhiyin.evaluation.labels.rankings import judge_rankings
from zhiyin.evaluation.labels.run_report import TaskReport
from zhiyin.evaluation.labels.values import judge_values
from zhiyin.language.finetuning.rows import TaskRows
from zhiyin.language.finetuning.settings import TaskConfig

ITEMS_OF_NEXT = 100
"""Items among which the next one is looked for in a report; 99 of them are drawn."""
_MOST_NEXT = 500
"""Rows of ``next`` that a report is made of: each asks for a hundred predictions."""


class Foretelling(Protocol):
    """Whatever foretells tasks, trained or not."""

    @property
    def tasks(self) -> Mapping[str, TaskConfig]:
        """Name → settings, in the order of the columns."""

    def predict(self, examples: LabelledExamples) -> FloatArray:
        """Return (N, T) float32."""

    def among(self, examples: LabelledExamples, items: IndexArray) -> FloatArray:
        """Return (N, C, T) float32 for items (N, C) int32."""


def judged_tasks(model: Foretelling, rows: TaskRows, *, seed: int = 0) -> tuple[TaskReport, ...]:
    """Judge every task on the test rows, in the order of the settings.

    Chances are turned into yes and no at the threshold that is best on the validation rows. The next item is
    looked for among 99 drawn ones, each met item as likely as any other; a ranking over the whole catalogue
    is what ``zhiyin evaluate`` measures.

    Args:
        model: What was fine-tuned, or foretells without.
        rows: Of its tasks.
        seed: Of resamples and drawn items.
    """
    told: dict[str, TaskReport] = {}
    if rows.labelled is not None:
        test, validation = rows.labelled.test, rows.labelled.validation
        predicted, chosen_by = model.predict(test), model.predict(validation)
        for column, (name, task) in enumerate(rows.tasks.items()):
            if task.kind != "next" and not np.isnan(test.labels[:, column]).all():
                some = PredictedLabels.of(test, name, predicted[:, column], test.user_index)
                on_validation = PredictedLabels.of(validation, name, chosen_by[:, column])
                told[name] = TaskReport.of(some, _judged(task.kind, some, on_validation, seed))
    if rows.following is not None:
        for name, task in rows.tasks.items():
            if task.kind == "next":
                told[name] = _judged_next(model, rows.following.test, name, seed)
    if not told:
        raise DataError("No row that was held back has a label.", remedy="Hold back more: holding.test.")
    return tuple(told[name] for name in rows.tasks if name in told)


def _judged(kind: str, test: PredictedLabels, validation: PredictedLabels, seed: int) -> LabelFigures:
    if kind == "yes_no":
        return judge_chances(test, threshold=threshold_of_best_f1(validation), seed=seed)
    if kind == "rating":
        return judge_values(test, seed=seed)
    return judge_rankings(test, relevant_from=_relevant_from(test.labels), seed=seed)


def _relevant_from(labels: npt.NDArray[Any]) -> float:
    """Return the label from which on a row is relevant: the median, or the least above the lowest."""
    better = labels[labels > labels.min()]
    return float(max(np.median(labels), better.min())) if len(better) else float(labels.min())


def _judged_next(model: Foretelling, test: LabelledExamples, name: str, seed: int) -> TaskReport:
    some = test.take(np.arange(min(len(test), _MOST_NEXT)))
    items = _beside_drawn(some.item_index, test.events.item_index, seed)
    column = list(model.tasks).index(name)
    scores = model.among(some, items)[:, :, column]
    row = np.repeat(np.arange(len(some)), ITEMS_OF_NEXT)
    labels = np.zeros(items.shape, dtype=np.float32)
    labels[:, 0] = 1.0
    # A drawn item that is the target itself would be counted as wrong.
    is_told = (items != some.item_index[:, None]) | (labels > 0)
    kept = np.flatnonzero(is_told.reshape(-1))
    predicted = PredictedLabels(
        name,
        labels.reshape(-1)[kept],
        scores.reshape(-1)[kept],
        some.user_index[row][kept],
        some.n_known[row][kept],
        row[kept],
    )
    return TaskReport.of(predicted, judge_rankings(predicted, seed=seed))


def _beside_drawn(targets: IndexArray, met: IndexArray, seed: int) -> IndexArray:
    drawn = np.random.default_rng(seed).choice(np.unique(met), size=(len(targets), ITEMS_OF_NEXT - 1))
    return np.concatenate([targets[:, None], drawn], axis=1).astype(np.int32)
