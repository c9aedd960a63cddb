"""What the simulated shop shows at the start of a visit: a mixture whose propensities are known exactly."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from zhiyin.data.shop.properties import Properties
from zhiyin.domain import PAD, BoolArray, FloatArray, IndexArray

SHARE_POPULAR = 0.5
SHARE_SIMILAR = 0.3
SHARE_RANDOM = 0.2
DAYS_PER_VERSION = 7
_N_POPULAR = 400
_MOST_REDRAWS = 1_000


@dataclass(eq=False)
class LoggingPolicy:
    """Draws slates without replacement from a mixture of three distributions over the items in the shop.

    The mixture for one query is q = .5 popular + .3 similar to the last item + .2 uniform, where popular
    is proportional to sqrt(1 + recent touches) over the 400 most touched items, renewed once a week, and
    a query without a last item (or nothing similar in the shop) gives that share to uniform. The item at
    rank k is drawn from q restricted to items not above it, so its propensity given those above is
    q(i) / (1 - Σ q(items above)) (Plackett and Luce).

    Attributes:
        items: The catalogue.
        day: The current day.
        popular: (at most 400,) int32, the items of the popular part; ``popular_share`` their probabilities.
    """

    items: Properties
    day: int = 0
    popular: IndexArray = field(default_factory=lambda: np.empty(0, dtype=np.int32))
    popular_share: FloatArray = field(default_factory=lambda: np.empty(0, dtype=np.float32))

    def __post_init__(self) -> None:
        self._by_arrival = np.argsort(self.items.arrival, kind="stable").astype(np.int32)
        self._arrivals = self.items.arrival[self._by_arrival]
        self._dense_popular = np.zeros(len(self.items))

    @property
    def version(self) -> str:
        """Name of the policy as it stands this week, such as ``shop-week-03``."""
        return f"shop-week-{self.day // DAYS_PER_VERSION:02d}"

    @property
    def n_in_shop(self) -> int:
        """Items that have arrived by today."""
        return int(np.searchsorted(self._arrivals, self.day, side="right"))

    def open_day(self, day: int, touches: np.ndarray) -> None:
        """Begin a day; once a week, learn anew what is popular.

        Args:
            day: Counted from 0.
            touches: (I,) float, recent touches of each item.
        """
        self.day = day
        if day % DAYS_PER_VERSION == 0 or len(self.popular) == 0:
            arrived = self._by_arrival[: self.n_in_shop]
            keys = -touches[arrived]
            self.popular = arrived[np.argsort(keys, kind="stable")[:_N_POPULAR]]
            share = np.sqrt(1.0 + touches[self.popular])
            self.popular_share = (share / share.sum()).astype(np.float32)
            self._dense_popular[:] = 0.0
            self._dense_popular[self.popular] = share / share.sum()

    def probability(self, last_item: IndexArray, item_index: IndexArray) -> np.ndarray:
        """Return q.

        Args:
            last_item: (B,) int32, -1 for a user without any.
            item_index: (B, N) int32.

        Returns:
            (B, N) float64, the chance that each item is drawn at rank 1.
        """
        similar, n_similar = self._similar(last_item)
        share_similar = np.where(n_similar > 0, SHARE_SIMILAR, 0.0)[:, None]
        is_similar = (similar[:, None, :] == item_index[:, :, None]).any(axis=2)
        in_shop = self.items.arrival[item_index] <= self.day
        uniform = (SHARE_RANDOM + SHARE_SIMILAR - share_similar) * in_shop / self.n_in_shop
        near = share_similar * is_similar / np.maximum(n_similar, 1)[:, None]
        q: np.ndarray = SHARE_POPULAR * self._dense_popular[item_index] + near + uniform
        return q

    def show(
        self, last_item: IndexArray, n_ranks: int, rng: np.random.Generator
    ) -> tuple[IndexArray, FloatArray]:
        """Draw slates.

        Args:
            last_item: (B,) int32, -1 for a user without any.
            n_ranks: Length of a slate, less than the number of items in the shop.
            rng: Where chance comes from.

        Returns:
            Items (B, n_ranks) int32, all different within a slate, and (B, n_ranks) float32 propensities
            of each given those above it.
        """
        slate = np.full((len(last_item), n_ranks), PAD, dtype=np.int32)
        for rank in range(n_ranks):
            open_rows = np.arange(len(last_item))
            for _ in range(_MOST_REDRAWS):
                drawn = self._draw(last_item[open_rows], rng)
                again = (slate[open_rows, :rank] == drawn[:, None]).any(axis=1)
                slate[open_rows[~again], rank] = drawn[~again]
                open_rows = open_rows[again]
                if not len(open_rows):
                    break
        q = self.probability(last_item, slate)
        above = np.cumsum(q, axis=1) - q
        return slate, (q / (1.0 - above)).astype(np.float32)

    def _draw(self, last_item: IndexArray, rng: np.random.Generator) -> IndexArray:
        """Draw one item from q for each of (B,) queries."""
        n = len(last_item)
        part = rng.random(n)
        similar, n_similar = self._similar(last_item)
        drawn = self._by_arrival[rng.integers(0, self.n_in_shop, n)]
        ladder = np.cumsum(self.popular_share, dtype=np.float64)
        place = np.searchsorted(ladder / ladder[-1], rng.random(n), side="right")
        drawn = np.where(part < SHARE_POPULAR, self.popular[place], drawn)
        # Sorting the gaps to the back lets one uniform draw pick among those that are in the shop.
        packed = np.take_along_axis(similar, np.argsort(similar == PAD, axis=1, kind="stable"), axis=1)
        picked = packed[np.arange(n), (rng.random(n) * n_similar).astype(np.int64)]
        near = (part >= SHARE_POPULAR) & (part < SHARE_POPULAR + SHARE_SIMILAR) & (n_similar > 0)
        return np.where(near, picked, drawn).astype(np.int32)

    def _similar(self, last_item: IndexArray) -> tuple[IndexArray, np.ndarray]:
        """Return (B, 12) items similar to the last one and in the shop, -1 pads, and (B,) how many."""
        similar = self.items.similar[np.maximum(last_item, 0)]
        shown: BoolArray = (similar != PAD) & (self.items.arrival[similar] <= self.day)
        shown &= (last_item != PAD)[:, None]
        return np.where(shown, similar, np.int32(PAD)), shown.sum(axis=1)
