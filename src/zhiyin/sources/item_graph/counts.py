"""From histories to a sparse matrix of who follows whom."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from zhiyin.domain import FloatArray, Histories, LongArray

_SMALLEST_SUM = 1e-9


def follower_counts(
    histories: Histories, event_weights: FloatArray, *, n_items: int, distances: range
) -> sp.csr_array:
    """Count how often item b stands ``d`` places after item a, for each distance d of a range.

    Args:
        histories: Training histories, without runs of one item.
        event_weights: (T,) float32, what each event is worth as a follower.
        n_items: I.
        distances: Such as ``range(1, 2)`` for direct followers.

    Returns:
        (I, I) float32, row a, column b.
    """
    item, row = histories.item_index, histories.row_of_event
    heads, tails, weights = [], [], []
    for distance in distances:
        same_history = row[distance:] == row[:-distance]
        heads.append(item[:-distance][same_history])
        tails.append(item[distance:][same_history])
        weights.append(event_weights[distance:][same_history])
    edges = (np.concatenate(weights), (np.concatenate(heads), np.concatenate(tails)))
    counts = sp.csr_array(edges, shape=(n_items, n_items), dtype=np.float32)
    counts.sum_duplicates()
    return counts


def decayed_sum(counts: list[sp.csr_array], *, decay: float, backward: float) -> sp.csr_array:
    """Add up counts of distance 1, 2, … with ``decay ** (d - 1)``, and ``backward`` times the reverse."""
    forward = counts[0]
    for distance, count in enumerate(counts[1:], start=1):
        forward = forward + count * np.float32(decay**distance)
    return sp.csr_array(forward + forward.T * np.float32(backward)) if backward else sp.csr_array(forward)


Sums = tuple[FloatArray, FloatArray]
"""Sums of the rows and of the columns of counts."""


def sums_of(counts: sp.csr_array) -> Sums:
    """Return the (I,) sums of the rows and the (I,) sums of the columns."""
    return np.asarray(counts.sum(axis=1)).ravel(), np.asarray(counts.sum(axis=0)).ravel()


def scaled(
    counts: sp.csr_array, *, row_exponent: float, column_exponent: float, sums: Sums | None = None
) -> sp.csr_array:
    """Divide rows and columns by powers of their sums.

    Args:
        counts: (M, I).
        row_exponent: 0 leaves the rows as they are.
        column_exponent: 0 leaves the columns as they are.
        sums: (M,) of the rows and (I,) of the columns, where the rows are only some of a larger matrix.
    """
    of_rows, of_columns = sums or sums_of(counts)
    rows, columns = _inverse_power(of_rows, row_exponent), _inverse_power(of_columns, column_exponent)
    result = counts.copy()
    result.data = counts.data * np.repeat(rows, np.diff(counts.indptr)) * columns[counts.indices]
    return result


def strongest(edges: sp.csr_array, n: int) -> sp.csr_array:
    """Return the ``n`` largest values of each row; of equal ones those of the lower columns.

    Args:
        edges: (M, I), sorted indices.
        n: At least 1.
    """
    long = np.flatnonzero(np.diff(edges.indptr) > n)
    if not len(long):
        return edges
    kept = np.ones(edges.nnz, dtype=np.bool_)
    for start, stop in zip(edges.indptr[long], edges.indptr[long + 1], strict=True):  # few rows are so long
        values = edges.data[start:stop]
        least = np.partition(values, -n)[-n]
        is_kept = values > least
        is_kept[np.flatnonzero(values == least)[: n - int(is_kept.sum())]] = True
        kept[start:stop] = is_kept
    ends = np.append(0, np.cumsum(np.minimum(np.diff(edges.indptr), n))).astype(edges.indptr.dtype)
    return sp.csr_array((edges.data[kept], edges.indices[kept], ends), shape=edges.shape)


def history_weights(
    histories: Histories, event_weights: FloatArray, *, decay: float, n_items: int
) -> sp.csr_array:
    """Return (B, I) float32 weights of history items: 1 for the newest, then ``decay`` to its age."""
    weights = aged_weights(histories, event_weights, decay=decay)
    known = histories.item_index < n_items
    # As narrow as the graph's: a product with a wide index would widen the whole graph each time.
    places = (histories.row_of_event[known].astype(np.int32), histories.item_index[known])
    return sp.csr_array((weights[known], places), shape=(len(histories), n_items), dtype=np.float32)


def aged_weights(histories: Histories, event_weights: FloatArray, *, decay: float) -> FloatArray:
    """Return (T,) float32 weights of events: their own, times ``decay`` to their age."""
    ages: LongArray = histories.age_of_event
    weights: FloatArray = event_weights * np.power(np.float32(decay), ages.astype(np.float32))
    return weights


def _inverse_power(sums: FloatArray, exponent: float) -> FloatArray:
    return np.where(sums > 0, np.maximum(sums, _SMALLEST_SUM) ** -exponent, 0.0).astype(np.float32)
