"""From the items of a history along a sparse matrix of items to others, and back to the reason."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from zhiyin.domain import PAD, FloatArray, Histories, IndexArray, LongArray
from zhiyin.domain.arrays import flat_positions

_SHIFT = 32


def walked(histories: Histories, weights: FloatArray, matrix: sp.csr_array) -> FloatArray:
    """Add up the rows of the items of each history.

    Args:
        histories: B histories of T events; items beyond the matrix lead nowhere.
        weights: (T,) float32, what each event counts.
        matrix: (I, I) sparse, row a holding what leads on from item a.

    Returns:
        (B, I) float32, 0 where nothing leads.
    """
    n_items = matrix.shape[0]
    known = histories.item_index < n_items
    places = (histories.row_of_event[known], histories.item_index[known])
    start = sp.csr_array((weights[known], places), shape=(len(histories), n_items))
    scores: FloatArray = (start @ matrix).toarray().astype(np.float32, copy=False)
    return scores


def strongest_event(
    histories: Histories, weights: FloatArray, matrix: sp.csr_array, item_index: IndexArray
) -> IndexArray:
    """Name the event of each history that leads to given items with most weight.

    Args:
        histories: B histories of T events.
        weights: (T,) float32, what each event counts.
        matrix: (I, I) sparse with rising column indices.
        item_index: (B, N) int32, -1 pads.

    Returns:
        (B, N) int32 items of the histories, -1 where none leads there.
    """
    n_items, n_asked = matrix.shape[0], item_index.shape[1]
    events = np.flatnonzero((histories.item_index >= 0) & (histories.item_index < n_items))
    row, heads = histories.row_of_event[events], histories.item_index[events]
    tails = item_index[row]
    at = cells_of(matrix, np.repeat(heads, n_asked), tails.ravel())
    strength = numbers_at(matrix, at).reshape(tails.shape)
    return strongest_of_rows(strength * weights[events, None], row, heads, len(histories))


def strongest_of_rows(
    strength: npt.NDArray[np.floating], row: LongArray, items: IndexArray, n_rows: int
) -> IndexArray:
    """Return, for every row and column, the item of the event with most strength.

    Args:
        strength: (T, N), of T events for N places; only above 0 it is a reason.
        row: (T,) int64, rising.
        items: (T,) int32.
        n_rows: B.

    Returns:
        (B, N) int32; -1 where no event has any strength. Of equal events the older one.
    """
    reasons = np.full((n_rows, strength.shape[1]), PAD, dtype=np.int32)
    if not strength.size:
        return reasons
    first = np.flatnonzero(np.diff(row, prepend=-1))
    most = np.maximum.reduceat(strength, first, axis=0)
    place = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(row))))
    is_most = strength == most[place]
    event = np.where(is_most, np.arange(len(row))[:, None], len(row) - 1)
    chosen = np.minimum.reduceat(event, first, axis=0)
    reasons[row[first]] = np.where(most > 0, items[chosen], PAD)
    return reasons


def cells_of(
    matrix: sp.csr_array, rows: npt.NDArray[np.integer], columns: npt.NDArray[np.integer]
) -> LongArray:
    """Return the (n,) places of cells in the data of a sorted sparse matrix, -1 where there is nothing."""
    distinct, which = np.unique(rows, return_inverse=True)
    starts = matrix.indptr[distinct].astype(np.int64)
    lengths = matrix.indptr[distinct + 1] - starts
    positions = flat_positions(starts, lengths)
    if not len(positions):
        return np.full(len(rows), -1, dtype=np.int64)
    keys = (np.repeat(np.arange(len(distinct)), lengths) << _SHIFT) | matrix.indices[positions]
    asked = (which.astype(np.int64) << _SHIFT) | columns
    found = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
    return np.where((keys[found] == asked) & (columns >= 0), positions[found], -1)


def numbers_at(matrix: sp.csr_array, at: LongArray) -> FloatArray:
    """Return the (n,) float32 numbers at places that `cells_of` found, 0 where there is nothing."""
    if not matrix.nnz:
        return np.zeros(len(at), dtype=np.float32)
    return np.where(at >= 0, matrix.data[at], np.float32(0))
