"""How many events each item has had so far."""

from __future__ import annotations

from typing import Self

import numpy as np

from zhiyin.contracts import ComponentState, Steps
from zhiyin.domain import BoolArray, Candidates, LongArray

N_EVENTS = "item:events"
"""Column of candidates: how many events each item has had, float32."""


class ItemCounts:
    """Counts events by item, those that come after training included.

    Args:
        counts: (I,) events of each item so far; items beyond have none.
    """

    def __init__(self, counts: LongArray | None = None) -> None:
        known = np.zeros(0, dtype=np.int64) if counts is None else counts
        # The last row stands for padding and for items beyond.
        self._counts = np.append(np.asarray(known, dtype=np.int64), 0)

    def beside(self, candidates: Candidates) -> Candidates:
        """Return the candidates with `N_EVENTS`; 0 for padding."""
        counts = self._counts  # read once: another thread may absorb
        place = np.minimum(candidates.item_index.view(np.uint32), len(counts) - 1)
        return candidates.with_column(N_EVENTS, counts.take(place).astype(np.float32))

    def exceed(self, n_events: int, *, n_items: int) -> BoolArray:
        """Mark those of the first ``n_items`` items that have had more events: (n_items,) bool."""
        counts = self._counts[:-1][:n_items]
        does = np.zeros(n_items, dtype=np.bool_)
        np.greater(counts, n_events, out=does[: len(counts)])
        return does

    def absorb(self, steps: Steps) -> None:
        """Count events that just happened; from one thread, while others read."""
        item = steps.item_index[steps.item_index >= 0]
        if not len(item):
            return
        n_more = int(item.max()) + 2 - len(self._counts)
        if n_more > 0:
            self._counts = np.append(self._counts, np.zeros(n_more, dtype=np.int64))
        np.add.at(self._counts, item, 1)

    def twin(self) -> ItemCounts:
        """Return the same counts, to be counted on apart."""
        return ItemCounts(self._counts[:-1])

    def state(self) -> ComponentState:
        """Return the counts."""
        return ComponentState({"counts": self._counts[:-1]})

    @classmethod
    def from_state(cls, state: ComponentState) -> Self:
        """Read what `state` returned."""
        return cls(np.asarray(state.arrays["counts"], dtype=np.int64))
