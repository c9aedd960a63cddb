"""Labels as the network learns them: yes and no, or numbers around 0."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zhiyin.contracts import ComponentState
from zhiyin.data.labelled import LabelledExamples
from zhiyin.domain import BoolArray, FloatArray
from zhiyin.domain.errors import TrainingError


@dataclass(frozen=True, eq=False)
class LabelScale:
    """What labels of T tasks are like.

    Attributes:
        tasks: T names.
        is_yes_no: (T,) bool, where every label is 0 or 1.
        mean: (T,) float32.
        deviation: (T,) float32, 1 for yes and no.
        low: (T,) float32, the smallest label.
        high: (T,) float32, the largest.
        loss: (T,) float32, of always saying the mean: the entropy, or 1.
    """

    tasks: tuple[str, ...]
    is_yes_no: BoolArray
    mean: FloatArray
    deviation: FloatArray
    low: FloatArray
    high: FloatArray
    loss: FloatArray

    @classmethod
    def fit(cls, examples: LabelledExamples) -> LabelScale:
        """Look at the labels of the rows to learn from.

        Raises:
            TrainingError: when a task has no labels, equal ones only, or one that is infinite.
        """
        labels = examples.labels
        is_known = ~np.isnan(labels)
        for place, task in enumerate(examples.tasks):
            known = labels[is_known[:, place], place]
            if not len(known) or known.min() == known.max() or not np.isfinite(known).all():
                said = f"is always {known.min():g}" if len(known) else "is never known"
                said = said if not len(known) or np.isfinite(known).all() else "is infinite in places"
                raise TrainingError(
                    f"The label of task '{task}' {said} in the rows to learn from.",
                    remedy="Leave the task out, or look at the rule that makes its labels.",
                )
        low, high, mean = (
            np.asarray(measure(labels, axis=0), dtype=np.float32)
            for measure in (np.nanmin, np.nanmax, np.nanmean)
        )
        is_yes_no: BoolArray = np.asarray((np.isin(labels, (0.0, 1.0)) | ~is_known).all(axis=0))
        entropy = -(mean * np.log(np.clip(mean, 1e-9, 1)) + (1 - mean) * np.log(np.clip(1 - mean, 1e-9, 1)))
        return cls(
            examples.tasks,
            is_yes_no,
            mean,
            np.where(is_yes_no, 1.0, np.nanstd(labels, axis=0, dtype=np.float64)).astype(np.float32),
            low,
            high,
            np.where(is_yes_no, entropy, 1.0).astype(np.float32),
        )

    def learned(self, labels: FloatArray) -> FloatArray:
        """Return labels as they are learned: numbers with mean 0 and deviation 1, yes and no as they are."""
        numbers: FloatArray = np.where(self.is_yes_no, labels, (labels - self.mean) / self.deviation)
        return numbers.astype(np.float32)

    def told(self, answers: FloatArray) -> FloatArray:
        """Return what (N, T) answers mean: chances, or numbers between the ends of the labels."""
        chances = 1.0 / (1.0 + np.exp(-np.clip(answers, -30, 30)))
        numbers = np.clip(answers * self.deviation + self.mean, self.low, self.high)
        told: FloatArray = np.where(self.is_yes_no, chances, numbers).astype(np.float32)
        return told

    def explained(self, told: FloatArray, labels: FloatArray) -> FloatArray:
        """Return (T,) how much better than the mean of the rows learned from: 1 - loss / loss of the mean.

        For numbers this is R² against that mean, for yes and no the relative information gain. NaN where no
        row says anything.
        """
        is_known = ~np.isnan(labels)
        truth = np.where(is_known, labels, 0.0)

        def loss(guess: FloatArray) -> FloatArray:
            chance = np.clip(guess, 1e-6, 1 - 1e-6)
            entropy = -(truth * np.log(chance) + (1 - truth) * np.log(1 - chance))
            losses = np.where(self.is_yes_no, entropy, (guess - truth) ** 2) * is_known
            total: FloatArray = losses.sum(axis=0) / np.maximum(is_known.sum(axis=0), 1)
            return total

        of_mean = loss(np.broadcast_to(self.mean, labels.shape))
        share = 1.0 - loss(told) / np.maximum(of_mean, 1e-12)
        return np.where(is_known.any(axis=0) & (of_mean > 0), share, np.nan).astype(np.float32)

    def state(self) -> ComponentState:
        """Return everything as arrays and facts."""
        names = ("is_yes_no", "mean", "deviation", "low", "high", "loss")
        return ComponentState({name: getattr(self, name) for name in names}, {"tasks": list(self.tasks)})

    @classmethod
    def restore(cls, state: ComponentState) -> LabelScale:
        """Take over a saved state."""
        arrays = {
            name: array.astype(np.float32) for name, array in state.arrays.items() if name != "is_yes_no"
        }
        is_yes_no = state.arrays["is_yes_no"].astype(np.bool_)
        return cls(tuple(state.facts["tasks"]), is_yes_no, **arrays)
