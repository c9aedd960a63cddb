"""What people took together since training, beside the trained likenesses of item neighbours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from zhiyin.contracts import Edges, Steps
from zhiyin.contracts.updating import weights_of
from zhiyin.domain import FloatArray, Histories, LongArray
from zhiyin.sources.item_walk import cells_of, numbers_at
from zhiyin.sources.preferences import Preferences
from zhiyin.training.recent_counts import Doubles, RecentCounts

Likeness = Callable[[Doubles, Doubles, Doubles], Doubles]
"""Counts of pairs, of their first and of their second items, all (n,) → (n,) likenesses."""
_SHIFT = 32


@dataclass(frozen=True, eq=False)
class RecentPairs:
    """Sums over users who have both of a pair, of those who got the second one since training; a value.

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

    def plus(
        self, steps: Steps, event_weights: FloatArray, *, reach: int, damping: float, power: int
    ) -> RecentPairs:
        """Return these pairs with those of new events, on items of training only.

        A stronger event on an item that the user has already adds what it is worth beyond the weaker one.

        Args:
            steps: New events.
            event_weights: (kinds,) float32 from 0 to 1, what an event of each kind is worth.
            reach: Newest events of a history that are looked at.
            damping: A user with n items counts n ** -damping.
            power: To which power the weight counts in the sum of an item.
        """
        had = Preferences.of(steps.before, event_weights, length=reach).strongest(len(self.of_items))
        row, item, worth = np.repeat(np.arange(len(steps)), np.diff(had.indptr)), had.indices, had.data
        is_same = item == steps.item_index[row]
        before = np.zeros(len(steps))
        before[row[is_same]] = worth[is_same]
        after = np.maximum(before, weights_of(event_weights, steps.event_index))
        n_items = np.diff(had.indptr) + (before == 0)
        of_user = np.maximum(n_items, 1.0) ** -damping
        kept = ~is_same & (after > before)[row]
        heads, tails = item[kept], steps.item_index[row[kept]]
        added = (of_user * (after - before))[row[kept]] * worth[kept]
        pairs = self.pairs.plus(
            np.concatenate([heads, tails]), np.concatenate([tails, heads]), np.concatenate([added, added])
        )
        rises = after > before
        taken = steps.item_index[rises]
        sums = (of_user * (after**power - before**power))[rises]
        return replace(self, pairs=pairs, takers=self.takers.plus(np.zeros_like(taken), taken, sums))

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
        at = cells_of(self.counts, heads, tails)
        together = since + numbers_at(self.counts, at)
        alike = likeness(together, self._takers(heads), self._takers(tails))
        more = alike - numbers_at(trained, at)
        rises = more > 0
        event = known[place[rises]]
        added = (more[rises] * weights[event]).astype(np.float32)
        return Edges(histories.row_of_event[event], tails[rises], added)

    def _takers(self, items: npt.NDArray[np.integer]) -> Doubles:
        return np.asarray(self.of_items[items] + self.takers.at(np.zeros_like(items), items))


def _whole(place: LongArray, tails: LongArray, sums: Doubles) -> tuple[LongArray, LongArray, Doubles]:
    """Add up the parts of pairs that came apart."""
    keys, inverse = np.unique((place << _SHIFT) | tails, return_inverse=True)
    total = np.bincount(inverse, sums, minlength=len(keys)).astype(np.float64)
    return keys >> _SHIFT, keys & ((1 << _SHIFT) - 1), total
