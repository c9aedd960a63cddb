"""What may not be shown, said as sparsely as it is known."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from zhiyin.domain.arrays import PAD, BoolArray, IndexArray, LongArray


@dataclass(frozen=True, eq=False)
class Barred:
    """Items that may not stand in the slates of B queries: some for everybody, some for a single query.

    Attributes:
        n_queries: B.
        n_items: I.
        for_all: (I,) bool, items barred for every query; None when there are none.
        row: (M,) int64, the queries of the single prohibitions.
        item: (M,) int64 from 0 to I - 1, their items; a pair may stand here twice.
    """

    n_queries: int
    n_items: int
    for_all: BoolArray | None
    row: LongArray
    item: LongArray

    @classmethod
    def nothing(cls, n_queries: int, n_items: int) -> Barred:
        """Bar no item."""
        none = np.empty(0, dtype=np.int64)
        return cls(n_queries, n_items, None, none, none)

    @cached_property
    def open_to_all(self) -> LongArray | None:
        """Rising (K,) int64 indices of the items not barred for everybody; None when that is all."""
        return None if self.for_all is None else np.flatnonzero(~self.for_all)

    @cached_property
    def most_in_a_row(self) -> int:
        """Single prohibitions of the query that has most of them."""
        return int(np.bincount(self.row).max()) if len(self.row) else 0

    def among(self, n_items: int) -> Barred:
        """Return what is barred among the first ``n_items`` items."""
        if n_items >= self.n_items:
            return self
        kept = self.item < n_items
        for_all = None if self.for_all is None else self.for_all[:n_items]
        return Barred(self.n_queries, n_items, for_all, self.row[kept], self.item[kept])

    def of_rows(self, rows: LongArray) -> Barred:
        """Return what is barred for (M,) rising ones of the queries."""
        place = np.full(self.n_queries, PAD, dtype=np.int64)
        place[rows] = np.arange(len(rows))
        kept = place[self.row] != PAD
        return Barred(len(rows), self.n_items, self.for_all, place[self.row[kept]], self.item[kept])

    def holds(self, item_index: IndexArray) -> BoolArray:
        """Tell of given items (B, N) int32, -1 pads, whether they are barred: (B, N) bool; padding is not."""
        is_item = item_index != PAD
        key = item_index + np.arange(self.n_queries, dtype=np.int64)[:, None] * self.n_items
        found = np.zeros(item_index.shape, dtype=np.bool_)
        if len(self.row):
            barred = self._keys
            place = np.searchsorted(barred, key.ravel())
            found = (barred[np.minimum(place, len(barred) - 1)] == key.ravel()).reshape(key.shape)
        if self.for_all is not None:
            found |= self.for_all[np.where(is_item, item_index, 0)]
        found &= is_item
        return found

    def dense(self) -> BoolArray:
        """Return all of it as (B, I) bool."""
        barred = np.zeros((self.n_queries, self.n_items), dtype=np.bool_)
        if self.for_all is not None:
            barred |= self.for_all
        barred[self.row, self.item] = True
        return barred

    @cached_property
    def _keys(self) -> LongArray:
        return np.sort(self.row * self.n_items + self.item)
