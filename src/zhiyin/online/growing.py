"""Histories that grow: many users, few bytes, no Python object per event."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from zhiyin.domain import FloatArray, Histories, IndexArray, LongArray
from zhiyin.domain.arrays import flat_positions, offsets_of

Scalar = TypeVar("Scalar", bound=np.generic)

_SMALLEST_AREA = 4
_COLUMNS: dict[str, npt.DTypeLike] = {
    "item": np.int32,
    "event": np.int16,
    "timestamp": np.int64,
    "value": np.float32,
}


class GrowingHistories:
    """Rows that events are appended to, oldest first.

    All rows share one pool of columns. A row owns an area of the pool that is at least as long as the row;
    when it is full the row moves to one twice as long, and the pool is packed when more than half of it
    is left behind. So memory is at most a small multiple of 18 bytes an event, appending costs amortised
    constant time, and reading a row is a slice.
    """

    def __init__(self) -> None:
        self._pool: dict[str, npt.NDArray[Any]] = {
            name: np.empty(1024, dtype=dtype) for name, dtype in _COLUMNS.items()
        }
        self._used = 0
        self._left_behind = 0
        self._n_rows = 0
        self._newest = 0
        self._start = np.zeros(64, dtype=np.int64)
        self._length = np.zeros(64, dtype=np.int64)
        self._area = np.zeros(64, dtype=np.int64)

    def __len__(self) -> int:
        return self._n_rows

    @property
    def n_events(self) -> int:
        """Events of all rows together."""
        return int(self._length[: self._n_rows].sum())

    @property
    def n_bytes(self) -> int:
        """Memory of the pool and the rows."""
        columns = [*self._pool.values(), self._start, self._length, self._area]
        return sum(column.nbytes for column in columns)

    def new_rows(self, n: int) -> int:
        """Add empty rows; return the number of the first."""
        first = self._n_rows
        self._n_rows += n
        if self._n_rows > len(self._start):
            size = max(self._n_rows, 2 * len(self._start))
            self._start = _longer(self._start, size)
            self._length = _longer(self._length, size)
            self._area = _longer(self._area, size)
        return first

    def append(
        self,
        rows: LongArray,
        items: IndexArray,
        events: npt.NDArray[np.int16],
        timestamps: LongArray,
        values: FloatArray,
    ) -> LongArray:
        """Append events; those of one row keep the order in which they are given.

        Args:
            rows: (T,) int64, the row of each event.
            items: (T,) int32.
            events: (T,) int16.
            timestamps: (T,) int64.
            values: (T,) float32.

        Returns:
            (T,) int64, the place of each event in its row.
        """
        if len(rows) == 0:
            return np.zeros(0, dtype=np.int64)
        self._newest = max(self._newest, int(timestamps.max()))
        order = np.argsort(rows, kind="stable")
        distinct, first, counts = np.unique(rows[order], return_index=True, return_counts=True)
        self._make_room(distinct, counts)
        nth = np.arange(len(rows)) - np.repeat(first, counts)
        places = np.repeat(self._start[distinct] + self._length[distinct], counts) + nth
        columns: tuple[npt.NDArray[Any], ...] = (items, events, timestamps, values)
        for name, column in zip(_COLUMNS, columns, strict=True):
            self._pool[name][places] = column[order]
        place_in_row = np.empty(len(rows), dtype=np.int64)
        place_in_row[order] = np.repeat(self._length[distinct], counts) + nth
        self._length[distinct] += counts
        return place_in_row

    def append_one(self, row: int, item: int, event: int, timestamp: int, value: float) -> int:
        """Append one event; return its place in its row. The same as `append`, without making arrays."""
        place = int(self._length[row])
        if place == self._area[row]:
            self._make_room(np.array([row]), np.ones(1, dtype=np.int64))
        at = self._start[row] + place
        for column, said in zip(self._pool.values(), (item, event, timestamp, value), strict=True):
            column[at] = said
        self._length[row] = place + 1
        self._newest = max(self._newest, timestamp)
        return place

    def row(self, row: int) -> tuple[IndexArray, npt.NDArray[np.int16], LongArray, FloatArray]:
        """Return copies of one row: items, events, timestamps, values."""
        place = slice(self._start[row], self._start[row] + self._length[row])
        items, events, timestamps, values = (self._pool[name][place].copy() for name in _COLUMNS)
        return items, events, timestamps, values

    def newest(self, rows: LongArray, n: int) -> Histories:
        """Return copies of the newest ``n`` events, at most, of each row (R,) int64; items as given."""
        lengths = np.minimum(self._length[rows], n)
        places = flat_positions(self._start[rows] + self._length[rows] - lengths, lengths)
        columns = [self._pool[name][places] for name in _COLUMNS]
        return Histories(offsets_of(lengths), *columns)

    def lengths(self, rows: LongArray) -> LongArray:
        """Return (R,) int64: events of each row."""
        return self._length[rows]

    def newest_timestamp(self) -> int:
        """Return the latest timestamp that was appended; 0 before the first."""
        return self._newest

    def length(self, row: int) -> int:
        """Return how many events a row has."""
        return int(self._length[row])

    def clear(self, row: int) -> None:
        """Forget the events of one row; they are overwritten."""
        place = slice(self._start[row], self._start[row] + self._length[row])
        for column in self._pool.values():
            column[place] = 0
        self._left_behind += int(self._area[row])
        self._start[row] = self._length[row] = self._area[row] = 0

    def _make_room(self, rows: LongArray, n_more: LongArray) -> None:
        needed = self._length[rows] + n_more
        full = needed > self._area[rows]
        rows, needed = rows[full], needed[full]
        if len(rows) == 0:
            return
        areas = np.maximum(_SMALLEST_AREA, 2 ** np.ceil(np.log2(needed)).astype(np.int64))
        if self._used + int(areas.sum()) > len(self._pool["item"]):
            self._reserve(int(areas.sum()))
        starts = self._used + np.cumsum(areas) - areas
        self._move(rows, starts)
        self._left_behind += int(self._area[rows].sum())
        self._start[rows], self._area[rows] = starts, areas
        self._used += int(areas.sum())

    def _move(self, rows: LongArray, starts: LongArray) -> None:
        lengths = self._length[rows]
        old, new = flat_positions(self._start[rows], lengths), flat_positions(starts, lengths)
        for column in self._pool.values():
            column[new] = column[old]

    def _reserve(self, n_more: int) -> None:
        """Make the pool long enough; pack it when half of it is left behind."""
        if 2 * self._left_behind > self._used:
            self._pack()
        size = len(self._pool["item"])
        if self._used + n_more > size:
            size = max(self._used + n_more, size + size // 2)
            self._pool = {name: _longer(column, size) for name, column in self._pool.items()}

    def _pack(self) -> None:
        rows = np.arange(self._n_rows)
        lengths, areas = self._length[rows], self._area[rows]
        starts = np.cumsum(areas) - areas
        old, new = flat_positions(self._start[rows], lengths), flat_positions(starts, lengths)
        size = int(areas.sum())
        packed = {name: np.zeros(max(size, 1024), dtype=dtype) for name, dtype in _COLUMNS.items()}
        for name, column in packed.items():
            column[new] = self._pool[name][old]
        self._pool, self._start[rows], self._used, self._left_behind = packed, starts, size, 0


def _longer(column: npt.NDArray[Scalar], size: int) -> npt.NDArray[Scalar]:
    longer = np.zeros(size, dtype=column.dtype)
    longer[: len(column)] = column
    return longer
