"""Every inner product computed: exact, and fast enough for catalogues of some ten thousand items."""

from __future__ import annotations

import threading
from typing import NamedTuple

import numpy as np

from zhiyin.domain.arrays import PAD, FloatArray, IndexArray
from zhiyin.stores.vectors.index import checked_entries, checked_keys, checked_queries, no_neighbours

_PRODUCTS_AT_ONCE = 1 << 22
"""Inner products held at a time: 16 MiB of float32."""
_FIRST_ROOM = 1024


class _Rows(NamedTuple):
    """What a search sees: rows are never written again, so a search needs no lock."""

    keys: IndexArray
    """(R,) int32, -1 where the row was replaced or removed."""
    vectors: FloatArray
    """(R, D) float32."""
    n_live: int


class ExactIndex:
    """Vectors in memory, compared one and all.

    A new vector goes to a new row and a replaced one leaves a dead row behind; a search that runs meanwhile
    sees the index as it was. Dead rows are dropped when they are half of all.
    """

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self._writing = threading.Lock()
        self._room = np.empty((_FIRST_ROOM, dimension), np.float32)
        self._rows = _Rows(np.empty(0, np.int32), self._room[:0], 0)

    def __len__(self) -> int:
        return self._rows.n_live

    def put(self, keys: IndexArray, vectors: FloatArray) -> None:
        """Add vectors, or replace those of known keys; see `VectorIndex.put`."""
        keys, vectors = checked_entries(keys, vectors, self.dimension)
        if not len(keys):
            return
        with self._writing:
            live = self._without(keys)
            end = len(live.keys) + len(keys)
            if end > len(self._room):
                grown = np.empty((max(end, 2 * len(self._room)), self.dimension), np.float32)
                grown[: len(live.keys)] = live.vectors
                self._room = grown
            self._room[len(live.keys) : end] = vectors
            all_keys = np.concatenate([live.keys, keys])
            self._rows = _Rows(all_keys, self._room[:end], live.n_live + len(keys))

    def remove(self, keys: IndexArray) -> None:
        """Remove vectors; unknown keys are ignored."""
        keys = checked_keys(keys)
        with self._writing:
            self._rows = self._without(keys[keys >= 0])

    def search(self, queries: FloatArray, k: int) -> tuple[IndexArray, FloatArray]:
        """Find the k largest inner products; see `VectorIndex.search`. Of equal ones the lower key is first.

        Args:
            queries: (B, D) float32.
            k: At least 1.
        """
        queries = checked_queries(queries, k, self.dimension)
        rows, n_queries = self._rows, len(queries)
        keys, products = no_neighbours(n_queries, k)
        if not rows.n_live or not n_queries:
            return keys, products
        n_found = min(k, rows.n_live)
        at_once = max(1, _PRODUCTS_AT_ONCE // min(len(rows.keys), _PRODUCTS_AT_ONCE))
        for start in range(0, n_queries, at_once):
            part = slice(start, start + at_once)
            keys[part, :n_found], products[part, :n_found] = _best(rows, queries[part], n_found)
        return keys, products

    def close(self) -> None:
        """Nothing is kept and nothing is open."""

    def _without(self, keys: IndexArray) -> _Rows:
        """Return the rows with those of the keys dead; dropped where half would be dead."""
        rows = self._rows
        is_gone = np.isin(rows.keys, keys)
        n_gone = int(is_gone.sum())
        if not n_gone:
            return rows
        left = np.where(is_gone, np.int32(PAD), rows.keys)
        n_live = rows.n_live - n_gone
        if 2 * n_live > len(left):
            return _Rows(left, rows.vectors, n_live)
        is_live = left != PAD
        self._room = np.empty((max(_FIRST_ROOM, 2 * n_live), self.dimension), np.float32)
        self._room[:n_live] = rows.vectors[is_live]
        return _Rows(left[is_live], self._room[:n_live], n_live)


def _best(rows: _Rows, queries: FloatArray, k: int) -> tuple[IndexArray, FloatArray]:
    """Return the k best live rows of a few queries: (B, k) keys and (B, k) products; k live rows exist."""
    n_queries, at_once = len(queries), max(1, _PRODUCTS_AT_ONCE // len(queries))
    keys, products = np.empty((n_queries, 0), np.int32), np.empty((n_queries, 0), np.float32)
    for start in range(0, len(rows.keys), at_once):
        row_keys = rows.keys[start : start + at_once]
        scores = queries @ rows.vectors[start : start + at_once].T
        scores[:, row_keys == PAD] = -np.inf
        if scores.shape[1] > k:
            chosen = np.argpartition(scores, -k, axis=1)[:, -k:]
            chosen_keys, scores = row_keys[chosen], np.take_along_axis(scores, chosen, axis=1)
        else:
            chosen_keys = np.broadcast_to(row_keys, scores.shape)
        keys, products = np.hstack([keys, chosen_keys]), np.hstack([products, scores])
    order = np.lexsort((keys, -products), axis=1)[:, :k]
    return np.take_along_axis(keys, order, axis=1), np.take_along_axis(products, order, axis=1)
