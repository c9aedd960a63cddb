"""Items under consideration, with named score columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from zhiyin.domain.arrays import PAD, BoolArray, FloatArray, IndexArray
from zhiyin.domain.errors import ShapeMismatch, did_you_mean


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

    def at(self, positions: IndexArray) -> Candidates:
        """Return the candidates at (B, M) positions of the N axis."""
        columns = {name: np.take_along_axis(col, positions, axis=1) for name, col in self.columns.items()}
        return Candidates(np.take_along_axis(self.item_index, positions, axis=1), columns)

    def top(self, n: int, *, by: str) -> Candidates:
        """Return the ``n`` best by a column, best first; padding and NaN last.

        Equal scores keep the order in which they stand.
        """
        scores = self.column(by)
        keys = np.where(self.is_item & ~np.isnan(scores), -scores, np.inf)
        n = min(n, self.n_per_query)
        if n < self.n_per_query // 4:
            order = _partial_order(keys, n)
        else:
            order = np.argsort(keys, axis=1, kind="stable")[:, :n]
        best = self.at(order.astype(np.int32))
        return best.without(np.isposinf(np.take_along_axis(keys, order, axis=1)) & best.is_item)


def _partial_order(keys: FloatArray, n: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Positions of the ``n`` smallest keys in order; ties at the cut keep the earliest positions."""
    cut = np.partition(keys, n - 1, axis=1)[:, n - 1 : n]
    below = keys < cut
    n_ties_kept = n - below.sum(axis=1, keepdims=True)
    at_cut = keys == cut
    kept = below | (at_cut & (np.cumsum(at_cut, axis=1) <= n_ties_kept))
    positions = np.nonzero(kept)[1].reshape(len(keys), n)
    order = np.argsort(np.take_along_axis(keys, positions, axis=1), axis=1, kind="stable")
    return np.take_along_axis(positions, order, axis=1)


def _check_column(name: str, column: FloatArray, item_index: IndexArray) -> None:
    if column.shape != item_index.shape or column.dtype != np.float32:
        raise ShapeMismatch(
            f"Column '{name}' must be float32 of shape {item_index.shape}; got {column.dtype} {column.shape}."
        )
