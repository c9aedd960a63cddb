"""Labels, what was predicted for them, and whose they are: what every figure is made of."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zhiyin.data.labelled import LabelledExamples
from zhiyin.domain.errors import DataError, ShapeMismatch, TrainingError, did_you_mean

Doubles = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.floating] | npt.NDArray[np.integer]
Indices = npt.NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class PredictedLabels:
    """N labels of one task beside what was predicted.

    Attributes:
        task: Its name, such as ``click``.
        labels: (N,) float, what happened: 0 or 1 for yes or no, any finite number for values.
        predictions: (N,) float: a chance from 0 to 1, a value, or for rankings any score, higher is better.
        user_index: (N,) int, whose row it is; rows of one user are not independent and are drawn together.
        n_known: (N,) int, events known of the user before the row.
        groups: (N,) int, rows that were ranked against each other, such as one page of impressions.

    Raises:
        DataError: when there are no rows, or a label is not a finite number.
        ShapeMismatch: when the arrays are not equally long.
        TrainingError: when a prediction is not a finite number.
    """

    task: str
    labels: Numbers
    predictions: Numbers
    user_index: Indices
    n_known: Indices
    groups: Indices | None = None

    def __post_init__(self) -> None:
        given = {
            "labels": self.labels,
            "predictions": self.predictions,
            "user_index": self.user_index,
            "n_known": self.n_known,
        }
        shapes = {name: array.shape for name, array in given.items()}
        shapes |= {"groups": self.groups.shape} if self.groups is not None else {}
        if len(set(shapes.values())) > 1 or self.labels.ndim != 1:
            told = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            raise ShapeMismatch(f"Task '{self.task}': the arrays are not equally long: {told}.")
        if not len(self):
            raise DataError(
                f"Task '{self.task}': there is not one row to judge.",
                remedy="Hold back more rows for testing, or leave the task out.",
            )
        n_unknown = int((~np.isfinite(self.labels)).sum())
        if n_unknown:
            raise DataError(
                f"Task '{self.task}': {n_unknown:,} of {len(self):,} labels are not numbers.",
                remedy="Leave out the rows that say nothing about the task:  PredictedLabels.of(...)",
            )
        n_lost = int((~np.isfinite(self.predictions)).sum())
        if n_lost:
            raise TrainingError(
                f"Task '{self.task}': {n_lost:,} of {len(self):,} predictions are not numbers.",
                possible="The training went astray, or half precision overflowed.",
                remedy="Train with a lower learning rate, clipped gradients, or in full precision.",
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def n_users(self) -> int:
        """How many different users the rows belong to."""
        return len(np.unique(self.user_index))

    @classmethod
    def of(
        cls, examples: LabelledExamples, task: str, predictions: Numbers, groups: Indices | None = None
    ) -> PredictedLabels:
        """Join what was predicted for examples with their labels; rows without a label are left out.

        Args:
            examples: N rows.
            task: One of their tasks.
            predictions: (N,) float, of this task.
            groups: (N,) int, see the class.

        Raises:
            DataError: when there is no such task, or no row has a label of it.
        """
        if task not in examples.tasks:
            raise DataError(
                f"The examples have no task '{task}'.{did_you_mean(task, examples.tasks)}",
                possible=f"Tasks: {', '.join(examples.tasks)}.",
            )
        if len(predictions) != len(examples):
            raise ShapeMismatch(f"{len(predictions)} predictions for {len(examples)} examples do not match.")
        labels = examples.labels[:, examples.tasks.index(task)]
        rows = np.flatnonzero(~np.isnan(labels))
        return cls(
            task,
            labels[rows],
            predictions[rows],
            examples.user_index[rows],
            examples.n_known[rows],
            None if groups is None else groups[rows],
        )

    def take(self, rows: Indices | npt.NDArray[np.bool_]) -> PredictedLabels:
        """Return the given rows, or those marked."""
        return PredictedLabels(
            self.task,
            self.labels[rows],
            self.predictions[rows],
            self.user_index[rows],
            self.n_known[rows],
            None if self.groups is None else self.groups[rows],
        )

    def digest(self) -> str:
        """Return a fingerprint of everything but the predictions: equal when the same rows were judged."""
        found = hashlib.sha256()
        found.update(np.ascontiguousarray(self.labels, dtype=np.float32).tobytes())
        for array in (self.user_index, self.n_known, self.groups):
            if array is not None:
                found.update(np.ascontiguousarray(array, dtype=np.int64).tobytes())
        return found.hexdigest()
