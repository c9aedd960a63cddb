"""Fitting the weights of the merge, by likelihood."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

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

    @cached_property
    def corners(self) -> FloatArray:
        """(B, N, C) float32."""
        return self.circumstances.corners()

    def scores(self, of_corners: Weights, of_demand: Weights) -> FloatArray:
        """(B, N) float32 by weights (C, F) and (H,), minus infinity for padding."""
        by_corner = self.features @ of_corners.T.astype(np.float32)
        by_corner *= self.corners
        scores: FloatArray = by_corner.sum(axis=-1)
        if self.circumstances.demand is not None:
            scores += self.circumstances.demand @ of_demand.astype(np.float32)
        scores[self.is_padding] = -np.inf
        return scores

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
        options={"maxiter": 100},
    )
    return problem.parts(best.x)


def _loss(numbers: Weights, problem: MergeProblem, penalty: float) -> tuple[float, Weights]:
    """Mean negative log-likelihood and penalties, with their gradient."""
    of_corners, of_demand = problem.parts(numbers)
    loss, by_corners, by_demand = _negative_log_likelihood(of_corners, of_demand, problem)
    n_examples = max(len(problem.target), 1)
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
    """Mean loss, and its gradients (C, F) and (H,)."""
    odds = problem.scores(of_corners, of_demand)
    odds -= odds.max(axis=1, keepdims=True)
    np.exp(odds, out=odds)
    odds /= odds.sum(axis=1, keepdims=True)
    rows = np.arange(len(problem.target))
    loss = -float(np.log(odds[rows, problem.target] + 1e-12).mean())
    odds[rows, problem.target] -= 1  # from here on: by how much each candidate is expected too often
    odds /= len(rows)
    n_features = problem.features.shape[-1]
    by_corners = np.empty((CORNERS, n_features))
    for corner in range(CORNERS):
        too_often = odds * problem.corners[..., corner]
        by_corners[corner] = too_often.ravel() @ problem.features.reshape(-1, n_features)
    demand = problem.circumstances.demand
    by_demand = np.zeros(0) if demand is None else odds.ravel() @ demand.reshape(-1, problem.n_horizons)
    return loss, by_corners, by_demand.astype(np.float64)
