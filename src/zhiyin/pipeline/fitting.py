"""Fitting the weights of the merge, by likelihood."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from zhiyin.domain import BoolArray, FloatArray, LongArray
from zhiyin.pipeline.circumstances import CORNERS, Circumstances

Weights = npt.NDArray[np.float64]

LEAST_WEIGHT = 1e-3
"""No weight of an opinion falls below it, so that every source decides where all others are silent."""

_DEMAND_PENALTY = 10.0
"""Weight of half the squared length of the weights of demand, which may be below zero and have nothing else
to keep them from chance; for all examples together."""
_TIE = 30.0
"""Weight of half the squared distance of the corners' weights from their mean; for all examples together."""
_FIRST_WEIGHT = 0.3
_EXAMPLES_AT_ONCE = 128
_PRECISION = 1e-7
"""Of the loss, relative, at which a step ends the search: sums of float32 tell no more."""


@dataclass(frozen=True, eq=False)
class MergeProblem:
    """Candidates with a known answer.

    Attributes:
        features: (B, N, F) float32, what the sources say.
        circumstances: Of the same candidates.
        is_padding: (B, N) bool.
        target: (B,) int64, place of the item that came next.
    """

    features: FloatArray
    circumstances: Circumstances
    is_padding: BoolArray
    target: LongArray

    @property
    def n_horizons(self) -> int:
        """H."""
        demand = self.circumstances.demand
        return 0 if demand is None else demand.shape[-1]

    @property
    def flat_features(self) -> FloatArray:
        """(B · N, F) float32."""
        return self.features.reshape(-1, self.features.shape[-1])

    def scores(self, of_corners: Weights, of_demand: Weights, corners: FloatArray) -> FloatArray:
        """(B, N) float32, minus infinity for padding, by weights (C, F) and (H,) and (B · N, C) corners."""
        by_corner = self.flat_features @ of_corners.T.astype(np.float32)
        scores: FloatArray = np.vecdot(by_corner, corners).reshape(self.is_padding.shape)
        if self.circumstances.demand is not None:
            scores += self.circumstances.demand @ of_demand.astype(np.float32)
        scores[self.is_padding] = -np.inf
        return scores

    def of_queries(self, rows: slice) -> MergeProblem:
        """Return some of the examples."""
        return MergeProblem(
            self.features[rows],
            self.circumstances.of_queries(rows),
            self.is_padding[rows],
            self.target[rows],
        )

    def parts(self, numbers: Weights) -> tuple[Weights, Weights]:
        """Split what is minimised into weights (C, F) of the corners and (H,) of the demand."""
        n_of_corners = CORNERS * self.features.shape[-1]
        return numbers[:n_of_corners].reshape(CORNERS, -1), numbers[n_of_corners:]


def fit_likelihood(problem: MergeProblem, *, penalty: float) -> tuple[Weights, Weights]:
    """Fit a conditional logit: the softmax of the scores is the chance of each candidate to come next.

    McFadden, "Conditional logit analysis of qualitative choice behavior" (1974), with quadratic penalties.

    Args:
        problem: B examples.
        penalty: Weight of half the squared length of the corners' weights, per example.

    Returns:
        (C, F) weights of what sources say in each corner, and (H,) of the demand.
    """
    n_of_corners = CORNERS * problem.features.shape[-1]
    first = np.append(np.full(n_of_corners, _FIRST_WEIGHT), np.zeros(problem.n_horizons))
    bounds = [(LEAST_WEIGHT, None)] * n_of_corners + [(None, None)] * problem.n_horizons
    best = minimize(
        _loss,
        first,
        args=(problem, penalty),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": 100, "ftol": _PRECISION},
    )
    return problem.parts(best.x)


def _loss(numbers: Weights, problem: MergeProblem, penalty: float) -> tuple[float, Weights]:
    """Mean negative log-likelihood and penalties, with their gradient."""
    of_corners, of_demand = problem.parts(numbers)
    loss, by_corners, by_demand = _negative_log_likelihood(of_corners, of_demand, problem)
    n_examples = len(problem.target)
    away, tie = of_corners - of_corners.mean(axis=0), _TIE / n_examples
    loss += 0.5 * float(penalty * (of_corners**2).sum() + tie * (away**2).sum())
    by_corners += penalty * of_corners + tie * away
    held = max(penalty, _DEMAND_PENALTY / n_examples)
    loss += 0.5 * held * float((of_demand**2).sum())
    by_demand += held * of_demand
    return loss, np.append(by_corners.ravel(), by_demand)


def _negative_log_likelihood(
    of_corners: Weights, of_demand: Weights, problem: MergeProblem
) -> tuple[float, Weights, Weights]:
    """Mean loss, and its gradients (C, F) and (H,); some examples at a time, so that little is in hand."""
    loss, by_corners, by_demand = 0.0, np.zeros_like(of_corners), np.zeros_like(of_demand)
    n_examples = len(problem.target)
    for start in range(0, n_examples, _EXAMPLES_AT_ONCE):
        part = problem.of_queries(slice(start, start + _EXAMPLES_AT_ONCE))
        corners = part.circumstances.corners().reshape(-1, CORNERS)
        scores = part.scores(of_corners, of_demand, corners)
        of_part, too_often = _told(scores, part.target)
        loss += of_part
        by_corners += (too_often[:, None] * corners).T @ part.flat_features
        if part.circumstances.demand is not None:
            by_demand += too_often @ part.circumstances.demand.reshape(-1, part.n_horizons)
    return loss / n_examples, by_corners / n_examples, by_demand / n_examples


def _told(scores: FloatArray, target: LongArray) -> tuple[float, FloatArray]:
    """Sum of the losses of (b, N) scores, and (b · N,) by how much each candidate is expected too often."""
    odds = scores - scores.max(axis=1, keepdims=True)
    np.exp(odds, out=odds)
    odds /= odds.sum(axis=1, keepdims=True)
    rows = np.arange(len(odds))
    loss = -float(np.log(odds[rows, target] + 1e-12).sum())
    odds[rows, target] -= 1
    return loss, odds.ravel()
