"""From a matrix of scores to candidates."""

from __future__ import annotations

import numpy as np

from zhiyin.domain import PAD, Candidates, FloatArray, IndexArray


def scores_at(scores: FloatArray, item_index: IndexArray) -> FloatArray:
    """Pick scores of given items.

    Args:
        scores: (B, I) float32.
        item_index: (B, N) int32; -1 and indices at or beyond I give NaN.

    Returns:
        (B, N) float32.
    """
    known = (item_index != PAD) & (item_index < scores.shape[1])
    picked = np.take_along_axis(scores, np.where(known, item_index, 0).astype(np.int64), axis=1)
    return np.where(known, picked, np.float32(np.nan))


def best_of(scores: FloatArray, n: int, *, column: str) -> Candidates:
    """Return the ``n`` best items of each row of (B, I) float32 scores; NaN is never proposed.

    Equal scores come in the order of the item index, so that the same input gives the same answer.
    """
    n_queries, n_items = scores.shape
    every_item = np.broadcast_to(np.arange(n_items, dtype=np.int32), (n_queries, n_items))
    return Candidates(every_item, {column: scores}).top(n, by=column)
