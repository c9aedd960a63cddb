"""What users did, in time order, as ragged arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zhiyin.domain.arrays import PAD, FloatArray, IndexArray, LongArray, flat_positions, offsets_of
from zhiyin.domain.errors import ShapeMismatch

NO_TIMESTAMP = np.iinfo(np.int64).min
"""Timestamp of an event whose time is not known; only its place in the order is."""


@dataclass(frozen=True, eq=False)
class Histories:
    """B histories, each oldest event first: row ``b`` is ``offsets[b]:offsets[b + 1]`` of the flat arrays.

    Attributes:
        offsets: (B + 1,) int64.
        item_index: (T,) int32.
        event_index: (T,) int16, position in the dataset's list of event kinds.
        timestamp: (T,) int64, UTC seconds, or `NO_TIMESTAMP`.
        value: (T,) float32, rating, amount or count; NaN where there is none.
    """

    offsets: LongArray
    item_index: IndexArray
    event_index: npt.NDArray[np.int16]
    timestamp: LongArray
    value: FloatArray

    def __post_init__(self) -> None:
        n_events = len(self.item_index)
        if not len(self.event_index) == len(self.timestamp) == len(self.value) == n_events:
            raise ShapeMismatch("The columns of a history must be equally long.")
        if self.offsets[0] != 0 or self.offsets[-1] != n_events:
            raise ShapeMismatch(f"Offsets must run from 0 to {n_events}, the number of events.")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def n_events(self) -> int:
        """Events of all histories together."""
        return len(self.item_index)

    @property
    def lengths(self) -> LongArray:
        """(B,) int64: events per history."""
        return np.diff(self.offsets)

    @property
    def row_of_event(self) -> LongArray:
        """(T,) int64: the history each event belongs to."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.lengths)

    @property
    def age_of_event(self) -> LongArray:
        """(T,) int64: 0 for the newest event of its history, 1 for the one before, and so on."""
        return np.repeat(self.offsets[1:], self.lengths) - 1 - np.arange(self.n_events, dtype=np.int64)

    def take(self, rows: npt.NDArray[np.integer]) -> Histories:
        """Return the given histories, in the given order."""
        return self.runs(self.offsets[:-1][rows], self.lengths[rows])

    def runs(self, starts: LongArray, lengths: LongArray) -> Histories:
        """Return one history for each run of flat events: (B,) int64 starts and lengths; runs may overlap."""
        return self._at(offsets_of(lengths), flat_positions(starts, lengths))

    def followed_by(self, other: Histories) -> Histories:
        """Return these histories with others under them."""
        return Histories(
            np.concatenate([self.offsets, other.offsets[1:] + self.n_events]),
            np.concatenate([self.item_index, other.item_index]),
            np.concatenate([self.event_index, other.event_index]),
            np.concatenate([self.timestamp, other.timestamp]),
            np.concatenate([self.value, other.value]),
        )

    def beside(self, other: Histories) -> Histories:
        """Return B histories, each followed by what the other B histories hold, whatever the times say."""
        both = self.followed_by(other)
        starts = np.stack([self.offsets[:-1], other.offsets[:-1] + self.n_events], axis=1).ravel()
        lengths = np.stack([self.lengths, other.lengths], axis=1).ravel()
        return both._at(offsets_of(self.lengths + other.lengths), flat_positions(starts, lengths))

    @classmethod
    def stacked(cls, parts: Sequence[Histories]) -> Histories:
        """Return the histories of all parts, one under the other."""
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return cls.empty(0)
        return cls(
            offsets_of(np.concatenate([part.lengths for part in parts])),
            np.concatenate([part.item_index for part in parts]),
            np.concatenate([part.event_index for part in parts]),
            np.concatenate([part.timestamp for part in parts]),
            np.concatenate([part.value for part in parts]),
        )

    def row(self, row: int) -> Histories:
        """Return one history as views, without copying an event."""
        start, stop = int(self.offsets[row]), int(self.offsets[row + 1])
        return Histories(
            np.array([0, stop - start], dtype=np.int64),
            self.item_index[start:stop],
            self.event_index[start:stop],
            self.timestamp[start:stop],
            self.value[start:stop],
        )

    def slice(self, start: int, stop: int) -> Histories:
        """Return histories ``start:stop``."""
        return self.take(np.arange(start, min(stop, len(self))))

    def newest(self, n: int) -> Histories:
        """Keep at most the ``n`` newest events of each history."""
        lengths = np.minimum(self.lengths, n)
        return self.runs(self.offsets[1:] - lengths, lengths)

    def without_newest(self, n: int) -> Histories:
        """Drop the ``n`` newest events of each history (all of them where there are fewer)."""
        lengths = np.maximum(self.lengths - n, 0)
        return self.runs(self.offsets[:-1], lengths)

    def where(self, keep: npt.NDArray[np.bool_]) -> Histories:
        """Keep the events marked in ``keep`` (T,) bool; histories may become empty."""
        kept_before = offsets_of(keep.astype(np.int64))
        return self._at(kept_before[self.offsets], np.flatnonzero(keep))

    def without_repeats(self) -> Histories:
        """Keep the last event of each run of events on one item, such as view, cart, purchase."""
        if self.n_events < 2:
            return self
        row = self.row_of_event
        followed = (self.item_index[1:] == self.item_index[:-1]) & (row[1:] == row[:-1])
        return self.where(~np.append(followed, False)) if followed.any() else self

    def padded_items(self, length: int) -> IndexArray:
        """Return each history's newest items as (B, length) int32, -1 padding on the left."""
        recent = self.newest(length)
        padded = np.full((len(self), length), PAD, dtype=np.int32)
        column = length - 1 - recent.age_of_event
        padded[recent.row_of_event, column] = recent.item_index
        return padded

    def _at(self, offsets: LongArray, positions: LongArray) -> Histories:
        return Histories(
            offsets,
            self.item_index[positions],
            self.event_index[positions],
            self.timestamp[positions],
            self.value[positions],
        )

    @classmethod
    def empty(cls, n: int) -> Histories:
        """``n`` histories without events."""
        return cls.of_items([np.empty(0, dtype=np.int32)] * n)

    @classmethod
    def of_items(cls, rows: list[npt.NDArray[np.integer]]) -> Histories:
        """Build histories from item indices alone; for single requests and tests."""
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        flat = np.concatenate([np.asarray(row, dtype=np.int32) for row in rows] or [np.empty(0, np.int32)])
        n_events = len(flat)
        return cls(
            offsets_of(lengths),
            flat,
            np.zeros(n_events, dtype=np.int16),
            np.full(n_events, NO_TIMESTAMP, dtype=np.int64),
            np.full(n_events, np.nan, dtype=np.float32),
        )
