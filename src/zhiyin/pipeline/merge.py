"""One score from the opinions of several sources."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from zhiyin.contracts import SCORE, ComponentState
from zhiyin.domain import Candidates, FloatArray
from zhiyin.pipeline.circumstances import CORNERS, Circumstances
from zhiyin.pipeline.features import FEATURES, comparable, features_of, standing_of
from zhiyin.pipeline.fitting import LEAST_WEIGHT, MergeProblem, fit_likelihood

TREND = "trend"
"""What the demand for an item is called among the parts of a score."""
TREND_PART = f"{TREND}:part"


class Merge:
    """A weighted sum of what the sources say, each made comparable first, and of the demand for an item.

    ``score = Σ_corner near[corner] × Σ_source Σ_feature weight[corner, source, feature] × feature
    + Σ_horizon trend[horizon] × demand``. What a source is worth depends on how new the item is and on how
    short the history: weights are known at four corners, and mixed by how near a candidate is to each
    (`zhiyin.pipeline.circumstances`). They are fitted on validation examples whose target was proposed
    (`zhiyin.pipeline.fitting`). Demand on several horizons (`zhiyin.pipeline.trends`) says how old an item is
    at the moment of the request and whether it rises or fades; its weights may be below zero.

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
        self.weights: FloatArray = np.ones((CORNERS, len(self.sources), len(FEATURES)), dtype=np.float32)
        # How a fallback stands orders what all others are silent on; more of it would cost time for nothing.
        self.weights[:, ~self._is_learned] = [LEAST_WEIGHT, 0.0, 0.0]
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
        circumstances: Circumstances,
        *,
        penalty: float,
    ) -> int:
        """Fit the weights.

        Args:
            candidates: (B, N) with one column a source.
            targets: (B,) int32, the item that came next.
            circumstances: Of these candidates.
            penalty: Weight of half the squared length of the weights, per example.

        Returns:
            The number of examples learned from: those whose target is among the candidates.
        """
        found = candidates.item_index == targets[:, None]
        usable = found.any(axis=1)
        n_usable = int(usable.sum())
        if not n_usable or not self.learns:
            return 0
        learned = [s for s, is_learned in zip(self.sources, self._is_learned, strict=True) if is_learned]
        features = np.concatenate([comparable(candidates.column(s)[usable]) for s in learned], axis=-1)
        problem = MergeProblem(
            features,
            circumstances.of_queries(usable),
            is_padding=~candidates.is_item[usable],
            target=found[usable].argmax(axis=1),
        )
        of_corners, of_demand = fit_likelihood(problem, penalty=penalty)
        self.weights[:, self._is_learned] = of_corners.reshape(CORNERS, len(learned), len(FEATURES))
        if len(of_demand):
            self.trend_weights = of_demand.astype(np.float32)
        return n_usable

    def apply(self, candidates: Candidates, circumstances: Circumstances) -> Candidates:
        """Return the candidates with ``score`` and, for each source, ``<source>:part``, what it added.

        Args:
            candidates: (B, N) with one column a source.
            circumstances: Of these candidates; what demand added stands under ``trend:part``.
        """
        item_index, columns = candidates.item_index, dict(candidates.columns)
        scores = np.stack([candidates.column(source) for source in self.sources])
        parts = np.empty_like(scores)
        reads_all = self.weights[..., 1:].any(axis=(0, 2))
        parts[~reads_all] = self.weights[0, ~reads_all, :1, None] * standing_of(scores[~reads_all])
        parts[reads_all] = _weighted(
            features_of(scores[reads_all]), self.weights[:, reads_all], circumstances
        )
        columns |= {f"{source}:part": part for source, part in zip(self.sources, parts, strict=True)}
        total = parts.sum(axis=0)
        if circumstances.demand is not None and len(self.trend_weights):
            columns[TREND_PART] = circumstances.demand @ self.trend_weights
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
        weights = np.asarray(state.arrays["weights"], dtype=np.float32)
        # Bundles of format 1 know one weight for all circumstances.
        self.weights = weights if weights.ndim == 3 else np.tile(weights, (CORNERS, 1, 1))
        self.trend_weights = np.asarray(state.arrays["trend_weights"], dtype=np.float32)


def _weighted(
    features: Sequence[FloatArray], weights: FloatArray, circumstances: Circumstances
) -> FloatArray:
    """Return (S, B, N) float32: what S sources add by (C, S, F) weights, from F features (S, B, N)."""
    is_short = circumstances.shortness[:, None, None]
    # (B, S, F) where an item is known well, and what is added where it is new.
    known = (1 - is_short) * weights[0] + is_short * weights[1]
    added = (1 - is_short) * weights[2] + is_short * weights[3] - known
    parts = np.zeros_like(features[0])
    for of_known, of_new, feature in zip(known.T, added.T, features, strict=True):
        parts += (of_known[..., None] + of_new[..., None] * circumstances.newness) * feature
    return parts
