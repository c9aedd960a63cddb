"""Small worlds whose right answers are known by construction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from zhiyin.contracts import TrainingData
from zhiyin.data.dataset import Dataset
from zhiyin.domain import (
    NO_TIMESTAMP,
    BoolArray,
    Candidates,
    Catalogue,
    Examples,
    Histories,
    LongArray,
    Queries,
    Ragged,
    Vocabulary,
)
from zhiyin.testing.toy_language import ToyLanguage

DAY = 86_400
"""Seconds."""

Rows = list[npt.NDArray[np.int32]]


@dataclass(frozen=True, eq=False)
class World:
    """What to learn from, what to ask, and what the answer is.

    Attributes:
        training: As a component gets it, validation examples included.
        queries: B queries.
        right: (B, I) bool: the items that belong at the top; all others are wrong.
    """

    training: TrainingData
    queries: Queries
    right: BoolArray

    @property
    def catalogue(self) -> Catalogue:
        """The items of this world."""
        return self.training.dataset.catalogue

    def share_right(self, candidates: Candidates) -> float:
        """Return which share of all places holds a right item; padding is wrong."""
        picked = np.take_along_axis(self.right, np.maximum(candidates.item_index, 0).astype(np.int64), axis=1)
        return float((picked & candidates.is_item).mean())


def checkerboard(n_users: int = 24, n_items: int = 12, seed: int = 0) -> World:
    """Users like the items of their own parity: right is every item of that parity, seen or not.

    Each user lacks one item of theirs. Titles name the parity, so that words tell the same story.
    """
    random = np.random.default_rng(seed)
    squares = np.arange(n_items, dtype=np.int32)
    rows: Rows = []
    for user in range(n_users):
        own = squares[squares % 2 == user % 2]
        rows.append(random.permutation(np.delete(own, (user // 2) % len(own))))
    titles = [f"{('black', 'white')[square % 2]} square number {square}" for square in range(n_items)]
    right = (squares[None, :] % 2) == (np.arange(n_users)[:, None] % 2)
    return _world("checkerboard", titles, rows, right, seed)


def chain(n_users: int = 60, n_items: int = 12, n_events: int = 5, seed: int = 0) -> World:
    """Item i is always followed by item i + 1, the last one by the first: right is the successor alone."""
    random = np.random.default_rng(seed)
    starts = random.integers(0, n_items, n_users)
    rows: Rows = [((start + np.arange(n_events)) % n_items).astype(np.int32) for start in starts]
    successor = (starts + n_events) % n_items
    right = np.arange(n_items)[None, :] == successor[:, None]
    return _world("chain", [f"link {place}" for place in range(n_items)], rows, right, seed)


def topics(
    n_users: int = 40, n_topics: int = 4, n_touched: int = 6, n_untouched: int = 3, seed: int = 0
) -> World:
    """Each user likes one topic, and each item's title is made of the words of its topic.

    Item ``i`` has topic ``i % n_topics``. The last ``n_untouched`` items of each topic were never touched by
    anybody. Right is every item of the user's topic, the untouched ones included.
    """
    random = np.random.default_rng(seed)
    n_items = n_topics * (n_touched + n_untouched)
    topic_of_item = np.arange(n_items) % n_topics
    topic_of_user = np.arange(n_users) % n_topics
    titles = [_topic_title(int(topic), random) for topic in topic_of_item]
    touched = np.arange(n_topics * n_touched, dtype=np.int32)
    rows: Rows = [
        random.permutation(touched[topic_of_item[touched] == topic])[: n_touched - 1]
        for topic in topic_of_user
    ]
    return _world("topics", titles, rows, topic_of_item[None, :] == topic_of_user[:, None], seed)


def popular(n_items: int = 8, seed: int = 0, *, fashion: bool = False) -> World:
    """Item i has twice as many events as item i + 1; right are the two items with most events.

    With ``fashion``, events carry timestamps: all those took place a year ago, but today the last two items
    got a few events each, and they are right.
    """
    random = np.random.default_rng(seed)
    counts = 2 ** np.arange(n_items - 1, -1, -1)
    events = random.permutation(np.repeat(np.arange(n_items, dtype=np.int32), counts))
    rows: Rows = list(np.array_split(events, max(1, len(events) // 4)))
    days = np.zeros(len(events), dtype=np.int64)
    right = np.arange(n_items) < 2
    if fashion:
        today = np.array([n_items - 2, n_items - 1], dtype=np.int32)
        rows += [today] * 6
        days = np.concatenate([days, np.full(12, 365)])
        right = right[::-1]
    titles = [f"song {place}" for place in range(n_items)]
    timestamps = days * DAY if fashion else None
    return _world("popular", titles, rows, np.tile(right, (len(rows), 1)), seed, timestamps)


def single_item() -> World:
    """A catalogue of one item, which everybody takes again and again."""
    rows: Rows = [np.zeros(3, dtype=np.int32)] * 4
    return _world("single item", ["the only thing"], rows, np.ones((4, 1), dtype=bool), seed=0)


def no_items() -> World:
    """A shop before its first day: no items, and users who have done nothing."""
    rows: Rows = [np.zeros(0, dtype=np.int32)] * 2
    return _world("no items", [], rows, np.ones((2, 0), dtype=bool), seed=0)


def arrival(world: World, like: int) -> Catalogue:
    """Return one item that is not in the world yet, with the words of item ``like``."""
    title = world.training.language.texts(world.catalogue)[like]
    return Catalogue.from_table(pl.DataFrame({"item_id": ["arrival"], "title": [f"{title} new"]}))


def _topic_title(topic: int, random: np.random.Generator) -> str:
    words = [f"topic{topic}word{place}" for place in range(4)]
    return " ".join(random.permutation(words)[:3])


def _world(
    name: str, titles: list[str], rows: Rows, right: BoolArray, seed: int, timestamps: LongArray | None = None
) -> World:
    ids = [f"item {place}" for place in range(len(titles))]
    columns = {"item_id": pl.Series(ids, dtype=pl.String), "title": pl.Series(titles, dtype=pl.String)}
    catalogue = Catalogue.from_table(pl.DataFrame(columns))
    histories = _histories(rows, timestamps)
    dataset = Dataset(name, catalogue, Vocabulary([f"user {user}" for user in range(len(rows))]), histories)
    training = TrainingData(dataset, ToyLanguage(), validation=_next_items(histories), seed=seed)
    return World(training, _asked_now(histories), right)


def _histories(rows: Rows, timestamps: LongArray | None) -> Histories:
    plain = Histories.of_items(list(rows))
    if timestamps is None:
        return plain
    return Histories(plain.offsets, plain.item_index, plain.event_index, timestamps, plain.value)


def _asked_now(histories: Histories) -> Queries:
    n = len(histories)
    now = int(histories.timestamp.max()) if histories.n_events else NO_TIMESTAMP
    return Queries(np.arange(n, dtype=np.int32), histories, np.full(n, now, dtype=np.int64))


def _next_items(histories: Histories) -> Examples:
    """Each user's last item as the answer to all before it."""
    users = np.flatnonzero(histories.lengths > 1)
    some = histories.take(users)
    queries = Queries(users.astype(np.int32), some.without_newest(1), some.newest(1).timestamp)
    newest = some.newest(1)
    return Examples(queries, Ragged(newest.offsets, newest.item_index))
