"""Fitting the weights of the merge: first likely, then good at the top of the slate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from zhiyin.domain import BoolArray, FloatArray, LongArray

Weights = npt.NDArray[np.float64]

LEAST_WEIGHT = 1e-3
"""No weight falls below it, so that every source decides where all others are silent."""

_CUT = 10
_FACTORS = (0.0, 0.5, 0.8, 1.25, 2.0)
_ADDED = (0.1, 0.3, 1.0)
_ROUNDS = 4
_SIGNED_PENALTY = 10.0
"""Weight of half the squared length of weights that may be below zero, for all examples together."""
_WORTHWHILE = 0.02
"""A step must bring more than this, divided by the root of the number of examples: less is chance."""


@dataclass(frozen=True, eq=False)
class MergeProblem:
    """Candidates with a known answer.

    Attributes:
        features: (B, N, F) float32.
        is_padding: (B, N) bool.
        target: (B,) int64, place of the item that came next.
        n_signed: So many features, the last ones, may have weights below zero.
    """

    features: FloatArray
    is_padding: BoolArray
    target: LongArray
    n_signed: int = 0

    @property
    def least(self) -> Weights:
        """(F,) lower bounds of the weights."""
        least = np.full(self.features.shape[-1], LEAST_WEIGHT)
        least[len(least) - self.n_signed :] = -np.inf
        return least

    def scores(self, weights: Weights) -> FloatArray:
        """(B, N) float32, minus infinity for padding."""
        return np.where(self.is_padding, -np.inf, self.features @ weights.astype(np.float32))

    def ndcg(self, scores: FloatArray) -> float:
        """Mean NDCG@10 of the targets; ties share their average rank."""
        of_target = scores[np.arange(len(scores)), self.target][:, None]
        rank = (scores > of_target).sum(axis=1) + ((scores == of_target).sum(axis=1) + 1.0) / 2.0
        return float(np.where(rank <= _CUT, 1.0 / np.log2(rank + 1.0), 0.0).mean())


def fit_likelihood(problem: MergeProblem, *, penalty: float) -> Weights:
    """Fit a conditional logit: the softmax of the scores is the chance of each candidate to come next.

    McFadden, "Conditional logit analysis of qualitative choice behavior" (1974), with a quadratic penalty. It
    grows where examples are few for weights that may be below zero: nothing else keeps them from chance.
    """
    is_bounded = np.isfinite(problem.least)
    penalties = np.where(is_bounded, penalty, max(penalty, _SIGNED_PENALTY / max(len(problem.target), 1)))
    best = minimize(
        _negative_log_likelihood,
        np.where(is_bounded, 0.3, 0.0),
        args=(problem, penalties),
        jac=True,
        method="L-BFGS-B",
        bounds=[(least, None) for least in problem.least],
        options={"maxiter": 60},
    )
    fitted: Weights = best.x
    return fitted


def climb(problem: MergeProblem, starts: Sequence[Weights]) -> Weights:
    """Improve NDCG@10 from the best of several starts, one weight at a time.

    Likelihood cares for every place of a slate, a user for the first ten: on long-tailed catalogues the two
    disagree. Each weight tries a few factors and additions; what helps stays; until a round brings nothing.
    """
    qualities = [problem.ndcg(problem.scores(start)) for start in starts]
    best = int(np.argmax(qualities))
    weights, quality = np.array(starts[best], dtype=np.float64), qualities[best]
    scores = problem.scores(weights)
    worthwhile = _WORTHWHILE / np.sqrt(len(problem.target))
    least = problem.least
    for _ in range(_ROUNDS):
        before = quality
        for place in range(len(weights)):
            column = problem.features[..., place]
            tried = [weights[place] * factor for factor in _FACTORS]
            tried += [weights[place] + added for added in _ADDED]
            if np.isneginf(least[place]):
                tried += [weights[place] - added for added in _ADDED]
            for value in {max(value, least[place]) for value in tried}:
                moved = scores + column * np.float32(value - weights[place])
                moved_quality = problem.ndcg(moved)
                if moved_quality > quality + worthwhile:
                    weights[place], scores, quality = value, moved, moved_quality
        if quality == before:
            break
    return weights


def _negative_log_likelihood(
    weights: Weights, problem: MergeProblem, penalties: Weights
) -> tuple[float, Weights]:
    """Mean loss and its gradient, for weights (F,)."""
    logits = problem.scores(weights)
    logits -= logits.max(axis=1, keepdims=True)
    chances = np.exp(logits)
    chances /= chances.sum(axis=1, keepdims=True)
    rows = np.arange(len(problem.target))
    loss = -float(np.log(chances[rows, problem.target] + 1e-12).mean())
    expected = np.einsum("bn,bnf->bf", chances, problem.features)
    gradient = (expected - problem.features[rows, problem.target]).mean(axis=0)
    return loss + 0.5 * float(penalties @ weights**2), gradient + penalties * weights
