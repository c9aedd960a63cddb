"""From the scores of a source, which no two sources give on one scale, to comparable features."""

from __future__ import annotations

import numpy as np

from zhiyin.domain import FloatArray

FEATURES = ("standing", "place", "share")
"""Names of the features `comparable` makes of each source's scores, in their order."""

_STANDING_LIMIT = 8.0
_SHARE_FLOOR = 1e-4


def comparable(scores: FloatArray) -> FloatArray:
    """Turn scores of one source into features that mean the same for every source.

    * standing: ``(s - mean) / deviation`` over the candidates of the query, limited to ±8; a candidate
      without a score stands half a deviation below the lowest.
    * place: ``1 / log2(rank + 1)``, the discount of NDCG; 0 without a score.
    * share: ``log(p + 1e-4)`` with p the part of the query's total that this candidate's score, counted
      from the lowest, holds; so a clear favourite stays one.

    Args:
        scores: (B, N) float32, NaN where the source has no opinion.

    Returns:
        (B, N, 3) float32.
    """
    has_score = ~np.isnan(scores)
    n_scores = np.maximum(has_score.sum(axis=1, keepdims=True), 1)
    filled = np.where(has_score, scores, 0.0)
    mean = filled.sum(axis=1, keepdims=True) / n_scores
    centred = np.where(has_score, scores - mean, 0.0)
    deviation = np.sqrt((centred**2).sum(axis=1, keepdims=True) / n_scores)
    standing = centred / np.maximum(deviation, 1e-9)
    # Never above 0, because the mean is taken out; where nothing may be shown there is nothing to take it of.
    lowest = np.where(has_score, standing, 0.0).min(axis=1, keepdims=True, initial=0.0)
    standing = np.clip(np.where(has_score, standing, lowest - 0.5), -_STANDING_LIMIT, _STANDING_LIMIT)
    above = np.where(has_score, standing - lowest, 0.0)
    part = above / np.maximum(above.sum(axis=1, keepdims=True), 1e-9)
    share = np.log(part + _SHARE_FLOOR) - np.log(_SHARE_FLOOR)
    return np.stack([standing, _places(scores, has_score), share], axis=-1).astype(np.float32)


def _places(scores: FloatArray, has_score: np.ndarray) -> FloatArray:
    order = np.argsort(np.where(has_score, -scores, np.inf), axis=1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(1, scores.shape[1] + 1)[None, :], axis=1)
    return np.where(has_score, 1.0 / np.log2(rank + 1.0), 0.0).astype(np.float32)
