"""What every index of vectors promises, and the checks all of them share."""

from __future__ import annotations

import hashlib
import json
from typing import Protocol

import numpy as np

from zhiyin.domain.arrays import PAD, FloatArray, IndexArray
from zhiyin.domain.errors import ShapeMismatch, StoreError


class VectorIndex(Protocol):
    """Vectors under int32 keys, and for a query the keys with the largest inner products.

    Vectors need not have length 1. An approximate index may miss a neighbour; the inner products it returns
    are those of what it found, at the precision in which it stores vectors. Searching while another thread
    puts or removes is allowed.

    Attributes:
        dimension: D, numbers per vector.
    """

    dimension: int

    def __len__(self) -> int:
        """How many vectors there are."""
        ...

    def put(self, keys: IndexArray, vectors: FloatArray) -> None:
        """Add vectors; those of keys that are there already are replaced.

        Args:
            keys: (M,) int32, distinct, 0 or larger.
            vectors: (M, D) float32, finite.

        Raises:
            ShapeMismatch: when the two do not fit together, or not D.
            StoreError: when a key is negative or given twice, a vector is not finite, or the store is away.
        """
        ...

    def remove(self, keys: IndexArray) -> None:
        """Remove the vectors of (M,) int32 keys; unknown keys are ignored."""
        ...

    def search(self, queries: FloatArray, k: int) -> tuple[IndexArray, FloatArray]:
        """Find the keys with the largest inner products.

        Args:
            queries: (B, D) float32, finite.
            k: How many to find, at least 1.

        Returns:
            (B, k) int32 keys, best first, -1 where there are fewer than k, and (B, k) float32 inner products,
            NaN there.

        Raises:
            ShapeMismatch: when the queries do not have D numbers, or k is below 1.
            StoreError: when a query is not finite, or the store is away.
        """
        ...

    def close(self) -> None:
        """Write what is to be kept, and let go of files and connections. A second call does nothing."""
        ...


class StoredIndex(VectorIndex, Protocol):
    """An index outside this process, which other processes ask too."""

    def fill(self, vectors: FloatArray) -> bool:
        """Put (M, D) float32 vectors under the keys 0 to M - 1, unless at least M are there already.

        Returns:
            Whether they were put.

        Raises:
            ShapeMismatch: when the vectors do not have D numbers.
            StoreError: when one is not finite, or the store is away.
        """
        ...


def digest_of(tenant: str, name: str) -> str:
    """Return what stores call an index by: 32 hexadecimal digits, whatever signs tenant and name hold."""
    return hashlib.sha256(json.dumps([tenant, name]).encode("utf-8")).hexdigest()[:32]


def checked_keys(keys: IndexArray) -> IndexArray:
    """Return the keys as (M,) int32.

    Raises:
        ShapeMismatch: when they are not one row of whole numbers.
    """
    given = np.asarray(keys)
    is_whole = np.issubdtype(given.dtype, np.integer) or not given.size
    if given.ndim != 1 or not is_whole:
        raise ShapeMismatch(f"Keys must be (M,) int32; got {given.shape} {given.dtype}.")
    if given.size and (given.min() < np.iinfo(np.int32).min or given.max() > np.iinfo(np.int32).max):
        raise ShapeMismatch("Keys must be int32; one is too large for that.")
    return given.astype(np.int32)


def checked_entries(keys: IndexArray, vectors: FloatArray, dimension: int) -> tuple[IndexArray, FloatArray]:
    """Return keys as (M,) int32 and vectors as contiguous (M, D) float32.

    Raises:
        ShapeMismatch: when they do not fit together, or not D.
        StoreError: when a key is negative or given twice, or a vector is not finite.
    """
    keys = checked_keys(keys)
    vectors = _checked_vectors(vectors, dimension, "Vectors")
    if len(keys) != len(vectors):
        raise ShapeMismatch(f"{len(keys)} keys cannot name {len(vectors)} vectors.")
    if len(keys) and keys.min() < 0:
        raise StoreError(f"Key {keys.min()} is negative; -1 stands for no neighbour, so keys begin at 0.")
    if len(np.unique(keys)) < len(keys):
        raise StoreError("A key is given twice.", remedy="Give each key once, with its newest vector.")
    return keys, vectors


def checked_queries(queries: FloatArray, k: int, dimension: int) -> FloatArray:
    """Return the queries as contiguous (B, D) float32.

    Raises:
        ShapeMismatch: when they do not have D numbers, or k is below 1.
        StoreError: when one is not finite.
    """
    if k < 1:
        raise ShapeMismatch(f"k must be at least 1; got {k}.")
    return _checked_vectors(queries, dimension, "Queries")


def no_neighbours(n_queries: int, k: int) -> tuple[IndexArray, FloatArray]:
    """Return the answer that found nothing: (B, k) of -1, (B, k) of NaN."""
    return np.full((n_queries, k), PAD, np.int32), np.full((n_queries, k), np.nan, np.float32)


def _checked_vectors(vectors: FloatArray, dimension: int, name: str) -> FloatArray:
    given = np.asarray(vectors)
    if given.ndim != 2 or given.shape[1] != dimension:
        raise ShapeMismatch(f"{name} must be (any number, {dimension}); got {given.shape}.")
    contiguous = np.ascontiguousarray(given, dtype=np.float32)
    if not np.isfinite(contiguous).all():
        raise StoreError(f"{name} must be finite; a row holds NaN or infinity.")
    return contiguous
