"""One score from the opinions of several sources."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from zhiyin.contracts import SCORE, ComponentState
from zhiyin.domain import Candidates, FloatArray
from zhiyin.pipeline.features import FEATURES, comparable, features_of
from zhiyin.pipeline.fitting import LEAST_WEIGHT, MergeProblem, climb, fit_likelihood


class Merge:
    """A weighted sum of what the sources say, each made comparable first.

    ``score = Σ_source Σ_feature weight[source, feature] × feature``. The weights are fitted on validation
    examples whose target was proposed; see `zhiyin.pipeline.fitting`.

    Args:
        sources: Names of the sources, in the order of the weights.
        fallback: Those of them that keep the least weight: they order what all others are silent on.
    """

    def __init__(self, sources: Sequence[str], *, fallback: Collection[str] = ()) -> None:
        self.sources = tuple(sources)
        self._is_learned = np.array([source not in fallback for source in self.sources])
        self.weights: FloatArray = (
            np.where(self._is_learned, 1.0, LEAST_WEIGHT)[:, None]
            .repeat(len(FEATURES), axis=1)
            .astype(np.float32)
        )

    @property
    def learns(self) -> bool:
        """Whether there is anything to weigh: at least two sources that are not fallbacks."""
        return int(self._is_learned.sum()) >= 2

    def fit(self, candidates: Candidates, targets: npt.NDArray[np.int32], *, penalty: float) -> int:
        """Fit the weights.

        Args:
            candidates: (B, N) with one column a source.
            targets: (B,) int32, the item that came next.
            penalty: Weight of half the squared length of the weights, per example.

        Returns:
            The number of examples learned from: those whose target is among the candidates.
        """
        found = candidates.item_index == targets[:, None]
        usable = np.flatnonzero(found.any(axis=1))
        if not len(usable) or not self.learns:
            return 0
        learned = [s for s, is_learned in zip(self.sources, self._is_learned, strict=True) if is_learned]
        features = np.concatenate([comparable(candidates.column(s)[usable]) for s in learned], axis=-1)
        problem = MergeProblem(features, ~candidates.is_item[usable], found[usable].argmax(axis=1))
        likeliest = fit_likelihood(problem, penalty=penalty)
        alone = np.kron(np.eye(len(learned)), np.ones(len(FEATURES))) + LEAST_WEIGHT
        best = climb(problem, [likeliest, *alone])
        self.weights[self._is_learned] = best.astype(np.float32).reshape(len(learned), len(FEATURES))
        return len(usable)

    def apply(self, candidates: Candidates) -> Candidates:
        """Return the candidates with ``score`` and, for each source, ``<source>:part``, what it added."""
        item_index, columns = candidates.item_index, dict(candidates.columns)
        scores = np.stack([candidates.column(source) for source in self.sources])
        parts = np.zeros_like(scores)
        for weights, feature in zip(self.weights.T, features_of(scores), strict=True):
            parts += weights[:, None, None] * feature
        columns |= {f"{source}:part": part for source, part in zip(self.sources, parts, strict=True)}
        columns[SCORE] = np.where(candidates.is_item, parts.sum(axis=0), np.float32(np.nan))
        return Candidates(item_index, columns)

    def state(self) -> ComponentState:
        """Return the weights."""
        return ComponentState({"weights": self.weights}, {"sources": list(self.sources)})

    def restore(self, state: ComponentState) -> None:
        """Take over saved weights."""
        self.sources = tuple(state.facts["sources"])
        self.weights = np.asarray(state.arrays["weights"], dtype=np.float32)
