"""Weighted least squares for many rows at once, each row seeing a few vectors of one side closely."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from zhiyin.domain import BoolArray, FloatArray, IndexArray, LongArray
from zhiyin.domain.arrays import flat_positions

_NUMBERS_AT_ONCE = 1 << 22
"""Gathered numbers, and numbers of the matrices, that are in memory at once: 16 MB of each."""
_SHORT = 2
"""Rows with at most one item for so many factors are solved by matrices of their length."""


@dataclass(frozen=True, eq=False)
class Side:
    """The vectors that are held fixed.

    Attributes:
        vectors: (I, D) float32; zeros where nothing is known.
        products: (D, D) float32, ``Σ_i y_i y_iᵀ``.
        is_known: (I,) bool.
        rotated: (I, D) float32, the vectors in the basis of the eigenvectors of ``products``.
        axes: (D, D) float32, these eigenvectors as columns.
        powers: (D,) float32 ≥ 0, their eigenvalues.
    """

    vectors: FloatArray
    products: FloatArray
    is_known: BoolArray
    rotated: FloatArray
    axes: FloatArray
    powers: FloatArray

    @classmethod
    def of(cls, vectors: FloatArray) -> Side:
        """Take (I, D) float32 vectors."""
        products = vectors.T @ vectors
        powers, axes = np.linalg.eigh(products)
        is_known = np.asarray(vectors.any(axis=1))
        return cls(vectors, products, is_known, vectors @ axes, axes, np.maximum(powers, 0))

    @property
    def n_known(self) -> int:
        """Vectors that are not zero."""
        return int(self.is_known.sum())

    def matrix_of(self, items: IndexArray, weights: FloatArray, *, l2: float) -> FloatArray:
        """Return the (D, D) matrix of one row: ``Yᵀ C Y + λ``, with (T,) extra confidences on (T,) items."""
        seen = self.vectors[items]
        penalty = np.float32(l2) * (self.n_known + weights.sum())
        eye = np.eye(self.vectors.shape[1], dtype=np.float32)
        matrix: FloatArray = self.products + seen.T @ (seen * weights[:, None]) + penalty * eye
        return matrix


@dataclass(frozen=True, eq=False)
class Rows:
    """What each row has: row b is ``offsets[b]:offsets[b + 1]`` of the others.

    Attributes:
        offsets: (B + 1,) int64.
        items: (T,) int32.
        weights: (T,) float32 > 0, the confidence beyond 1.
    """

    offsets: LongArray
    items: IndexArray
    weights: FloatArray

    @property
    def lengths(self) -> LongArray:
        """(B,) int64."""
        return np.diff(self.offsets)

    @property
    def row_of_value(self) -> LongArray:
        """(T,) int64."""
        return np.repeat(np.arange(len(self.offsets) - 1, dtype=np.int64), self.lengths)


def rows_of(confidences: sp.csr_array) -> Rows:
    """Read the rows of a sparse (B, I) matrix."""
    return Rows(
        confidences.indptr.astype(np.int64),
        confidences.indices.astype(np.int32),
        confidences.data.astype(np.float32, copy=False),
    )


def solved(rows: Rows, side: Side, *, l2: float) -> FloatArray:
    """Solve for the vector of every row, exactly.

    ``(Yᵀ C Y + l2 Σ c) x = Yᵀ C p``, equation 4 of Hu, Koren and Volinsky (2008), with c = 1 + weight where
    the row has an item (and p = 1) and c = 1 elsewhere (and p = 0). Rows of like length are solved together
    as one stack of matrices, so that there is no loop over rows; short rows by matrices of their length.

    Args:
        rows: B rows.
        side: The vectors of the other side.
        l2: Penalty for each unit of confidence.

    Returns:
        (B, D) float32; zeros for rows without anything known.
    """
    n_rows, n_factors = len(rows.offsets) - 1, side.vectors.shape[1]
    solutions = np.zeros((n_rows, n_factors), dtype=np.float32)
    order = np.argsort(rows.lengths, kind="stable")
    order = order[np.searchsorted(rows.lengths[order], 1) :]
    for chunk in _chunks(rows.lengths[order], n_factors):
        some = order[chunk]
        solutions[some] = _solved_together(rows, some, side, l2)
    return solutions


def _solved_together(rows: Rows, some: LongArray, side: Side, l2: float) -> FloatArray:
    lengths = rows.lengths[some]
    longest = int(lengths[-1])
    place = np.repeat(np.arange(len(some)), lengths)
    column = flat_positions(np.zeros_like(lengths), lengths)
    at = flat_positions(rows.offsets[some], lengths)
    items = np.zeros((len(some), longest), dtype=np.int32)
    weights = np.zeros((len(some), longest), dtype=np.float32)
    has = np.zeros((len(some), longest), dtype=np.float32)
    items[place, column] = rows.items[at]
    weights[place, column] = rows.weights[at]
    has[place, column] = 1.0
    wanted = weights + has
    penalty = np.float32(l2) * (side.n_known + weights.sum(axis=1))
    if longest * _SHORT <= side.vectors.shape[1]:
        return (
            _solved_by_length(side.rotated[items], weights, wanted, side.powers + penalty[:, None])
            @ side.axes.T
        )
    return _solved_by_factors(side.vectors[items], weights, wanted, side.products, penalty)


def _solved_by_factors(
    seen: FloatArray, weights: FloatArray, wanted: FloatArray, products: FloatArray, penalty: FloatArray
) -> FloatArray:
    """Solve one D × D system a row, for (B, T, D) vectors, (B, T) weights and (B,) penalties."""
    matrices = np.matmul(seen.transpose(0, 2, 1), seen * weights[..., None])
    matrices += products
    diagonal = np.arange(matrices.shape[1])
    matrices[:, diagonal, diagonal] += penalty[:, None]
    right = np.matmul(wanted[:, None, :], seen)[:, 0, :]
    answer: FloatArray = np.linalg.solve(matrices, right[..., None])[..., 0]
    return answer


def _solved_by_length(
    seen: FloatArray, weights: FloatArray, wanted: FloatArray, powers: FloatArray
) -> FloatArray:
    """Solve one T × T system a row, exactly as well, where everything but the row itself is diagonal.

    ``(E + Yᵀ W Y)⁻¹ Yᵀ v = E⁻¹ Yᵀ (1 + W Y E⁻¹ Yᵀ)⁻¹ v``, with E (B, D) the diagonals.
    """
    divided = seen / powers[:, None, :]
    matrices = weights[..., None] * np.matmul(divided, seen.transpose(0, 2, 1))
    diagonal = np.arange(matrices.shape[1])
    matrices[:, diagonal, diagonal] += 1
    parts = np.linalg.solve(matrices, wanted[..., None])[..., 0]
    answer: FloatArray = np.matmul(parts[:, None, :], divided)[:, 0, :]
    return answer


def _chunks(lengths: LongArray, n_factors: int) -> list[slice]:
    """Cut rising (B,) lengths into runs that fit into memory once all are as long as their longest."""
    chunks, start = [], 0
    while start < len(lengths):
        widths = np.maximum(lengths[start:], n_factors)
        n_numbers = np.arange(1, len(widths) + 1) * widths * n_factors
        size = max(1, int(np.searchsorted(n_numbers, _NUMBERS_AT_ONCE, side="right")))
        chunks.append(slice(start, start + size))
        start += size
    return chunks
