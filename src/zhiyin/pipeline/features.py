"""From the scores of a source, which no two sources give on one scale, to comparable features."""

from __future__ import annotations

import numpy as np

from zhiyin.contracts.scores import descending
from zhiyin.domain import FloatArray

FEATURES = ("standing", "place", "share")
"""Names of the features `comparable` makes of each source's scores, in their order."""

_STANDING_LIMIT = 8.0
_SHARE_FLOOR = np.float32(1e-4)


def comparable(scores: FloatArray) -> FloatArray:
    """Turn scores of one source into features that mean the same for every source.

    * standing: ``(s - mean) / deviation`` over the candidates of the query, limited to ±8; a candidate
      without a score stands half a deviation below the lowest.
    * place: ``1 / log2(rank + 1)``, the discount of NDCG; 0 without a score.
    * share: ``log(p + 1e-4)`` with p the part of the query's total that this candidate's score, counted
      from the lowest, holds; so a clear favourite stays one.

    Args:
        scores: (…, N) float32, NaN where the source has no opinion.

    Returns:
        (…, N, 3) float32.
    """
    return np.stack(features_of(scores), axis=-1)


def features_of(scores: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the features of `comparable` one by one, each (…, N) float32.

    What has no score is multiplied away: choosing by a mask takes ten times as long, because no processor
    foresees where the gaps are.
    """
    has_score, finite, standing, lowest = _standing(scores)
    above = (standing - lowest) * has_score
    above /= np.maximum(above.sum(axis=-1, keepdims=True), np.float32(1e-9))
    above += _SHARE_FLOOR
    share = np.log(above, out=above)
    share -= np.log(_SHARE_FLOOR)
    return _limited(standing, has_score, lowest), _places(finite) * has_score, share


def standing_of(scores: FloatArray) -> FloatArray:
    """Return the first feature of `comparable` alone, (…, N) float32."""
    has_score, _, standing, lowest = _standing(scores)
    return _limited(standing, has_score, lowest)


def _standing(scores: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return 1 where there is a score, the scores without gaps, how they stand, and the lowest."""
    has_score = (~np.isnan(scores)).astype(np.float32)
    n_scores = np.maximum(has_score.sum(axis=-1, keepdims=True), 1)
    finite = np.fmax(scores, _LOWEST)
    mean = (finite * has_score).sum(axis=-1, keepdims=True) / n_scores
    centred = (finite - mean) * has_score
    deviation = np.sqrt(np.vecdot(centred, centred)[..., None] / n_scores)
    standing = centred / np.maximum(deviation, np.float32(1e-9))
    # Never above 0, because the mean is taken out; where nothing may be shown there is nothing to take it of.
    return has_score, finite, standing, standing.min(axis=-1, keepdims=True, initial=0.0)


def _limited(standing: FloatArray, has_score: FloatArray, lowest: FloatArray) -> FloatArray:
    """Put what has no score half a deviation below the lowest, and limit all; in place."""
    standing += (1 - has_score) * (lowest - np.float32(0.5))
    return np.clip(standing, -_STANDING_LIMIT, _STANDING_LIMIT, out=standing)


def _places(scores: FloatArray) -> FloatArray:
    """Return the discount of each score's rank; of equal scores the earlier one comes first."""
    n = scores.shape[-1]
    if not n:
        return scores
    keys = descending(scores)
    keys <<= 32
    keys |= np.arange(n)
    keys.sort(axis=-1)
    position = (keys & 0xFFFFFFFF).reshape(-1, n) + np.arange(keys.size // max(n, 1))[:, None] * n
    places = np.empty(keys.size, dtype=np.float32)
    places[position] = 1.0 / np.log2(np.arange(2, n + 2, dtype=np.float64))
    return places.reshape(scores.shape)


_LOWEST = np.finfo(np.float32).min
