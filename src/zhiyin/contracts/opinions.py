"""What a source says about a batch of queries, asked first for the best items and then for given ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from zhiyin.contracts.scores import best_positions, nan_unless
from zhiyin.domain import PAD, Barred, FloatArray, Histories, IndexArray, LongArray
from zhiyin.domain.arrays import flat_positions

_FEW_ALLOWED = 8
"""When at most one item of so many is allowed, the allowed ones are picked out before they are ranked."""
_CELLS_PER_EDGE = 64
"""Edges are added up in a dense matrix as long as it has at most so many cells for each of them …"""
_MOST_CELLS = 4_000_000
"""… and at most so many at all: 16 MB."""


class Opinion(ABC):
    """What one source says about B queries. Made once a batch by `CandidateSource.ask`."""

    @abstractmethod
    def best(self, n: int, barred: Barred) -> IndexArray:
        """Return up to ``n`` items a query that are not barred, none better being left out.

        Args:
            n: At least 1.
            barred: Of the same B queries, for a catalogue that may hold more items than the source knows.

        Returns:
            (B, M) int32, each item once in a row, -1 anywhere for "none"; M may be anything. Of equally good
            items those with the lower index; items without a score never.
        """

    @abstractmethod
    def at(self, item_index: IndexArray) -> FloatArray:
        """Score given items (B, N) int32, -1 pads.

        Returns:
            (B, N) float32; NaN for padding, for items the source does not know and where it has no opinion.
        """


@dataclass(frozen=True, eq=False)
class DenseOpinion(Opinion):
    """A score for every item.

    Attributes:
        scores: (B, I) float32 without NaN. It belongs to the opinion, which writes into it for a moment.
        silence: Scores not above it mean "no opinion".
    """

    scores: FloatArray
    silence: float = -np.inf

    @classmethod
    def of_scores(cls, scores: FloatArray) -> DenseOpinion:
        """Take what `CandidateSource.score_all` returns, NaN where there is no opinion."""
        return cls(np.where(np.isnan(scores), np.float32(-np.inf), scores).astype(np.float32, copy=False))

    def all(self) -> FloatArray:
        """Return (B, I) float32, NaN where there is no opinion."""
        return np.where(self.scores > self.silence, self.scores, np.float32(np.nan))

    def best(self, n: int, barred: Barred) -> IndexArray:
        """See `Opinion.best`."""
        barred = barred.among(self.scores.shape[1])
        kept = self.scores[barred.row, barred.item]
        self.scores[barred.row, barred.item] = self.silence
        try:
            return self._best_open(n, barred)
        finally:
            self.scores[barred.row, barred.item] = kept

    def _best_open(self, n: int, barred: Barred) -> IndexArray:
        columns = barred.open_to_all
        if columns is None:
            return best_positions(self.scores, n, above=self.silence)
        columns = columns[columns < self.scores.shape[1]]
        if len(columns) * _FEW_ALLOWED > self.scores.shape[1]:
            assert barred.for_all is not None
            masked = np.where(barred.for_all, np.float32(self.silence), self.scores)
            return best_positions(masked, n, above=self.silence)
        place = best_positions(self.scores[:, columns], n, above=self.silence)
        if not len(columns):
            return place
        return np.where(place == PAD, PAD, columns[place]).astype(np.int32)

    def at(self, item_index: IndexArray) -> FloatArray:
        """See `Opinion.at`."""
        n_queries, n_items = self.scores.shape
        if not n_items:
            return np.full(item_index.shape, np.nan, dtype=np.float32)
        cell = item_index + np.arange(n_queries, dtype=np.int64)[:, None] * n_items
        picked = self.scores.ravel().take(cell, mode="clip")
        is_heard = (picked > self.silence) & (item_index >= 0) & (item_index < n_items)
        scores: FloatArray = picked + nan_unless(is_heard)
        return scores


@dataclass(frozen=True, eq=False)
class SparseOpinion(Opinion):
    """Scores for a few items of a large catalogue.

    Attributes:
        n_queries: B.
        n_items: I.
        cell: (M,) int64, rising: ``row × I + item`` of every score.
        scores: (M,) float32.
    """

    n_queries: int
    n_items: int
    cell: LongArray
    scores: FloatArray

    def best(self, n: int, barred: Barred) -> IndexArray:
        """See `Opinion.best`."""
        barred = barred.among(self.n_items)
        is_open = np.ones(len(self.cell), dtype=np.bool_)
        place, is_there = self._find(barred.row * self.n_items + barred.item)
        is_open[place[is_there]] = False
        cell, scores = self.cell[is_open], self.scores[is_open]
        item = cell % self.n_items
        if barred.for_all is not None:
            is_open = ~barred.for_all[item]
            cell, scores, item = cell[is_open], scores[is_open], item[is_open]
        starts = np.searchsorted(cell, np.arange(self.n_queries + 1) * self.n_items)
        lengths = np.diff(starts)
        row = np.repeat(np.arange(self.n_queries), lengths)
        column = np.arange(len(cell)) - starts[row]
        ragged = np.full((self.n_queries, int(lengths.max(initial=0))), -np.inf, dtype=np.float32)
        ragged[row, column] = scores
        chosen = best_positions(ragged, n, above=-np.inf)
        if not len(item):
            return chosen
        flat = np.where(chosen == PAD, 0, chosen + starts[:-1, None])
        return np.where(chosen == PAD, PAD, item[flat]).astype(np.int32)

    def at(self, item_index: IndexArray) -> FloatArray:
        """See `Opinion.at`."""
        is_known = (item_index >= 0) & (item_index < self.n_items)
        cell = item_index + np.arange(self.n_queries, dtype=np.int64)[:, None] * self.n_items
        place, is_there = self._find(cell.ravel())
        if not len(self.cell):
            return np.full(item_index.shape, np.nan, dtype=np.float32)
        return self.scores[place].reshape(cell.shape) + nan_unless(is_there.reshape(cell.shape) & is_known)

    def _find(self, cell: LongArray) -> tuple[LongArray, np.ndarray[tuple[int, ...], np.dtype[np.bool_]]]:
        """Return the places of some cells, and which of them are there at all."""
        if not len(self.cell):
            return np.zeros(len(cell), dtype=np.int64), np.zeros(len(cell), dtype=np.bool_)
        place = np.minimum(np.searchsorted(self.cell, cell), len(self.cell) - 1)
        return place, self.cell[place] == cell


class SparseRows(Protocol):
    """What `scipy.sparse.csr_array` and others have: row r is ``indptr[r]:indptr[r + 1]`` of the others."""

    indptr: npt.NDArray[np.integer]
    indices: npt.NDArray[np.integer]
    data: FloatArray


@dataclass(frozen=True, eq=False)
class Edges:
    """What leads from histories to items; edges of one query to one item add up.

    Attributes:
        row: (M,) int64, the query.
        item: (M,) integers, the item it leads to.
        weight: (M,) float32 > 0.
    """

    row: LongArray
    item: npt.NDArray[np.integer]
    weight: FloatArray

    @classmethod
    def walked(
        cls, histories: Histories, weights: FloatArray, matrix: SparseRows, *, first_item: int = 0
    ) -> Edges:
        """Follow the edges of a sparse matrix from every event of some histories.

        Args:
            histories: B histories; events on items that have no row lead nowhere.
            weights: (T,) float32, what each event counts.
            matrix: (R, I), row r holding the edges of item ``first_item + r``.
            first_item: The item of the first row.
        """
        row, start_row = histories.row_of_event, histories.item_index - first_item
        has_row = (start_row >= 0) & (start_row < len(matrix.indptr) - 1)
        if not has_row.all():
            row, start_row, weights = row[has_row], start_row[has_row], weights[has_row]
        starts = matrix.indptr[start_row].astype(np.int64)
        lengths = matrix.indptr[start_row + 1] - starts
        edge = flat_positions(starts, lengths)
        weight = matrix.data[edge] * np.repeat(weights, lengths)
        return cls(np.repeat(row, lengths), matrix.indices[edge], weight)

    def joined(self, other: Edges) -> Edges:
        """Return the edges of both."""
        return Edges(
            np.concatenate([self.row, other.row]),
            np.concatenate([self.item, other.item]),
            np.concatenate([self.weight, other.weight]),
        )

    def opinion(self, n_queries: int, n_items: int) -> Opinion:
        """Add up: (B, I) where that is small, a list of what is reached where the catalogue is large."""
        cell = self.row * n_items + self.item
        n_cells = n_queries * n_items
        if n_cells <= min(_MOST_CELLS, _CELLS_PER_EDGE * max(len(cell), 1)):
            scores = np.zeros(n_cells, dtype=np.float32)
            np.add.at(scores, cell, self.weight)
            return DenseOpinion(scores.reshape(n_queries, n_items), silence=0.0)
        return _summed(cell, self.weight, n_queries, n_items)


def _summed(cell: LongArray, weight: FloatArray, n_queries: int, n_items: int) -> SparseOpinion:
    """Add up the weights of equal cells; sorted as one integer, which numpy does several times faster."""
    if n_queries * n_items < 2**31:
        packed = (cell << 32) | np.ascontiguousarray(weight, dtype=np.float32).view(np.uint32)
        packed.sort()
        cell, weight = packed >> 32, packed.astype(np.int32).view(np.float32)
    else:
        order = np.lexsort((weight, cell))
        cell, weight = cell[order], weight[order]
    if not len(cell):
        return SparseOpinion(n_queries, n_items, cell, weight)
    first = np.flatnonzero(np.diff(cell, prepend=-1))
    sums = np.add.reduceat(weight, first)
    is_heard = sums > 0  # a weight may be too small for float32
    return SparseOpinion(n_queries, n_items, cell[first[is_heard]], sums[is_heard])
