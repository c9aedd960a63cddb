"""Vectors of training in a store that all processes ask, and those that came since in this process."""

from __future__ import annotations

import queue
import threading
import time
import weakref
from functools import partial
from typing import TypeAlias

import numpy as np

from zhiyin.domain.arrays import FloatArray, IndexArray
from zhiyin.domain.errors import StoreError
from zhiyin.stores.vectors.exact import ExactIndex
from zhiyin.stores.vectors.index import (
    VectorIndex,
    checked_entries,
    checked_keys,
    checked_queries,
    no_neighbours,
)

_REST_SECONDS = 5.0
"""How long a store that did not answer is left alone; who asks meanwhile is told at once."""
_SEARCH_SECONDS = 2.0
"""How long an answer is waited for: a server that hangs may keep a connection open for ever."""
_PORTIONS = 4
"""Connections that a batch is spread over: a server answers each in a process of its own."""
_FEWEST_IN_A_PORTION = 8
_MOST_FOUND = 16_384
"""What Milvus finds at once; nobody is shown as many."""
_MOST_HANGING = 8
Found: TypeAlias = tuple[IndexArray, FloatArray]


class SharedIndex:
    """Keys of training are looked up in a store, later ones here, where they are compared one and all.

    So the store is filled once and read by all, and no process depends on the order in which another one met
    a new item. The connections are closed when nobody holds the index any more.

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
        self._n_hanging = 0
        self._counting = threading.Lock()
        self.close = weakref.finalize(self, stored.close)
        """Close the connections; the vectors of training stay in the store."""

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
        """Find the k largest inner products; see `VectorIndex.search`. In the store at most 16,384 are found.

        Raises:
            StoreError: when the store is away or too slow; also at once, in the seconds after it was.
        """
        queries = checked_queries(queries, k, self.dimension)
        found = self._searched(queries, min(k, _MOST_FOUND))
        if not len(self._here) and k <= _MOST_FOUND:
            return found
        here = self._here.search(queries, k)
        keys, products = (np.hstack(both) for both in zip(found, here, strict=True))
        order = np.argsort(-products, axis=1, kind="stable")[:, :k]  # NaN, which is nothing found, comes last
        return np.take_along_axis(keys, order, axis=1), np.take_along_axis(products, order, axis=1)

    def _searched(self, queries: FloatArray, k: int) -> Found:
        """Search the store, a large batch in portions at the same time."""
        if not len(queries):
            return no_neighbours(0, k)
        if time.monotonic() < self._asked_again_at:
            raise StoreError(self._refusal)
        n_portions = max(1, min(_PORTIONS, len(queries) // _FEWEST_IN_A_PORTION))
        try:
            asked = [self._asking(part, k) for part in np.array_split(queries, n_portions)]
            until = time.monotonic() + _SEARCH_SECONDS
            found = [_waited_for(answer, until) for answer in asked]
        except StoreError as error:
            self._refusal, self._asked_again_at = error.problem, time.monotonic() + _REST_SECONDS
            raise
        return np.vstack([keys for keys, _ in found]), np.vstack([products for _, products in found])

    def _asking(self, queries: FloatArray, k: int) -> queue.SimpleQueue[Found | Exception]:
        """Ask in a thread that nobody has to wait for."""
        with self._counting:
            if self._n_hanging >= _MOST_HANGING * _PORTIONS:
                raise StoreError("The store of vectors does not answer: searches given up still hang.")
            self._n_hanging += 1
        answer: queue.SimpleQueue[Found | Exception] = queue.SimpleQueue()
        work = partial(self._ask, queries, k, answer)
        threading.Thread(target=work, name="zhiyin-vectors", daemon=True).start()
        return answer

    def _ask(self, queries: FloatArray, k: int, answer: queue.SimpleQueue[Found | Exception]) -> None:
        try:
            answer.put(self._stored.search(queries, k))
        except Exception as error:
            answer.put(error)
        finally:
            with self._counting:
                self._n_hanging -= 1

    def _refuse_stored(self, keys: IndexArray) -> None:
        if len(keys) and keys.min() < self._n_stored:
            raise StoreError(f"Key {keys.min()} is one of the {self._n_stored} that are shared and stay.")


def _waited_for(answer: queue.SimpleQueue[Found | Exception], until: float) -> Found:
    try:
        found = answer.get(timeout=max(0.0, until - time.monotonic()))
    except queue.Empty:
        raise StoreError(f"The store of vectors did not answer within {_SEARCH_SECONDS:.0f} s.") from None
    if isinstance(found, Exception):
        raise found
    return found
