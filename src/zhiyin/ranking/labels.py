"""Labels as the network learns them: yes and no, or numbers around 0."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zhiyin.contracts import ComponentState
from zhiyin.data.labelled import LabelledExamples
from zhiyin.domain import BoolArray, FloatArray, LongArray
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

    def understood(self, labels: FloatArray) -> FloatArray:
        """Return (N, T) labels that came later: numbers cut to the ends, NaN for what is no yes or no where
        it was so, and for what is not finite.
        """
        cut = np.clip(labels, self.low, self.high)
        is_as_usual = np.where(self.is_yes_no, np.isin(labels, (0.0, 1.0)), np.isfinite(labels))
        understood: FloatArray = np.where(is_as_usual, cut, np.nan).astype(np.float32)
        return understood

    def only(self, places: LongArray) -> LabelScale:
        """Return what labels of some tasks are like, named by their places."""
        return LabelScale(
            tuple(self.tasks[place] for place in places),
            self.is_yes_no[places],
            self.mean[places],
            self.deviation[places],
            self.low[places],
            self.high[places],
            self.loss[places],
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

    @property
    def usual(self) -> FloatArray:
        """(T,) float32: the answers that always say the mean, as the network gives them."""
        share = np.clip(self.mean, 1e-6, 1 - 1e-6)
        usual: FloatArray = np.where(self.is_yes_no, np.log(share / (1 - share)), 0.0).astype(np.float32)
        return usual

    def losses_of_rows(self, told: FloatArray, labels: FloatArray) -> FloatArray:
        """Return the (N, T) loss of each chance and number, as trained; NaN where the label is not known."""
        is_known = ~np.isnan(labels)
        truth = np.where(is_known, labels, 0.0)
        chance = np.clip(told, 1e-6, 1 - 1e-6)
        entropy = -(truth * np.log(chance) + (1 - truth) * np.log(1 - chance))
        losses = np.where(self.is_yes_no, entropy, ((told - truth) / self.deviation) ** 2)
        known: FloatArray = np.where(is_known, losses, np.nan)
        return known

    def losses(self, told: FloatArray, labels: FloatArray) -> FloatArray:
        """Return the (T,) mean loss of (N, T) chances and numbers, as trained; NaN without labels."""
        n_known = (~np.isnan(labels)).sum(axis=0)
        total: FloatArray = np.nansum(self.losses_of_rows(told, labels), axis=0) / np.maximum(n_known, 1)
        return np.where(n_known > 0, total, np.nan)

    def explained(self, told: FloatArray, labels: FloatArray, weights: FloatArray) -> float:
        """Return how much less is lost than by always saying the mean of the rows learned from: at most 1.

        ``1 - Σ_t w_t L_t / Σ_t w_t L⁰_t`` over the tasks that these rows say anything of. With one this is
        R² against that mean for numbers, and the relative information gain for yes and no.

        Args:
            told: (N, T) chances and numbers.
            labels: (N, T), NaN where unknown.
            weights: (T,) of the tasks.
        """
        of_mean = self.losses(np.broadcast_to(self.mean, labels.shape), labels)
        whole = float(np.nansum(weights * of_mean))
        return 1.0 - float(np.nansum(weights * self.losses(told, labels))) / whole if whole > 0 else 0.0

    @property
    def yes_no(self) -> list[str]:
        """Tasks answered by yes and no."""
        return [task for task, is_one in zip(self.tasks, self.is_yes_no, strict=True) if is_one]

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
