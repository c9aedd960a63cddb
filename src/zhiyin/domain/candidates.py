"""Items under consideration, with named score columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from zhiyin.domain.arrays import PAD, BoolArray, FloatArray, IndexArray
from zhiyin.domain.errors import ShapeMismatch, did_you_mean

_Number = TypeVar("_Number", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Candidates:
    """N candidates for each of B queries. A value: every stage returns a new one.

    Attributes:
        item_index: (B, N) int32, -1 pads.
        columns: name → (B, N) float32, NaN where a stage has no opinion.
    """

    item_index: IndexArray
    columns: Mapping[str, FloatArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.item_index.ndim != 2 or self.item_index.dtype != np.int32:
            raise ShapeMismatch(
                f"Candidates need item indices of shape (B, N) and dtype int32; "
                f"got {self.item_index.shape} {self.item_index.dtype}."
            )
        for name, column in self.columns.items():
            _check_column(name, column, self.item_index)

    def __len__(self) -> int:
        return len(self.item_index)

    @property
    def n_per_query(self) -> int:
        """N, padding included."""
        return int(self.item_index.shape[1])

    @property
    def is_item(self) -> BoolArray:
        """(B, N) bool: False where there is padding."""
        is_item: BoolArray = self.item_index != PAD
        return is_item

    def column(self, name: str) -> FloatArray:
        """Return a column.

        Raises:
            ShapeMismatch: when no stage has written it.
        """
        if name not in self.columns:
            raise ShapeMismatch(
                f"The candidates have no column '{name}'.{did_you_mean(name, self.columns)}",
                possible=f"They have {', '.join(self.columns) or 'none'}.",
            )
        return self.columns[name]

    def with_column(self, name: str, column: FloatArray) -> Candidates:
        """Return the candidates with one column added or replaced."""
        return Candidates(self.item_index, {**self.columns, name: column})

    def without(self, dropped: BoolArray) -> Candidates:
        """Return the candidates with those marked in (B, N) bool turned into padding."""
        columns = {
            name: np.where(dropped, np.float32(np.nan), column) for name, column in self.columns.items()
        }
        return Candidates(np.where(dropped, np.int32(PAD), self.item_index), columns)

    def of_queries(self, rows: slice | BoolArray) -> Candidates:
        """Return the candidates of some queries."""
        return Candidates(self.item_index[rows], {name: col[rows] for name, col in self.columns.items()})

    def at(self, positions: IndexArray) -> Candidates:
        """Return the candidates at (B, M) positions of the N axis."""
        place = positions + np.arange(len(self), dtype=np.int64)[:, None] * self.n_per_query
        columns = {name: column.ravel().take(place) for name, column in self.columns.items()}
        return Candidates(self.item_index.ravel().take(place), columns)

    def padded(self, n: int) -> Candidates:
        """Return the candidates with exactly ``n`` places: padding added, or the last ones cut off."""
        columns = {name: _as_wide_as(n, column, np.nan) for name, column in self.columns.items()}
        return Candidates(_as_wide_as(n, self.item_index, PAD), columns)

    @classmethod
    def stacked(cls, parts: Sequence[Candidates], n: int) -> Candidates:
        """Put the queries of several parts under each other, each padded or cut to ``n`` places.

        A column that only some parts have is NaN elsewhere.
        """
        if not parts:
            return cls(np.empty((0, n), dtype=np.int32))
        names = dict.fromkeys(name for part in parts for name in part.columns)
        columns = {  # one after the other: parts of many queries are large
            name: np.concatenate([_as_wide_as(n, part._column_or_nan(name), np.nan) for part in parts])
            for name in names
        }
        return cls(np.concatenate([_as_wide_as(n, part.item_index, PAD) for part in parts]), columns)

    def _column_or_nan(self, name: str) -> FloatArray:
        if name in self.columns:
            return self.columns[name]
        return np.full(self.item_index.shape, np.nan, dtype=np.float32)

    def top(self, n: int, *, by: str) -> Candidates:
        """Return the ``n`` best by a column, best first; padding and NaN last.

        Equal scores keep the order in which they stand.
        """
        keys = -self.column(by)
        if not self.is_item.all():
            keys = np.where(self.is_item, keys, np.float32(np.nan))
        order, is_ranked = _smallest(keys, min(n, self.n_per_query))
        best = self.at(order)
        return best if is_ranked.all() else best.without(~is_ranked)


def _smallest(keys: FloatArray, n: int) -> tuple[IndexArray, BoolArray]:
    """Find the ``n`` smallest keys of each row, in order; ties keep the earliest positions, NaN is left out.

    Only what is not above the n-th key is sorted. A key and its position are packed into one integer of
    the same order, because numpy sorts integers several times faster than pairs.

    Returns:
        (B, n) int32 positions, and (B, n) bool, False where a row has fewer keys (the position is then 0).
    """
    if n == 0:
        return np.empty((len(keys), 0), dtype=np.int32), np.empty((len(keys), 0), dtype=np.bool_)
    cut = np.partition(keys, n - 1, axis=1)[:, n - 1]
    kept = keys <= np.where(np.isnan(cut), np.inf, cut)[:, None]
    flat = np.flatnonzero(kept)
    row, position = np.divmod(flat, keys.shape[1])
    n_kept = kept.sum(axis=1)
    column = np.arange(len(flat)) - np.repeat(np.cumsum(n_kept) - n_kept, n_kept)
    bits = (keys.ravel()[flat] + np.float32(0.0)).view(np.int32)  # adding zero makes -0.0 and 0.0 one number
    ordered = (bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))).astype(np.int64)
    nothing = np.iinfo(np.int64).max
    packed = np.full((len(keys), max(n, int(n_kept.max(initial=0)))), nothing, dtype=np.int64)
    packed[row, column] = (ordered << 32) | position
    packed = np.sort(packed, axis=1)[:, :n]
    is_ranked = packed != nothing
    return np.where(is_ranked, packed & 0xFFFFFFFF, 0).astype(np.int32), is_ranked


def _check_column(name: str, column: FloatArray, item_index: IndexArray) -> None:
    if column.shape != item_index.shape or column.dtype != np.float32:
        raise ShapeMismatch(
            f"Column '{name}' must be float32 of shape {item_index.shape}; got {column.dtype} {column.shape}."
        )


def _as_wide_as(n: int, column: npt.NDArray[_Number], filler: float) -> npt.NDArray[_Number]:
    """Return (B, n): some places of (B, N) cut off, or filled up."""
    missing = n - column.shape[1]
    return np.pad(column, ((0, 0), (0, missing)), constant_values=filler) if missing > 0 else column[:, :n]
