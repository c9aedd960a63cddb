"""Array types and the few operations on ragged arrays that every floor needs.

Letters used in all docstrings: B queries, T events in a history, I items, N candidates, D vector length.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zhiyin.domain.errors import ShapeMismatch

FloatArray = npt.NDArray[np.float32]
IndexArray = npt.NDArray[np.int32]
LongArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

PAD = -1
"""Item index that stands for "no item": padding, unknown, not offered."""


def flat_positions(starts: LongArray, lengths: LongArray) -> LongArray:
    """List the positions of several runs in a flat array, one run after the other.

    Args:
        starts: (B,) int64, where each run begins.
        lengths: (B,) int64, how long it is.

    Returns:
        (sum of lengths,) int64.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    total = int(lengths.sum())
    if total == 0:
        return np.empty(0, dtype=np.int64)
    run_starts = np.cumsum(lengths) - lengths
    positions: LongArray = np.arange(total, dtype=np.int64)
    positions += np.repeat(np.asarray(starts) - run_starts, lengths)
    return positions


def offsets_of(lengths: npt.NDArray[np.integer]) -> LongArray:
    """Return the (B + 1,) int64 offsets of runs with these (B,) lengths."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


@dataclass(frozen=True, eq=False)
class Ragged:
    """Rows of different lengths in one flat array: row ``b`` is ``values[offsets[b]:offsets[b + 1]]``.

    Attributes:
        offsets: (B + 1,) int64, rising from 0.
        values: (T,) of any dtype.
    """

    offsets: LongArray
    values: npt.NDArray[np.generic]

    def __post_init__(self) -> None:
        if len(self.offsets) == 0 or self.offsets[0] != 0 or self.offsets[-1] != len(self.values):
            raise ShapeMismatch(
                f"Offsets must run from 0 to {len(self.values)}, the number of values; "
                f"got {self.offsets[:1]} to {self.offsets[-1:]}."
            )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> LongArray:
        """(B,) int64."""
        return np.diff(self.offsets)

    @property
    def row_of_value(self) -> LongArray:
        """(T,) int64: the row each value belongs to."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.lengths)

    def row(self, index: int) -> npt.NDArray[np.generic]:
        """Return one row as a view."""
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    def take(self, rows: npt.NDArray[np.integer]) -> Ragged:
        """Return the given rows, in the given order."""
        lengths = self.lengths[rows]
        return Ragged(offsets_of(lengths), self.values[flat_positions(self.offsets[:-1][rows], lengths)])

    @classmethod
    def from_rows(cls, rows: list[npt.NDArray[np.generic]], dtype: npt.DTypeLike) -> Ragged:
        """Join a few rows; for tests and single requests, not for hot paths."""
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        flat = np.concatenate([np.asarray(row, dtype=dtype) for row in rows] or [np.empty(0, dtype)])
        return cls(offsets_of(lengths), flat.astype(dtype))
