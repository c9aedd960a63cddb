"""How alike items are, from the users who have both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from zhiyin.domain import FloatArray

Similarity = Literal["cosine", "jaccard", "conditional", "lift"]
_ITEMS_AT_ONCE = 1024
"""Rows of the co-occurrence matrix that are in memory at once before they are pruned."""


@dataclass(frozen=True)
class Likeness:
    """A likeness and its shrinkage; the equations stand at `zhiyin.sources.item_neighbours.ItemNeighbours`.

    Attributes:
        similarity: Which one.
        shrinkage: Co-occurrences that count as none.
        n_users: Users with any event; only the lift asks for it.
    """

    similarity: Similarity
    shrinkage: float
    n_users: int

    @property
    def power(self) -> int:
        """To which power the weight of an item with a user counts in the sum of the item."""
        return 2 if self.similarity in ("cosine", "jaccard") else 1

    def of(
        self,
        together: npt.NDArray[np.floating],
        of_row: npt.NDArray[np.floating],
        of_column: npt.NDArray[np.floating],
    ) -> npt.NDArray[np.floating]:
        """Return (n,) likenesses of pairs from the sums of both, of the first and of the second."""
        if self.similarity == "cosine":
            alike = together / np.sqrt(of_row * of_column)
        elif self.similarity == "jaccard":
            alike = together / (of_row + of_column - together)
        elif self.similarity == "conditional":
            alike = together / of_row
        else:
            alike = together / of_row * (self.n_users / of_column)
        return alike * (together / (together + np.float32(self.shrinkage)))


def likeness_of(
    had: sp.csr_array, measure: Likeness, *, damping: float, n_neighbours: int
) -> tuple[sp.csr_array, sp.csr_array, FloatArray]:
    """Compare all items that somebody has together, and keep the most alike of each.

    Args:
        had: (U, I) sparse float32, weight of each item with each user.
        measure: Likeness and shrinkage.
        damping: A user with n items counts n ** -damping.
        n_neighbours: Items kept of each.

    Returns:
        Likenesses and the sums behind them, (I, I) sparse float32 of the same cells with rising columns, and
        the (I,) float32 sums of the items.
    """
    n_of_user = np.diff(had.indptr)
    of_user = np.maximum(n_of_user, 1).astype(np.float32) ** np.float32(-damping)
    damped, powered = had.copy(), had.copy()
    damped.data = had.data * np.repeat(of_user, n_of_user)
    powered.data = damped.data * had.data ** (measure.power - 1)
    of_items = np.asarray(powered.sum(axis=0)).astype(np.float32)
    by_item = sp.csr_array(damped.T)
    n_items = had.shape[1]
    blocks = [
        _pruned(by_item[start : start + _ITEMS_AT_ONCE] @ had, start, of_items, measure, n_neighbours)
        for start in range(0, max(n_items, 1), _ITEMS_AT_ONCE)
    ]
    likeness, sums = (
        sp.csr_array(sp.vstack(part, format="csr"), dtype=np.float32) for part in zip(*blocks, strict=True)
    )
    return likeness, sums, of_items


def _pruned(
    together: sp.csr_array, first_item: int, of_items: FloatArray, measure: Likeness, n_neighbours: int
) -> tuple[sp.csr_array, sp.csr_array]:
    """Turn sums of a few rows into likenesses, and keep the largest of each row.

    Args:
        together: (M, I) sparse, sums of pairs for items ``first_item`` to ``first_item + M``.
        first_item: The item of the first row.
        of_items: (I,) float32, the sum of each item.
        measure: Likeness and shrinkage.
        n_neighbours: Kept of each row.
    """
    pairs = sp.coo_array(together)
    apart = pairs.row + first_item != pairs.col
    row, column, both = pairs.row[apart], pairs.col[apart], pairs.data[apart]
    alike = measure.of(both, of_items[row + first_item], of_items[column])
    order = np.lexsort((column, -alike, row))
    row = row[order]
    starts = np.searchsorted(row, np.arange(together.shape[0]))
    place = np.arange(len(row)) - starts[row]
    kept = order[place < n_neighbours]
    cells = (pairs.row[apart][kept], column[kept])
    likeness, sums = (
        sp.csr_array((values[kept].astype(np.float32), cells), shape=together.shape)
        for values in (alike, both)
    )
    likeness.sort_indices()
    sums.sort_indices()
    return likeness, sums
