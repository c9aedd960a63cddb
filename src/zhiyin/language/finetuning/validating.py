"""How good a model is on the validation rows: what training stops by, and what a search compares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zhiyin.data.labelled import LabelledExamples
from zhiyin.domain import FloatArray, IndexArray
from zhiyin.language.finetuning.drawing import Drawer
from zhiyin.language.finetuning.model import FinetunedModel
from zhiyin.language.finetuning.rows import TaskRows
from zhiyin.language.finetuning.skill import Shares, reciprocal_rank_of_rows, skill_of_rows

ITEMS_JUDGED = 50
"""Items among which the next one is looked for when training is judged; 49 of them are drawn."""
_MOST_NEXT_JUDGED = 400
"""Rows of ``next`` that are judged after an epoch: each asks for fifty predictions."""


@dataclass(frozen=True, eq=False)
class _TaskShares:
    """What rows of one task add to its skill.

    Attributes:
        user: (N,) int32.
        of_rows: (N,) float, with the skill as its mean.
    """

    user: IndexArray
    of_rows: Shares


@dataclass(frozen=True, eq=False)
class Validation:
    """A model and the validation rows it is judged by.

    Attributes:
        model: As it stands; training may go on.
        rows: Of its tasks; the test is not looked at.
        drawer: Who draws the items that stand beside the next one; None where no task asks.
        seed: Of these draws.
    """

    model: FinetunedModel
    rows: TaskRows
    drawer: Drawer | None
    seed: int

    def skill(self) -> float:
        """Return the mean over all tasks; tasks about which nothing can be told are left out."""
        return float(np.mean([shares.of_rows.mean() for shares in self._of_tasks()]))

    def skill_of_users(self) -> Shares:
        """Return what each user adds to `skill`.

        Returns:
            (U,) float64 whose mean is the skill, for all users with validation rows, by index; a user with
            more rows has a larger share.
        """
        of_tasks = self._of_tasks()
        users, place = np.unique(np.concatenate([shares.user for shares in of_tasks]), return_inverse=True)
        weighed = [shares.of_rows * len(users) / len(shares.of_rows) for shares in of_tasks]
        total: Shares = np.bincount(place, np.concatenate(weighed), len(users)) / len(of_tasks)
        return total

    def _of_tasks(self) -> list[_TaskShares]:
        return [*self._of_labels(), *self._of_next()]

    def _of_labels(self) -> list[_TaskShares]:
        if self.rows.labelled is None:
            return []
        examples = self.rows.labelled.validation
        return _told_shares(self.rows, self.model.predict(examples))

    def _of_next(self) -> list[_TaskShares]:
        if self.rows.following is None or self.drawer is None:
            return []
        examples = self.rows.following.validation
        # Rows stand user by user; of each as many are taken as of another.
        n_judged = min(len(examples), _MOST_NEXT_JUDGED)
        some = examples.take(np.arange(n_judged) * len(examples) // n_judged)
        scores = next_scores(self.model, some, self.drawer, self.seed)
        columns = [place for place, task in enumerate(self.rows.tasks.values()) if task.kind == "next"]
        return [
            _TaskShares(some.user_index, reciprocal_rank_of_rows(scores[:, :, column])) for column in columns
        ]


def can_validate(rows: TaskRows) -> bool:
    """Whether any task has validation rows that tell good predictions from bad ones."""
    if rows.following is not None:
        return True
    assert rows.labelled is not None
    return bool(_told_shares(rows, np.zeros_like(rows.labelled.validation.labels)))


def next_scores(model: FinetunedModel, examples: LabelledExamples, drawer: Drawer, seed: int) -> FloatArray:
    """Return (N, 50, T) predictions for the item that came, first, and for 49 drawn ones.

    A drawn item that is the one that came gets -∞: it is no rival of itself.
    """
    random = np.random.default_rng(seed)
    came = examples.item_index[:, None]
    drawn = drawer.judging(len(examples), ITEMS_JUDGED - 1, random)
    scores = model.among(examples, np.concatenate([came, drawn], axis=1))
    scores[:, 1:][drawn == came] = -np.inf
    return scores


def _told_shares(rows: TaskRows, predicted: FloatArray) -> list[_TaskShares]:
    """Judge the predictions (N, T) for the labelled validation rows, task by task."""
    assert rows.labelled is not None
    examples, told = rows.labelled.validation, []
    for column, task in enumerate(rows.tasks.values()):
        labels = examples.labels[:, column]
        known = ~np.isnan(labels)
        if task.kind != "next":
            user = examples.user_index[known]
            shares = skill_of_rows(task, predicted[known, column], labels[known], user)
            if not np.isnan(shares).all():
                told.append(_TaskShares(user, shares))
    return told
