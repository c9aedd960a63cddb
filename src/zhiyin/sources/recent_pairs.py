"""What people took together since training, beside the trained likenesses of item neighbours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from zhiyin.contracts import Edges, Steps
from zhiyin.domain import FloatArray, Histories, LongArray
from zhiyin.domain.arrays import flat_positions
from zhiyin.training.recent_counts import Doubles, RecentCounts

Likeness = Callable[[Doubles, Doubles, Doubles], Doubles]
"""Counts of pairs, of their first and of their second items, all (n,) → (n,) likenesses."""
_SHIFT = 32


@dataclass(frozen=True, eq=False)
class RecentPairs:
    """Counts of users who have both of a pair, of those who got the second one since training; a value.

    A pair that was touched is as alike as training would say with the counts of now; all others keep their
    likeness. So three things wait for the next training: pairs that training pruned count from what came
    since, an item that gets popular stays as like to those it was not taken with, and what falls out of the
    newest events of a user still counts.

    Attributes:
        counts: (I, I) sparse, counts behind the kept likenesses, column indices rising.
        of_items: (I,) float32, users who have each item.
        pairs: Counts since training, both ways.
        takers: Users since training, as pairs (0, item).
    """

    counts: sp.csr_array
    of_items: FloatArray
    pairs: RecentCounts = field(default_factory=RecentCounts)
    takers: RecentCounts = field(default_factory=RecentCounts)

    def plus(self, steps: Steps, *, reach: int, damping: float) -> RecentPairs:
        """Return these pairs with those of new events, on items of training only.

        Args:
            steps: New events.
            reach: Newest events of a history that are looked at.
            damping: A user with n items counts n ** -damping.
        """
        before = steps.before.newest(reach)
        row, item = _distinct(before)
        had_it = np.zeros(len(steps), dtype=np.bool_)
        had_it[row[item == steps.item_index[row]]] = True
        first = ~had_it
        n_items = np.bincount(row, minlength=len(steps)) + 1.0
        worth = n_items**-damping
        kept = first[row]
        heads, tails, weights = item[kept], steps.item_index[row[kept]], worth[row[kept]]
        pairs = self.pairs.plus(
            np.concatenate([heads, tails]), np.concatenate([tails, heads]), np.concatenate([weights, weights])
        )
        taken = steps.item_index[first]
        takers = self.takers.plus(np.zeros_like(taken), taken, worth[first])
        return replace(self, pairs=pairs, takers=takers)

    def edges(
        self, histories: Histories, weights: FloatArray, trained: sp.csr_array, likeness: Likeness
    ) -> Edges:
        """Return what the touched pairs add to the trained edges, from every event of B histories.

        Args:
            histories: What is walked from.
            weights: (T,) float32, what each event counts.
            trained: (I, I) likenesses, of the same cells as ``counts``.
            likeness: As training computes it.
        """
        known = np.flatnonzero(histories.item_index < len(self.of_items))
        heads = histories.item_index[known]
        place, tails, since = _whole(*self.pairs.of_heads(heads))
        heads = heads[place]
        at = _cells(self.counts, heads, tails)
        is_kept = at >= 0
        together = since + np.where(is_kept, self.counts.data[at], 0.0)
        alike = likeness(together, self._takers(heads), self._takers(tails))
        more = alike - np.where(is_kept, trained.data[at], 0.0)
        rises = more > 0
        event = known[place[rises]]
        added = (more[rises] * weights[event]).astype(np.float32)
        return Edges(histories.row_of_event[event], tails[rises], added)

    def _takers(self, items: npt.NDArray[np.integer]) -> Doubles:
        return np.asarray(self.of_items[items] + self.takers.at(np.zeros_like(items), items))


def _distinct(histories: Histories) -> tuple[LongArray, npt.NDArray[np.int32]]:
    """Return row and item of every item that a history holds, once."""
    keys = np.unique((histories.row_of_event << _SHIFT) | histories.item_index)
    return keys >> _SHIFT, (keys & ((1 << _SHIFT) - 1)).astype(np.int32)


def _whole(place: LongArray, tails: LongArray, sums: Doubles) -> tuple[LongArray, LongArray, Doubles]:
    """Add up the parts of pairs that came apart."""
    keys, inverse = np.unique((place << _SHIFT) | tails, return_inverse=True)
    total = np.bincount(inverse, sums, minlength=len(keys)).astype(np.float64)
    return keys >> _SHIFT, keys & ((1 << _SHIFT) - 1), total


def _cells(matrix: sp.csr_array, rows: npt.NDArray[np.integer], columns: LongArray) -> LongArray:
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
    return np.where(keys[found] == asked, positions[found], -1)
