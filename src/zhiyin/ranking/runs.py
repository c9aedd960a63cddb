"""Which events are read for which row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zhiyin.data.labelled import LabelledExamples
from zhiyin.domain import LongArray


@dataclass(frozen=True, eq=False)
class Runs:
    """A run of flat events for each of N rows, the row itself left out.

    Attributes:
        start: (N,) int64, first event.
        stop: (N,) int64, one past the last.
        place: (N,) int64, where the row stands; ``start <= place <= stop``.
        own: (N,) int64, the event that is the row itself; -1 where it is not among them.
    """

    start: LongArray
    stop: LongArray
    place: LongArray
    own: LongArray

    @classmethod
    def of(cls, examples: LabelledExamples, newest: int) -> Runs:
        """Find the runs, each at most ``newest`` events long.

        Where later events are known, too, as many of them are read as earlier ones, if there are.
        """
        events, user = examples.events, examples.user_index
        first, end = events.offsets[:-1][user], events.offsets[:-1][user] + examples.n_known
        n_earlier = examples.n_known if examples.n_earlier is None else examples.n_earlier
        place = first + n_earlier
        stop = np.minimum(end, place + (newest + 1) // 2)
        start = np.maximum(first, stop - newest)
        own = np.full(len(place), -1, dtype=np.int64)
        inside = np.flatnonzero(place < stop)
        is_own = events.item_index[place[inside]] == examples.item_index[inside]
        own[inside[is_own]] = place[inside[is_own]]
        return cls(start, stop, place, own)

    @property
    def has_own(self) -> LongArray:
        """(N,) int64, 1 where the row itself stands among the events."""
        return (self.own >= 0).astype(np.int64)

    @property
    def lengths(self) -> LongArray:
        """(N,) int64, events that are read, the row itself not counted."""
        return self.stop - self.start - self.has_own

    def around(self, width: int) -> Runs:
        """Return the runs cut to so many events before and after the row."""
        start = np.maximum(self.start, self.place - width)
        stop = np.minimum(self.stop, self.place + width + self.has_own)
        return Runs(start, stop, self.place, self.own)

    def sums(self, numbers: np.ndarray) -> np.ndarray:
        """Sum (T,) or (T, k) float64 numbers of events over each run, the row itself left out."""
        total = np.concatenate([np.zeros((1, *numbers.shape[1:])), np.cumsum(numbers, axis=0)])
        sums: np.ndarray = total[self.stop] - total[self.start]
        mine = self.own >= 0
        sums[mine] -= numbers[self.own[mine]]
        return sums

    def n_same(self, items: np.ndarray, item_index: np.ndarray) -> LongArray:
        """Count the events of each run that are about the item of the row, the row itself left out.

        Args:
            items: (T,) items of all events.
            item_index: (N,) items of the rows.
        """
        width = len(items) + 1
        keys = np.sort(items.astype(np.int64) * width + np.arange(len(items)))
        row = item_index.astype(np.int64) * width
        n_before: LongArray = np.searchsorted(keys, row + self.stop) - np.searchsorted(keys, row + self.start)
        return n_before - self.has_own
