"""What histories say about items, as collaborative filtering reads them: how strongly, and how long ago."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from zhiyin.contracts.updating import weights_of
from zhiyin.data.dataset import Dataset
from zhiyin.domain import FloatArray, Histories

NO_WEIGHTS = np.ones(1, dtype=np.float32)
"""Event weights of data that does not weigh its event kinds."""


def relative_weights(dataset: Dataset) -> FloatArray:
    """Return (number of kinds,) float32 event weights from 0 to 1, the strongest kind being 1."""
    weights = np.maximum(dataset.event_weights, 0).astype(np.float32)
    largest = float(weights.max(initial=0.0))
    return weights / np.float32(largest) if largest > 0 else np.ones_like(weights)


@dataclass(frozen=True, eq=False)
class Preferences:
    """B histories in which runs on one item, such as view, cart, purchase, count once.

    Attributes:
        events: B histories, T events.
        worth: (T,) float32 > 0, what each is worth: as much as the strongest event of its run.
    """

    events: Histories
    worth: FloatArray

    @classmethod
    def of(cls, histories: Histories, event_weights: FloatArray, *, length: int) -> Preferences:
        """Read histories.

        Args:
            histories: B histories; events of a kind without worth say nothing and are passed over.
            event_weights: As `relative_weights` gives them.
            length: Newest events of each history that are looked at, runs counted once.
        """
        worth = weights_of(event_weights, histories.event_index)
        if (worth <= 0).any():
            kept = worth > 0
            histories, worth = histories.where(kept), worth[kept]
        row, item = histories.row_of_event, histories.item_index
        starts = np.ones(len(item), dtype=np.bool_)
        starts[1:] = (item[1:] != item[:-1]) | (row[1:] != row[:-1])
        if not starts.all():
            worth = np.maximum.reduceat(worth, np.flatnonzero(starts))
            histories = histories.where(np.append(starts[1:], True))
        newest = histories.age_of_event < length
        if not newest.all():
            histories, worth = histories.where(newest), worth[newest]
        return cls(histories, worth)

    def aged(self, decay: float) -> FloatArray:
        """Return (T,) float32: the worth of each event times ``decay`` for every newer one."""
        weights: FloatArray = self.worth * np.float32(decay) ** self.events.age_of_event.astype(np.float32)
        return weights

    def summed(self, n_items: int, *, decay: float = 1.0) -> sp.csr_array:
        """Return (B, I) sparse float32 > 0: what the events of a user on an item are worth together."""
        cells, weights = self._cells(n_items, decay)
        matrix = sp.csr_array((weights, cells), shape=(len(self.events), n_items), dtype=np.float32)
        matrix.sum_duplicates()
        return matrix

    def strongest(self, n_items: int, *, decay: float = 1.0) -> sp.csr_array:
        """Return (B, I) sparse float32 > 0: the worth of the strongest event of a user on an item."""
        (row, item), weights = self._cells(n_items, decay)
        order = np.lexsort((weights, item, row))
        row, item, weights = row[order], item[order], weights[order]
        last = np.ones(len(row), dtype=np.bool_)
        last[:-1] = (row[1:] != row[:-1]) | (item[1:] != item[:-1])
        cells = (row[last], item[last])
        return sp.csr_array((weights[last], cells), shape=(len(self.events), n_items), dtype=np.float32)

    def _cells(
        self, n_items: int, decay: float
    ) -> tuple[tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]], FloatArray]:
        weights = self.aged(decay)
        known = (self.events.item_index < n_items) & (weights > 0)
        row, item = self.events.row_of_event[known], self.events.item_index[known]
        # As narrow as the items: a product with a wide index would widen the other matrix each time.
        return (row.astype(np.int32), item), weights[known]
