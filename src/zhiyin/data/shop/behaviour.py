"""Day after day: who visits, what is shown, clicked, found, put into the cart, bought and rated."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from zhiyin.data.shop import truth
from zhiyin.data.shop.config import DAY, START, ShopConfig
from zhiyin.data.shop.logging_policy import LoggingPolicy
from zhiyin.data.shop.memory import Memory
from zhiyin.data.shop.properties import AISLE_OF_DEPARTMENT, Properties
from zhiyin.data.shop.records import Records
from zhiyin.data.shop.users import DEVICES, Tastes
from zhiyin.data.shop.words import TOPICS, index_of
from zhiyin.domain import PAD, BoolArray, FloatArray, IndexArray, LongArray

PAGES = ("recommendation", "search", "series", "goes_with")
"""Where in the shop an item was found."""

VIEW, CART, PURCHASE, RATING = range(4)
EVENT_KINDS = ("view", "cart", "purchase", "rating")

_N_SHELF = 160
_MOST_COMPARED = 20_000
_USERS_PER_SHELF_BLOCK = 1_000
_TEMPERATURE = 0.27
_FAME = 1.0
_SAME_AISLE, _SAME_DEPARTMENT, _SAME_TOPIC = 0.6, 1.2, 1.4
_MOST_FINDS = 5
_KEEPS_LOOKING = 0.62
_NEXT_VOLUME = 0.4
_COMPLEMENT_AFTER_PURCHASE = 0.4
_COMPLEMENT_AFTER_VIEW = 0.1
_SHARE_RATED = 0.5


@dataclass(eq=False)
class Visit:
    """The visits of one day, one a user.

    Attributes:
        user: (B,) int32.
        clock: (B,) int64, UTC seconds, moved on by what the user does.
        device: (B,) int32, place in `DEVICES`.
        number: (B,) int64, of the visit.
        last: (B,) int32, last item touched, -1 for none; ``bought_last`` (B,) whether it was bought.
    """

    user: IndexArray
    clock: LongArray
    device: IndexArray
    number: LongArray
    last: IndexArray
    bought_last: BoolArray


@dataclass(eq=False)
class Simulation:
    """Lets the days pass, and keeps the records."""

    config: ShopConfig
    items: Properties
    tastes: Tastes
    rng: np.random.Generator
    records: Records = field(default_factory=Records)

    def __post_init__(self) -> None:
        self.policy = LoggingPolicy(self.items)
        self.memory = Memory(len(self.tastes), _shelves(self.tastes, self.items, self.rng))
        self.touches = np.zeros(len(self.items))
        self._n_visits = 0

    def run(self) -> Records:
        """Simulate all days."""
        for day in range(self.config.n_days):
            self.touches *= 0.97
            self.policy.open_day(day, self.touches)
            visit = self._open_visits(day)
            if len(visit.user):
                self._look_at_slate(visit)
                self._look_around(visit, day)
                self.memory.last[visit.user] = visit.last
                self.memory.bought_last[visit.user] = visit.bought_last
        return self.records

    def _open_visits(self, day: int) -> Visit:
        """Decide who comes today, more on weekends and a little more before the year ends."""
        weekday = (day + 2) % 7  # opening day is a Wednesday
        rate = self.tastes.visits_per_day * (1.25 if weekday >= 5 else 0.9)
        rate *= 1.0 + 0.15 * np.cos(2 * np.pi * (day + 10) / 365)
        user = np.flatnonzero(self.rng.random(len(rate)) < rate).astype(np.int32)
        n = len(user)
        hour = np.mod(self.tastes.peak_hour[user] + self.rng.normal(0, 2.2, n), 24)
        usual = self.tastes.device[user]
        device = np.where(self.rng.random(n) < 0.85, usual, self.rng.integers(0, len(DEVICES), n))
        number = self._n_visits + np.arange(n)
        self._n_visits += n
        return Visit(
            user,
            START + day * DAY + (hour * 3600).astype(np.int64),
            device.astype(np.int32),
            number,
            self.memory.last[user],
            self.memory.bought_last[user],
        )

    def _look_at_slate(self, visit: Visit) -> None:
        slate, propensity = self.policy.show(visit.last, self.config.slate_size, self.rng)
        liked = truth.affinity(self.tastes, self.items, visit.user, slate)
        clicked = truth.draw_clicks(liked, self.rng) & ~self.memory.knows(visit.user, slate)
        self.records.add_slates(visit.user, visit.clock, slate, propensity, clicked)
        self.records.note_slates(visit.number, visit.device, self.policy.version)
        page = np.zeros(len(visit.user), dtype=np.int32)
        for rank in range(slate.shape[1]):
            self._touch(visit, clicked[:, rank], slate[:, rank], page)

    def _look_around(self, visit: Visit, day: int) -> None:
        """Search and follow links, each find depending on the one before."""
        looking = self.rng.random(len(visit.user)) < 0.9
        for _ in range(_MOST_FINDS):
            found, page = self._find(visit, day)
            self._touch(visit, looking & (found != PAD), found, page)
            looking &= self.rng.random(len(visit.user)) < _KEEPS_LOOKING

    def _find(self, visit: Visit, day: int) -> tuple[IndexArray, IndexArray]:
        """Return (B,) int32 items found, -1 for none, and (B,) int32 on which page, place in `PAGES`."""
        n = len(visit.user)
        found = self._search(visit, day)
        page = np.full(n, PAGES.index("search"), dtype=np.int32)
        last = np.maximum(visit.last, 0)
        goes_with = self.items.complements[last, self.rng.integers(0, self.items.complements.shape[1], n)]
        chance = np.where(visit.bought_last, _COMPLEMENT_AFTER_PURCHASE, _COMPLEMENT_AFTER_VIEW)
        volume = self.items.next_volume[last]
        for name, linked, share in (("goes_with", goes_with, chance), ("series", volume, _NEXT_VOLUME)):
            follows = (
                (self.rng.random(n) < share)
                & (visit.last != PAD)
                & self._can_be_found(visit.user, linked, day)
            )
            found = np.where(follows, linked, found)
            page = np.where(follows, PAGES.index(name), page)
        return found.astype(np.int32), page.astype(np.int32)

    def _can_be_found(self, user: IndexArray, item: IndexArray, day: int) -> BoolArray:
        in_shop = (item != PAD) & (self.items.arrival[item] <= day)
        found: BoolArray = in_shop & ~self.memory.knows(user, item[:, None])[:, 0]
        return found

    def _search(self, visit: Visit, day: int) -> IndexArray:
        """Draw from the user's shelf: softmax of affinity, fame, season and nearness to the last item."""
        shelf = self.memory.shelf[visit.user]
        keys = self.memory.shelf_affinity[visit.user] / np.float32(_TEMPERATURE)
        keys += _FAME * self.items.fame[shelf] + _season(day)[self.items.topic[shelf]]
        department = self.items.department
        aisle = AISLE_OF_DEPARTMENT[department]
        last = visit.last[:, None]
        near = _SAME_AISLE * (aisle[shelf] == aisle[last])
        near += _SAME_DEPARTMENT * (department[shelf] == department[last])
        near += _SAME_TOPIC * (self.items.topic[shelf] == self.items.topic[last])
        keys += np.where(last != PAD, near, 0.0).astype(np.float32)
        keys += self.rng.gumbel(size=keys.shape).astype(np.float32)
        keys[~self.memory.on_shelf[visit.user] | (self.items.arrival[shelf] > day)] = -np.inf
        best = np.argmax(keys, axis=1)
        rows = np.arange(len(shelf))
        return np.where(np.isneginf(keys[rows, best]), np.int32(PAD), shelf[rows, best])

    def _touch(self, visit: Visit, touches: BoolArray, item: IndexArray, page: IndexArray) -> None:
        """Let some users view an item, and perhaps put it into the cart, buy and later rate it."""
        rows = np.flatnonzero(touches)
        user, item, rng = visit.user[rows], item[rows], self.rng
        liked = truth.affinity(self.tastes, self.items, user, item[:, None])[:, 0]
        visit.clock[rows] += rng.integers(15, 180, len(rows))
        carted = rng.random(len(rows)) < truth.cart_probability(liked)
        bought = carted & (rng.random(len(rows)) < truth.purchase_probability(liked))
        rated = bought & (rng.random(len(rows)) < _SHARE_RATED)
        rating = truth.rating_of(liked, rng)
        later = rng.integers(2 * DAY, 9 * DAY, len(rows))
        begin = visit.clock[rows]
        note = (visit.device[rows], page[rows], visit.number[rows])
        nothing = np.full(len(rows), np.nan, dtype=np.float32)
        everyone = np.ones(len(rows), dtype=bool)
        for kind, keep, when, value in (
            (VIEW, everyone, begin, nothing),
            (CART, carted, begin + 20, nothing),
            (PURCHASE, bought, begin + 90, nothing),
            (RATING, rated & (begin + later < START + self.config.n_days * DAY), begin + later, rating),
        ):
            self.records.add_events(keep, user, item, kind, when, value, *note)
        visit.clock[rows] += np.where(bought, 90, np.where(carted, 20, 0))
        visit.last[rows] = item
        visit.bought_last[rows] = bought
        self.memory.learn(user, item)
        np.add.at(self.touches, item, 1.0 + 2.0 * bought)


def _season(day: int) -> FloatArray:
    """Return (number of topics,) float32: what the time of year adds to each topic when people search."""
    season = np.zeros(len(TOPICS), dtype=np.float32)
    summer = -np.cos(2 * np.pi * (day + 10) / 365)
    for key, strength in (
        ("grilling", 0.6),
        ("cycling", 0.6),
        ("the sea", 0.5),
        ("winter", -0.8),
        ("tea", -0.4),
    ):
        season[index_of(TOPICS, key)] = strength * summer
    return season


def _shelves(tastes: Tastes, items: Properties, rng: np.random.Generator) -> tuple[IndexArray, FloatArray]:
    """Return (U, S) int32 items each user would like most, and their (U, S) float32 affinities.

    In a large catalogue nobody can know everything: each thousand users choose from 20,000 random items,
    which also bounds time and memory.
    """
    n_shelf = min(_N_SHELF, len(items))
    shelf = np.empty((len(tastes), n_shelf), dtype=np.int32)
    for start in range(0, len(tastes), _USERS_PER_SHELF_BLOCK):
        users = np.arange(start, min(start + _USERS_PER_SHELF_BLOCK, len(tastes)), dtype=np.int32)
        among = None
        if len(items) > _MOST_COMPARED:
            among = np.sort(rng.choice(len(items), _MOST_COMPARED, replace=False)).astype(np.int32)
        shelf[users] = np.sort(truth.best_items(tastes, items, users, n_shelf, among), axis=1)
    liked = np.empty(shelf.shape, dtype=np.float32)
    for start in range(0, len(tastes), _USERS_PER_SHELF_BLOCK):
        users = np.arange(start, min(start + _USERS_PER_SHELF_BLOCK, len(tastes)), dtype=np.int32)
        liked[users] = truth.affinity(tastes, items, users, shelf[users])
    return shelf, liked
