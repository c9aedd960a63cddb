"""Scores that only order, put on the scale of chances or ratings by a few labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from zhiyin.contracts import Progress
from zhiyin.data.labelled import LabelledExamples
from zhiyin.domain import FloatArray, IndexArray
from zhiyin.domain.errors import DataError
from zhiyin.language.finetuning.settings import TaskConfig
from zhiyin.language.untrained import UntrainedModel

Doubles = npt.NDArray[np.float64]
SCALED_KINDS = ("yes_no", "rating")
"""Kinds of tasks whose predictions have a scale; the others only order."""
_LEAST = 1e-6
"""Scores are kept this far from 0 and 1 before their logarithm is taken."""
_LEAST_SLOPE = 1e-3
"""Higher scores stay higher, however few labels say otherwise."""


@dataclass(frozen=True)
class Line:
    """What turns a score into a chance or a rating: ``slope * logit(score) + intercept``.

    Attributes:
        slope: Above 0.
        intercept: Any.
        is_chance: Whether a sigmoid follows.
    """

    slope: float
    intercept: float
    is_chance: bool

    def told(self, scores: FloatArray) -> FloatArray:
        """Return (N,) float32 chances or ratings, in the order of the scores (N,) from 0 to 1."""
        values = self.slope * _logit(scores) + self.intercept
        told = 1.0 / (1.0 + np.exp(-values)) if self.is_chance else values
        return told.astype(np.float32)


@dataclass(frozen=True, eq=False)
class ScaledModel:
    """An untrained model whose scores were put on the scale of the labels.

    Attributes:
        model: Whose scores.
        lines: Of each task; None leaves the scores of a task that only orders.
    """

    model: UntrainedModel
    lines: tuple[Line | None, ...]

    @property
    def tasks(self) -> Mapping[str, TaskConfig]:
        """Name → settings, in the order of the columns."""
        return self.model.tasks

    def predict(self, examples: LabelledExamples, progress: Progress | None = None) -> FloatArray:
        """Foretell every task for every row: (N, T) float32, as a fine-tuned model does."""
        scores = self.model.predict(examples, progress)
        columns = [
            scores[:, column] if line is None else line.told(scores[:, column])
            for column, line in enumerate(self.lines)
        ]
        return np.stack(columns, axis=1)

    def among(self, examples: LabelledExamples, items: IndexArray) -> FloatArray:
        """Score several items a row: (N, C, T) float32 for items (N, C) int32; a scale changes no order."""
        return self.model.among(examples, items)


def scaled_model(model: UntrainedModel, labelled: LabelledExamples) -> ScaledModel:
    """Fit one line a task on labels.

    Args:
        model: Whose scores.
        labelled: N rows, with a column of labels for each task of the model, in its order.

    Raises:
        DataError: when a task has not one label.
    """
    scores = model.predict(labelled)
    lines: list[Line | None] = []
    for column, (name, task) in enumerate(model.tasks.items()):
        if task.kind not in SCALED_KINDS:
            lines.append(None)
            continue
        labels = labelled.labels[:, column]
        known = ~np.isnan(labels)
        if not known.any():
            raise DataError(f"Task '{name}' has not one label to be scaled by.")
        fitted = _chances_line if task.kind == "yes_no" else _ratings_line
        lines.append(fitted(scores[known, column], labels[known]))
    return ScaledModel(model, tuple(lines))


def _chances_line(scores: FloatArray, labels: FloatArray) -> Line:
    """Fit a sigmoid with Platt's targets, which keep a handful of labels from certainty.

    Platt, "Probabilistic outputs for support vector machines" (1999): yes counts as ``(n₊ + 1) / (n₊ + 2)``,
    no as ``1 / (n₋ + 2)``.
    """
    x, middle, spread = _standard(scores)
    n_yes = float(labels.sum())
    target = np.where(labels > 0, (n_yes + 1) / (n_yes + 2), 1 / (len(labels) - n_yes + 2))

    def loss(line: Doubles) -> tuple[float, Doubles]:
        values = line[0] * x + line[1]
        error = 1.0 / (1.0 + np.exp(-values)) - target
        return float((np.logaddexp(0.0, values) - target * values).sum()), np.array([error @ x, error.sum()])

    found = minimize(
        loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B", bounds=[(_LEAST_SLOPE, None), (None, None)]
    ).x
    return Line(float(found[0] / spread), float(found[1] - found[0] * middle / spread), is_chance=True)


def _ratings_line(scores: FloatArray, labels: FloatArray) -> Line:
    """Fit a rising straight line by least squares."""
    x, middle, spread = _standard(scores)
    y = labels.astype(np.float64)
    slope = max(float(x @ (y - y.mean()) / max(float(x @ x), _LEAST)), _LEAST_SLOPE)
    return Line(slope / spread, float(y.mean() - slope * middle / spread), is_chance=False)


def _standard(scores: FloatArray) -> tuple[Doubles, float, float]:
    values = _logit(scores)
    middle, spread = float(values.mean()), float(values.std()) or 1.0
    return (values - middle) / spread, middle, spread


def _logit(scores: FloatArray) -> Doubles:
    bounded = np.clip(scores.astype(np.float64), _LEAST, 1 - _LEAST)
    logits: Doubles = np.log(bounded) - np.log1p(-bounded)
    return logits
