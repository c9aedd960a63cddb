"""What training foretells: every event of every history, from the events before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zhiyin.data.dataset import Dataset
from zhiyin.domain import BoolArray, FloatArray, LongArray
from zhiyin.domain.arrays import flat_positions


@dataclass(frozen=True, eq=False)
class Pieces:
    """Histories cut into pieces that are foretold together, so that few texts serve many events.

    A piece foretells at most as many events as a history may hold, and reads as many before the first of
    them; so every event but the first of a history is foretold exactly once, from all it may be read from.

    Attributes:
        items: (T,) int64, the item of every event of all histories.
        age: (T,) int64, how many events of the same history stand before it.
        weight: (T,) float32, how much foretelling an event counts.
        first: (S,) int64, position of the first event that a piece foretells.
        n_foretold: (S,) int64 at least 1.
        history_length: Events read before each, at most.
    """

    items: LongArray
    age: LongArray
    weight: FloatArray
    first: LongArray
    n_foretold: LongArray
    history_length: int

    @classmethod
    def of(cls, dataset: Dataset, has_words: BoolArray, history_length: int) -> Pieces:
        """Cut the histories of a dataset.

        Args:
            dataset: To learn from.
            has_words: (I,) bool; events on other items are passed over.
            history_length: Events read before each, at most.
        """
        histories = dataset.histories
        histories = histories.where(has_words[histories.item_index]).without_repeats()
        weight = np.maximum(dataset.event_weights, 0.0)[histories.event_index]
        if dataset.positive_value is not None:
            weight = np.where(histories.value < dataset.positive_value, 0.0, weight)
        n_targets = np.maximum(histories.lengths - 1, 0)
        n_pieces = -(-n_targets // history_length)
        done = flat_positions(np.zeros(len(n_pieces), dtype=np.int64), n_pieces) * history_length
        return cls(
            histories.item_index.astype(np.int64),
            np.arange(histories.n_events) - histories.offsets[:-1][histories.row_of_event],
            weight.astype(np.float32),
            np.repeat(histories.offsets[:-1], n_pieces) + 1 + done,
            np.minimum(history_length, np.repeat(n_targets, n_pieces) - done),
            history_length,
        )

    @property
    def lengths(self) -> LongArray:
        """(S,) int64, events of each piece, those that are only read included."""
        return self.n_foretold + np.minimum(self.age[self.first], self.history_length)

    def step(self, pieces: npt.NDArray[np.int64]) -> Step:
        """Gather what a step of training on some pieces needs."""
        position = flat_positions(self.first[pieces], self.n_foretold[pieces])
        position = position[self.weight[position] > 0]
        n_before = np.minimum(self.age[position], self.history_length)
        read = flat_positions(position - n_before, n_before)
        items, place = np.unique(
            np.concatenate([self.items[position], self.items[read]]), return_inverse=True
        )
        return Step(
            items,
            place[len(position) :],
            np.repeat(position, n_before) - read - 1,
            np.repeat(np.arange(len(position)), n_before),
            place[: len(position)],
            self.weight[position],
        )


class Step(NamedTuple):
    """One step of training as small arrays.

    Attributes:
        items: (S,) int64, the items whose texts are read.
        history: (E,) int64, which of them the events of the histories are on, one history after the other.
        age: (E,) int64, 0 for the newest event of its history.
        row: (E,) int64, whose event it is.
        target: (B,) int64, which of them came next.
        weight: (B,) float32 above 0.
    """

    items: LongArray
    history: LongArray
    age: LongArray
    row: LongArray
    target: LongArray
    weight: FloatArray
