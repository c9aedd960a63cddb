"""Walking many edges at once: they are added up while they are walked, in memory that is bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import scipy.sparse as sp

from zhiyin.contracts import DenseOpinion, Opinion, SparseOpinion
from zhiyin.domain import FloatArray, LongArray

Follow = Callable[[sp.csr_array, sp.csr_array], sp.csr_array]
"""(M, R) sparse weights of items, (R, I) sparse edges → (M, I) sparse: `added_up` or `one_by_one`."""
Reached = Callable[[sp.csr_array, Follow], sp.csr_array]
"""(M, I) sparse weights of history items → (M, I) sparse: all edges that lead on from them."""

_FEW_EDGES = 16_384
"""Up to so many edges a list of them is faster to make and to add up than a product of sparse matrices …"""
_ITEMS_PER_EDGE = 16
"""… and up to one for so many items, because a product looks at each item of the catalogue once."""
_CELLS_AT_ONCE = 4_000_000
"""Sums held as a sparse product before they are put where they belong: 32 MB."""
_EDGES_AT_ONCE = 1_000_000
"""Edges held one by one before they are added up in place: 16 MB."""
_CELLS_PER_SUM = 3
"""A listed sum takes as much memory as so many cells of a dense matrix."""


def are_many(n_edges: int, n_items: int) -> bool:
    """Whether so many edges into a catalogue are better added up than listed."""
    return n_edges > max(_FEW_EDGES, n_items // _ITEMS_PER_EDGE)


def added_up(start: sp.csr_array, edges: sp.csr_array) -> sp.csr_array:
    """Return the product: one cell for each item that is reached."""
    return sp.csr_array(start @ edges)


def one_by_one(start: sp.csr_array, edges: sp.csr_array) -> sp.csr_array:
    """Return a cell for each edge, in the order of the product, whose sums they are.

    Whole rows are copied and weighed, and a dense matrix adds up what falls on one place: a quarter of the
    time of a sparse product, which has to find out first what falls together.
    """
    walked = edges[start.indices]
    walked.data *= np.repeat(start.data, np.diff(walked.indptr))
    offsets = walked.indptr[start.indptr]
    return sp.csr_array((walked.data, walked.indices, offsets), shape=(start.shape[0], edges.shape[1]))


def opinion_of(start: sp.csr_array, reached: Reached, n_edges: LongArray) -> Opinion:
    """Add up the edges that lead on from B histories.

    Args:
        start: (B, I) float32, what the items of each history weigh.
        reached: What follows the edges.
        n_edges: (B,) int64, about how many lead on from each history.

    Returns:
        A dense opinion where that takes less memory, else a list of what is reached.
    """
    most_reached = np.minimum(n_edges, start.shape[1])
    if start.shape[0] * start.shape[1] <= max(_CELLS_AT_ONCE, _CELLS_PER_SUM * int(most_reached.sum())):
        return DenseOpinion(scores_of(start, reached, n_edges), silence=0.0)
    cells, sums = [], []
    for first, last in _portions(most_reached, _CELLS_AT_ONCE):
        found = reached(start[first:last], added_up)
        found.sort_indices()
        row = np.repeat(np.arange(first, last, dtype=np.int64), np.diff(found.indptr))
        is_heard = found.data > 0  # a weight may be too small for float32
        cells.append(row[is_heard] * start.shape[1] + found.indices[is_heard])
        sums.append(found.data[is_heard])
    return SparseOpinion(start.shape[0], start.shape[1], np.concatenate(cells), np.concatenate(sums))


def scores_of(start: sp.csr_array, reached: Reached, n_edges: LongArray) -> FloatArray:
    """Add up the same edges, as (B, I) float32, 0 where nothing leads to."""
    scores = np.empty(start.shape, dtype=np.float32)
    for first, last in _portions(n_edges, _EDGES_AT_ONCE):
        reached(start[first:last], one_by_one).toarray(out=scores[first:last])
    return scores


def _portions(n_reached: LongArray, at_once: float) -> Iterator[tuple[int, int]]:
    """Yield first and last row of runs of rows in which about as many cells are reached as may be held."""
    portion = np.cumsum(n_reached) // at_once
    bounds = [0, *(np.flatnonzero(np.diff(portion)) + 1).tolist(), len(n_reached)]
    yield from pairwise(bounds)
