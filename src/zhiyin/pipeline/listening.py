"""How much a pipeline listens to a language model, by how much it knows of a user."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from zhiyin.domain import BoolArray, FloatArray, IndexArray, LongArray

_EDGES = (0, 3, 10)
_FEWEST = 20
"""Examples from which on a weight can be fitted."""
_FOLDS = 5
_SURE = 1.645
"""Standard errors by which a gain on unseen examples must exceed nothing: 95 %, one-sided."""
_LEAST_SLOPE = 1e-3
_LOUDEST = 5.0
"""No weight exceeds this many deviations of the merged scores of a query: beyond, the model alone decides."""


@dataclass(frozen=True, eq=False)
class Answers:
    """Items that were judged, one of which came next.

    Attributes:
        scores: (B, C) float32 of the merge, NaN for padding.
        judged: (B, C) float32, what the model says, NaN for padding.
        target: (B,) int64, place of the item that came next.
    """

    scores: FloatArray
    judged: FloatArray
    target: LongArray

    def take(self, rows: npt.NDArray[np.integer]) -> Answers:
        """Return the given examples."""
        return Answers(self.scores[rows], self.judged[rows], self.target[rows])

    def __len__(self) -> int:
        return len(self.target)


def bands(most_known: int) -> tuple[int, ...]:
    """Return the longest history of each band, the last one ``most_known``."""
    return (*(edge for edge in _EDGES if edge < most_known), most_known)


def band_of(lengths: LongArray, longest: tuple[int, ...]) -> IndexArray:
    """Return (B,) the band of each history length; the number of bands for one that is longer than all."""
    return np.searchsorted(np.asarray(longest), lengths, side="left").astype(np.int32)


def band_names(longest: tuple[int, ...]) -> tuple[str, ...]:
    """Say the history lengths of each band, such as ``4-10``."""
    first = (0, *(edge + 1 for edge in longest[:-1]))
    return tuple(
        f"{low}-{high}" if low < high else f"{high}" for low, high in zip(first, longest, strict=True)
    )


def standardised(judged: FloatArray) -> FloatArray:
    """Return (B, C) with mean 0 and deviation 1 over each row; 0 where all say the same, NaN stays."""
    known = ~np.isnan(judged)
    n = np.maximum(known.sum(axis=1, keepdims=True), 1)
    filled = np.where(known, judged, 0.0).astype(np.float64)
    away = np.where(known, filled - filled.sum(axis=1, keepdims=True) / n, 0.0)
    deviation = np.sqrt((away**2).sum(axis=1, keepdims=True) / n)
    # Of numbers that differ in their last digit only, nothing is left but the rounding.
    largest = np.abs(filled).max(axis=1, keepdims=True, initial=0.0)
    is_real = deviation > 1e-6 * np.maximum(largest, 1e-12)
    scaled = np.divide(away, deviation, out=np.zeros_like(away), where=is_real)
    return np.where(known, scaled, np.nan).astype(np.float32)


def fitted_weight(answers: Answers, *, seed: int) -> float:
    """Fit what one deviation of the model's opinion is worth, in merged scores; 0 where it does not help.

    The chance that an item comes next is ``softmax(a s + b z)`` over the judged items, with the merged score
    s and the standardised opinion z; the weight is ``b / a``. It counts only where it makes unseen examples
    likelier than ``softmax(a s)`` does, by more than chance would: each fifth is foretold by a and b of the
    others (conditional logit; McFadden, 1974).

    Args:
        answers: B examples.
        seed: Of the fifths.
    """
    if len(answers) < _FEWEST:
        return 0.0
    deviation = float(np.sqrt(np.nanvar(answers.scores, axis=1).mean())) or 1.0
    problem = _Logit.of(answers, deviation)
    fold = np.random.default_rng(seed).permutation(len(answers)) % _FOLDS
    gains = np.empty(len(answers))
    for held in range(_FOLDS):
        learned, unseen = problem.take(fold != held), problem.take(fold == held)
        with_model, without = learned.fitted(), learned.fitted(listens=False)
        gains[fold == held] = unseen.losses(without) - unseen.losses(with_model)
    if gains.mean() <= _SURE * gains.std(ddof=1) / np.sqrt(len(gains)):
        return 0.0
    slope, voice = problem.fitted()
    return deviation * float(min(voice / slope, _LOUDEST))


@dataclass(frozen=True, eq=False)
class _Logit:
    """A conditional logit with a slope for the score, at least a little, and one for the model, at least 0.

    Attributes:
        scores: (B, C) float64 in deviations, so that they are of the size of the other; 0 for padding.
        judged: (B, C) float64, standardised, 0 for padding.
        is_item: (B, C) bool.
        target: (B,) int64.
    """

    scores: npt.NDArray[np.float64]
    judged: npt.NDArray[np.float64]
    is_item: BoolArray
    target: LongArray

    @classmethod
    def of(cls, answers: Answers, deviation: float) -> _Logit:
        is_item = ~np.isnan(answers.scores)
        judged = np.nan_to_num(standardised(answers.judged).astype(np.float64))
        scores = np.nan_to_num(answers.scores.astype(np.float64)) / deviation
        return cls(scores, judged, is_item, answers.target)

    def take(self, kept: BoolArray) -> _Logit:
        return _Logit(self.scores[kept], self.judged[kept], self.is_item[kept], self.target[kept])

    def fitted(self, *, listens: bool = True) -> npt.NDArray[np.float64]:
        bounds = [(_LEAST_SLOPE, None), (0.0, None if listens else 0.0)]
        start = np.array([1.0, 0.0])
        best = minimize(self._loss, start, jac=True, method="L-BFGS-B", bounds=bounds)
        found: npt.NDArray[np.float64] = best.x
        return found

    def losses(self, slopes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """(B,) negative log-likelihood of each example."""
        chances = self._chances(slopes)
        lost: npt.NDArray[np.float64] = -np.log(chances[np.arange(len(chances)), self.target] + 1e-12)
        return lost

    def _chances(self, slopes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        logits = np.where(self.is_item, slopes[0] * self.scores + slopes[1] * self.judged, -np.inf)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        chances: npt.NDArray[np.float64] = odds / odds.sum(axis=1, keepdims=True)
        return chances

    def _loss(self, slopes: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        """Sum of the losses and half the squared slope of the model: to listen wants a reason."""
        chances, rows = self._chances(slopes), np.arange(len(self.target))
        loss = -float(np.log(chances[rows, self.target] + 1e-12).sum()) + 0.5 * float(slopes[1] ** 2)
        gradient = np.array(
            [(chances * part).sum() - part[rows, self.target].sum() for part in (self.scores, self.judged)]
        )
        return loss, gradient + np.array([0.0, slopes[1]])
