"""Items that were not taken, to be told apart from those that were."""

from __future__ import annotations

import numpy as np

from zhiyin.domain import FloatArray, IndexArray, LongArray

_POOL = 32
"""Items of which the nearest in text are taken as hard ones: a search of the whole catalogue, drawn."""
_FLATTENED = 0.75
"""Exponent of popularity in draws, as in word2vec (Mikolov et al., 2013)."""

Random = np.random.Generator


class Drawer:
    """Draws items for the task ``next``: half of them popular, half near in text to the item that came.

    Args:
        counts: (I,) int64, how often each item was met; those never met are not drawn.
        vectors: (I, D) float32, rows of length 1, whose products say how near two items are.
    """

    def __init__(self, counts: LongArray, vectors: FloatArray) -> None:
        chances = counts.astype(np.float64) ** _FLATTENED
        ends = np.cumsum(chances)
        self._ends = ends / ends[-1]
        self._met = np.flatnonzero(counts)
        self._vectors = vectors

    def training(self, targets: IndexArray, n: int, random: Random) -> IndexArray:
        """Return (B, n) items to hold against targets (B,); a target may be among them by chance."""
        n_near = n // 2
        popular = self._popular((len(targets), n - n_near), random)
        if not n_near:
            return popular
        pool = self._popular((len(targets), max(_POOL, n_near)), random)
        nearness = np.einsum("bnd,bd->bn", self._vectors[pool], self._vectors[targets])
        nearness[pool == targets[:, None]] = -np.inf
        nearest = np.argpartition(-nearness, n_near - 1, axis=1)[:, :n_near]
        return np.concatenate([popular, np.take_along_axis(pool, nearest, axis=1)], axis=1)

    def judging(self, n_rows: int, n: int, random: Random) -> IndexArray:
        """Return (B, n) items, each met item as likely as any other."""
        drawn = random.integers(len(self._met), size=(n_rows, n))
        return self._met[drawn].astype(np.int32)

    def _popular(self, shape: tuple[int, int], random: Random) -> IndexArray:
        # The last end is exactly 1, and what is drawn is below.
        return np.searchsorted(self._ends, random.random(shape), side="right").astype(np.int32)
