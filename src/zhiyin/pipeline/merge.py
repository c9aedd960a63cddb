"""One score from the opinions of several sources."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from zhiyin.contracts import SCORE, ComponentState
from zhiyin.domain import Candidates, FloatArray
from zhiyin.pipeline.features import FEATURES, comparable, features_of, standing_of
from zhiyin.pipeline.fitting import LEAST_WEIGHT, MergeProblem, climb, fit_likelihood

TREND = "trend"
"""What the demand for an item is called among the parts of a score."""
TREND_PART = f"{TREND}:part"


class Merge:
    """A weighted sum of what the sources say, each made comparable first, and of the demand for an item.

    ``score = Σ_source Σ_feature weight[source, feature] × feature + Σ_horizon trend[horizon] × demand``. The
    weights are fitted on validation examples whose target was proposed; see `zhiyin.pipeline.fitting`.
    Demand on several horizons (`zhiyin.pipeline.trends`) says how old an item is at the moment of the request
    and whether it rises or fades; its weights may be below zero.

    Args:
        sources: Names of the sources, in the order of the weights.
        fallback: Those of them that keep the least weight: they order what all others are silent on.
        n_horizons: Of the demand; 0 where there is none.
    """

    def __init__(
        self, sources: Sequence[str], *, fallback: Collection[str] = (), n_horizons: int = 0
    ) -> None:
        self.sources = tuple(sources)
        self._is_learned = np.array([source not in fallback for source in self.sources])
        self.weights: FloatArray = np.ones((len(self.sources), len(FEATURES)), dtype=np.float32)
        # How a fallback stands orders what all others are silent on; more of it would cost time for nothing.
        self.weights[~self._is_learned] = [LEAST_WEIGHT, 0.0, 0.0]
        self.trend_weights: FloatArray = np.zeros(n_horizons, dtype=np.float32)

    @property
    def learns(self) -> bool:
        """Whether there is anything to weigh: two sources that are not fallbacks, or one and the demand."""
        n_learned = int(self._is_learned.sum())
        return n_learned >= 2 or (n_learned == 1 and len(self.trend_weights) > 0)

    def fit(
        self,
        candidates: Candidates,
        targets: npt.NDArray[np.int32],
        *,
        penalty: float,
        demand: FloatArray | None = None,
    ) -> int:
        """Fit the weights.

        Args:
            candidates: (B, N) with one column a source.
            targets: (B,) int32, the item that came next.
            penalty: Weight of half the squared length of the weights, per example.
            demand: (B, N, H) float32, where there are horizons.

        Returns:
            The number of examples learned from: those whose target is among the candidates.
        """
        found = candidates.item_index == targets[:, None]
        usable = np.flatnonzero(found.any(axis=1))
        if not len(usable) or not self.learns:
            return 0
        learned = [s for s, is_learned in zip(self.sources, self._is_learned, strict=True) if is_learned]
        parts = [comparable(candidates.column(source)[usable]) for source in learned]
        n_horizons = 0 if demand is None else len(self.trend_weights)
        if demand is not None:
            parts.append(demand[usable])
        features = np.concatenate(parts, axis=-1)
        del parts  # as large again
        is_padding, target = ~candidates.is_item[usable], found[usable].argmax(axis=1)
        problem = MergeProblem(features, is_padding, target, n_signed=n_horizons)
        likeliest = fit_likelihood(problem, penalty=penalty)
        alone = np.kron(np.eye(len(learned)), np.ones(len(FEATURES))) + LEAST_WEIGHT
        alone = np.hstack([alone, np.zeros((len(learned), n_horizons))])
        best = climb(problem, [likeliest, *alone]).astype(np.float32)
        n_of_sources = alone.shape[1] - n_horizons
        self.weights[self._is_learned] = best[:n_of_sources].reshape(len(learned), len(FEATURES))
        self.trend_weights = best[n_of_sources:] if demand is not None else self.trend_weights
        return len(usable)

    def apply(self, candidates: Candidates, demand: FloatArray | None = None) -> Candidates:
        """Return the candidates with ``score`` and, for each source, ``<source>:part``, what it added.

        Args:
            candidates: (B, N) with one column a source.
            demand: (B, N, H) float32; what it added stands under ``trend:part``.
        """
        item_index, columns = candidates.item_index, dict(candidates.columns)
        scores = np.stack([candidates.column(source) for source in self.sources])
        parts = np.empty_like(scores)
        reads_all = self.weights[:, 1:].any(axis=1)
        parts[~reads_all] = self.weights[~reads_all, :1, None] * standing_of(scores[~reads_all])
        parts[reads_all] = sum(
            weights[:, None, None] * feature
            for weights, feature in zip(
                self.weights[reads_all].T, features_of(scores[reads_all]), strict=True
            )
        )
        columns |= {f"{source}:part": part for source, part in zip(self.sources, parts, strict=True)}
        total = parts.sum(axis=0)
        if demand is not None and len(self.trend_weights):
            columns[TREND_PART] = demand @ self.trend_weights
            total += columns[TREND_PART]
        columns[SCORE] = np.where(candidates.is_item, total, np.float32(np.nan))
        return Candidates(item_index, columns)

    def state(self) -> ComponentState:
        """Return the weights."""
        arrays = {"weights": self.weights, "trend_weights": self.trend_weights}
        return ComponentState(arrays, {"sources": list(self.sources)})

    def restore(self, state: ComponentState) -> None:
        """Take over saved weights."""
        self.sources = tuple(state.facts["sources"])
        self.weights = np.asarray(state.arrays["weights"], dtype=np.float32)
        self.trend_weights = np.asarray(state.arrays["trend_weights"], dtype=np.float32)
