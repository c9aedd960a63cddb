"""What training leaves behind: vectors, and how a history is read with them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from zhiyin.contracts import ComponentState
from zhiyin.domain import PAD, BoolArray, FloatArray, Histories, IndexArray, Queries
from zhiyin.sources.factors.taken import EventWorth

EVENTS_EXPLAINED = 200
"""Newest events of a history among which a reason is looked for."""
_NUMBERS_AT_ONCE = 1 << 22
"""Numbers of vectors gathered at once while reasons are looked for: 16 MB."""


@dataclass(frozen=True, eq=False)
class FactorSpace:
    """Vectors of items, and what makes the vector of a user out of a history.

    With w the worth of an event times ``decay`` to the power of its age, the vector of a user is
    ``start + Σ w h(item) / (Σ w) ** divided_by``, and the score of an item its inner product with q(item).

    Attributes:
        history_vectors: (I, D) float32, h.
        item_vectors: (I, D) float32, q.
        start: (D,) float32.
        divided_by: 1 makes a mean of the sum, 0.5 is the symmetric normalisation of a graph.
        decay: What each step back in a history is multiplied by.
        worth: What an event counts.
        is_touched: (I,) bool, items that training saw; on others there is no opinion.
    """

    history_vectors: FloatArray
    item_vectors: FloatArray
    start: FloatArray
    divided_by: float
    decay: float
    worth: EventWorth
    is_touched: BoolArray

    def decayed(self, decay: float) -> FactorSpace:
        """Return the same vectors with another decay."""
        return replace(self, decay=decay)

    def read(self, histories: Histories) -> tuple[FloatArray, BoolArray]:
        """Return the vectors of B users, (B, D) float32, and (B,) bool: the history says nothing."""
        weights, items = self._weights(histories)
        shape = (len(histories), len(self.history_vectors))
        marks = sp.csr_array((weights, items, histories.offsets), shape=shape)
        total = np.add.reduceat(np.append(weights, np.float32(0.0)), histories.offsets[:-1])
        total = np.where(histories.lengths > 0, total, np.float32(0.0)).astype(np.float32)
        is_silent = total <= 0
        scale = np.where(is_silent, np.float32(1.0), total) ** np.float32(self.divided_by)
        users = self.start + (marks @ self.history_vectors) / scale[:, None]
        return users.astype(np.float32, copy=False), is_silent

    def score(self, queries: Queries) -> FloatArray:
        """Return (B, I) float32, minus infinity where there is no opinion."""
        users, is_silent = self.read(queries.histories)
        scores: FloatArray = users @ self.item_vectors.T
        scores[is_silent] = -np.inf
        scores[:, ~self.is_touched] = -np.inf
        return scores

    def strongest_event(self, histories: Histories, item_index: IndexArray) -> IndexArray:
        """Return (B, N) int32: the other item of each history that adds most to each score, -1 for none."""
        recent = histories.newest(EVENTS_EXPLAINED)
        numbers = max(int(recent.lengths.max(initial=1)), item_index.shape[1]) * len(self.start)
        at_once = max(1, _NUMBERS_AT_ONCE // max(numbers, 1))
        reasons = np.full(item_index.shape, PAD, dtype=np.int32)
        for start in range(0, len(recent), at_once):
            part = recent.slice(start, start + at_once)
            reasons[start : start + at_once] = self._strongest(part, item_index[start : start + at_once])
        return reasons

    def _strongest(self, histories: Histories, item_index: IndexArray) -> IndexArray:
        length = max(int(histories.lengths.max(initial=1)), 1)
        items = histories.padded_items(length)
        weights = np.zeros(items.shape, dtype=np.float32)
        weights[histories.row_of_event, length - 1 - histories.age_of_event] = self._weights(histories)[0]
        n_items = len(self.item_vectors)
        is_known = (item_index >= 0) & (item_index < n_items)
        of_events = self.history_vectors[np.clip(items, 0, n_items - 1)] * weights[:, :, None]
        of_items = self.item_vectors[np.where(is_known, item_index, 0)]
        added = of_items @ of_events.transpose(0, 2, 1)  # (B, N, events)
        added[item_index[:, :, None] == items[:, None, :]] = -np.inf
        best = added.argmax(axis=2)
        is_reason = is_known & (np.take_along_axis(added, best[:, :, None], axis=2)[..., 0] > 0)
        return np.where(is_reason, np.take_along_axis(items, best, axis=1), np.int32(PAD)).astype(np.int32)

    def _weights(self, histories: Histories) -> tuple[FloatArray, IndexArray]:
        """Return what each event counts, (T,) float32, and its item, 0 where it is not known."""
        n_items = len(self.is_touched)
        items = histories.item_index
        is_known = (items >= 0) & (items < n_items)
        items = np.where(is_known, items, np.int32(0))
        is_known &= self.is_touched[items]
        age = histories.age_of_event.astype(np.float32)
        weights = self.worth(histories) * np.float32(self.decay) ** age * is_known
        return weights.astype(np.float32, copy=False), items

    def state(self) -> ComponentState:
        """Return everything as arrays and facts."""
        arrays: dict[str, npt.NDArray[np.generic]] = {
            "history_vectors": self.history_vectors,
            "item_vectors": self.item_vectors,
            "start": self.start,
            "is_touched": self.is_touched,
            "event_weights": self.worth.of_kind,
        }
        liked_from = None if np.isnan(self.worth.liked_from) else self.worth.liked_from
        facts = {"divided_by": self.divided_by, "history_decay": self.decay, "liked_from": liked_from}
        return ComponentState(arrays, facts)

    @classmethod
    def from_state(cls, state: ComponentState) -> FactorSpace:
        """Read what `state` returned."""
        arrays, facts = state.arrays, state.facts
        liked_from = float("nan") if facts["liked_from"] is None else float(facts["liked_from"])
        return cls(
            arrays["history_vectors"].astype(np.float32),
            arrays["item_vectors"].astype(np.float32),
            arrays["start"].astype(np.float32),
            float(facts["divided_by"]),
            float(facts["history_decay"]),
            EventWorth(arrays["event_weights"].astype(np.float32), liked_from),
            arrays["is_touched"].astype(np.bool_),
        )


@dataclass(frozen=True, eq=False)
class FittedFactors:
    """What training returns.

    Attributes:
        space: Ready to answer.
        facts: What JSON can hold: learning curve, device, sizes.
    """

    space: FactorSpace
    facts: dict[str, Any]
