"""Slates whose items differ from each other."""

from __future__ import annotations

import numpy as np

from zhiyin.contracts import SCORE
from zhiyin.domain import Candidates, FloatArray


def diversified(candidates: Candidates, similarity: FloatArray, n: int, *, diversity: float) -> Candidates:
    """Choose ``n`` candidates one after the other, by score and by difference from those chosen.

    Maximal marginal relevance (Carbonell and Goldstein, 1998): the next item maximises
    ``(1 - diversity) × score' - diversity × max similarity to the chosen``, where score' is the score
    scaled to 0…1 within the query.

    Args:
        candidates: Best first by ``score``.
        similarity: (B, N, N) float32 between the candidates of a query, at most 1.
        n: Places of the slate.
        diversity: 0 keeps the order of the scores, 1 looks at difference only.

    Returns:
        (B, n) candidates in the order they were chosen; their ``score`` is what it was.
    """
    relevance = _scaled_to_one(candidates)
    n = min(n, candidates.n_per_query)
    n_queries = len(candidates)
    every_query = np.arange(n_queries)
    nearest = np.zeros_like(relevance)
    chosen = np.empty((n_queries, n), dtype=np.int32)
    free = np.ones_like(relevance, dtype=np.bool_)
    for place in range(n):
        gain = (1.0 - diversity) * relevance - diversity * nearest
        # Padding stays behind every item, whatever the diversity.
        gain = np.where(candidates.is_item, gain, np.float32(-1e6))
        best = np.argmax(np.where(free, gain, -np.inf), axis=1)
        chosen[:, place] = best
        free[every_query, best] = False
        nearest = np.maximum(nearest, similarity[every_query, best])
    return candidates.at(chosen)


def _scaled_to_one(candidates: Candidates) -> FloatArray:
    scores, is_item = candidates.column(SCORE), candidates.is_item
    low = np.where(is_item, scores, np.inf).min(axis=1, keepdims=True, initial=np.inf)
    high = np.where(is_item, scores, -np.inf).max(axis=1, keepdims=True, initial=-np.inf)
    spread = np.where(high > low, high - low, 1.0)
    return np.where(is_item, (scores - np.where(is_item, low, 0.0)) / spread, 0.0).astype(np.float32)
