"""Who took what, and how much it counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zhiyin.data.dataset import Dataset
from zhiyin.domain import FloatArray, Histories, LongArray


@dataclass(frozen=True, eq=False)
class EventWorth:
    """What an event counts: what its kind counts, or nothing when its value says that it was not liked.

    Attributes:
        of_kind: (number of kinds,) float32 ≥ 0.
        liked_from: Events with a lower value count nothing; NaN when there is no such threshold.
    """

    of_kind: FloatArray
    liked_from: float = float("nan")

    @classmethod
    def of(cls, dataset: Dataset) -> EventWorth:
        """Read it from a dataset; a kind of negative weight counts nothing."""
        of_kind = np.maximum(dataset.event_weights, 0.0).astype(np.float32)
        return cls(of_kind, float("nan") if dataset.positive_value is None else dataset.positive_value)

    def __call__(self, histories: Histories) -> FloatArray:
        """Return (T,) float32 ≥ 0."""
        worth = self.of_kind.take(histories.event_index, mode="clip")
        if not np.isnan(self.liked_from):
            worth = np.where(histories.value < self.liked_from, np.float32(0.0), worth)
        return worth


@dataclass(frozen=True, eq=False)
class Taken:
    """P pairs of user and item, each once, sorted by user and then by item.

    Attributes:
        n_users: U.
        n_items: I.
        user: (P,) int64.
        item: (P,) int64.
        weight: (P,) float32 > 0, what the events of the pair count together.
    """

    n_users: int
    n_items: int
    user: LongArray
    item: LongArray
    weight: FloatArray

    @classmethod
    def of(cls, dataset: Dataset, worth: EventWorth) -> Taken:
        """Add up the events of each pair; pairs that count nothing are left out."""
        histories = dataset.histories
        cell = histories.row_of_event * dataset.n_items + histories.item_index
        pair, place = np.unique(cell, return_inverse=True)
        weight = np.bincount(place, weights=worth(histories), minlength=len(pair)).astype(np.float32)
        user, item = np.divmod(pair[weight > 0], max(dataset.n_items, 1))
        return cls(len(histories), dataset.n_items, user, item, weight[weight > 0])

    @property
    def item_counts(self) -> npt.NDArray[np.float64]:
        """(I,) float64: the weights of each item together."""
        counts = np.bincount(self.item, weights=self.weight, minlength=self.n_items)
        return counts.astype(np.float64)


@dataclass(frozen=True, eq=False)
class DrawnPairs:
    """Deals pairs into batches, each pair as often as it counts.

    An epoch draws as many pairs as there are, in equal steps along their weights laid end to end from a
    random start: with equal weights each pair comes once, otherwise as often as its share of the weight says,
    rounded up or down. The draw depends on the seed and the epoch alone, so a killed run finds it again.

    Attributes:
        weight: (P,) float32 > 0.
        pairs_per_batch: At least 1.
        seed: Of the draws.
    """

    weight: FloatArray
    pairs_per_batch: int
    seed: int

    def epoch(self, epoch: int) -> Sequence[LongArray]:
        """Return the batches of an epoch, each the places of its pairs."""
        random = np.random.default_rng([self.seed, epoch])
        ends = np.cumsum(self.weight, dtype=np.float64)
        n_pairs = len(ends)
        if not n_pairs:
            return []
        at = (np.arange(n_pairs) + random.random()) * (ends[-1] / n_pairs)
        drawn = random.permutation(np.minimum(np.searchsorted(ends, at, side="right"), n_pairs - 1))
        n_batches = -(-n_pairs // self.pairs_per_batch)
        return np.array_split(drawn, n_batches)
