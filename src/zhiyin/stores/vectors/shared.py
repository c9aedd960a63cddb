"""Vectors of training in a store that all processes ask, and those that came since in this process."""

from __future__ import annotations

import time

import numpy as np

from zhiyin.domain.arrays import FloatArray, IndexArray
from zhiyin.domain.errors import StoreError
from zhiyin.stores.vectors.exact import ExactIndex
from zhiyin.stores.vectors.index import VectorIndex, checked_entries, checked_keys

_REST_SECONDS = 5.0
"""How long a store that did not answer is left alone; who asks meanwhile is told at once."""


class SharedIndex:
    """Keys of training are looked up in a store, later ones here, where they are compared one and all.

    So the store is filled once and read by all, and no process depends on the order in which another one met
    a new item.

    Args:
        stored: Filled.
        n_stored: Keys from this one on stay in this process.
    """

    def __init__(self, stored: VectorIndex, n_stored: int) -> None:
        self.dimension = stored.dimension
        self._stored = stored
        self._n_stored = n_stored
        self._here = ExactIndex(stored.dimension)
        self._refusal = ""
        self._asked_again_at = 0.0

    def __len__(self) -> int:
        return self._n_stored + len(self._here)

    def put(self, keys: IndexArray, vectors: FloatArray) -> None:
        """Add vectors of later keys, or replace them; see `VectorIndex.put`.

        Raises:
            StoreError: also when a key is one of training.
        """
        keys, vectors = checked_entries(keys, vectors, self.dimension)
        self._refuse_stored(keys)
        self._here.put(keys, vectors)

    def remove(self, keys: IndexArray) -> None:
        """Remove vectors of later keys; unknown ones are ignored.

        Raises:
            StoreError: when a key is one of training.
        """
        keys = checked_keys(keys)
        self._refuse_stored(keys[keys >= 0])
        self._here.remove(keys)

    def search(self, queries: FloatArray, k: int) -> tuple[IndexArray, FloatArray]:
        """Find the k largest inner products; see `VectorIndex.search`.

        Raises:
            StoreError: when the store is away; also at once, in the seconds after it was.
        """
        found = self._searched(queries, k)
        if not len(self._here):
            return found
        keys, products = (np.hstack(both) for both in zip(found, self._here.search(queries, k), strict=True))
        order = np.argsort(-products, axis=1, kind="stable")[:, :k]  # NaN, which is nothing found, comes last
        return np.take_along_axis(keys, order, axis=1), np.take_along_axis(products, order, axis=1)

    def close(self) -> None:
        """Close the connection; the vectors of training stay in the store."""
        self._stored.close()

    def _searched(self, queries: FloatArray, k: int) -> tuple[IndexArray, FloatArray]:
        if time.monotonic() < self._asked_again_at:
            raise StoreError(self._refusal)
        try:
            return self._stored.search(queries, k)
        except StoreError as error:
            self._refusal, self._asked_again_at = error.problem, time.monotonic() + _REST_SECONDS
            raise

    def _refuse_stored(self, keys: IndexArray) -> None:
        if len(keys) and keys.min() < self._n_stored:
            raise StoreError(
                f"Key {keys.min()} is one of the {self._n_stored} that are shared and stay as they are."
            )
