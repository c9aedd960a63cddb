"""A tea shop with a bundle, a store, and people who go on."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from zhiyin.data.dataset import Dataset
from zhiyin.domain import Catalogue, Histories, Vocabulary
from zhiyin.experiments.refreshing.loop import LearningLoop, Round
from zhiyin.experiments.refreshing.settings import LoopConfig
from zhiyin.experiments.training import train
from zhiyin.pipeline.recipes import recipe
from zhiyin.stores.events import EventStore
from zhiyin.stores.opening import open_database
from zhiyin.stores.records import Event

N_ITEMS, N_USERS, LENGTH = 40, 120, 8


def circle(start: int, length: int, step: int = 1) -> np.ndarray:
    """Items one after the other, in a circle through the catalogue."""
    return (start + step * np.arange(length)) % N_ITEMS


def shop() -> Dataset:
    """Everybody goes on to the next item, from a random one on; an event an hour."""
    random = np.random.default_rng(0)
    rows = [circle(int(random.integers(N_ITEMS)), LENGTH) for _ in range(N_USERS)]
    plain = Histories.of_items(rows)
    moments = np.arange(plain.n_events, dtype=np.int64) * 3_600 + 1_600_000_000
    table = pl.DataFrame(
        {
            "item_id": [f"i{item}" for item in range(N_ITEMS)],
            "title": [f"item number {item}" for item in range(N_ITEMS)],
        }
    )
    return Dataset(
        "circle",
        Catalogue.from_table(table),
        Vocabulary([f"u{user}" for user in range(N_USERS)]),
        Histories(plain.offsets, plain.item_index, plain.event_index, moments, plain.value),
        event_kinds=("view", "purchase"),
        event_weights=np.array([0.5, 1.0], dtype=np.float32),
    )


def walks(n_users: int, *, step: int, seed: int, name: str = "n", kind: str = "view") -> list[Event]:
    """Events of new users who go on by ``step`` items each time, later than everything of the shop."""
    random = np.random.default_rng(seed)
    events = []
    for user in range(n_users):
        for place, item in enumerate(circle(int(random.integers(N_ITEMS)), LENGTH, step)):
            moment = 1_700_000_000 + (user * LENGTH + place) * 60
            event_id = f"{name}-{seed}-{user}-{place}"
            events.append(Event(event_id, f"{name}{seed}-{user}", f"i{item}", kind, moment))
    return events


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("refreshing") / "bundle"
    train(shop(), recipe("fast"), folder)
    return folder


@pytest.fixture
def store(tmp_path: Path):
    database = open_database(f"sqlite:///{tmp_path / 'shop.db'}")
    yield database.store()
    database.close()


@pytest.fixture(scope="session")
def circle_shop() -> Dataset:
    return shop()


@pytest.fixture
def new_walks() -> Callable[..., list[Event]]:
    return walks


@pytest.fixture
def learn_once() -> Callable[[EventStore, str], Round]:
    """One round of a loop, in a way that is named, whose candidate goes live whatever it is worth."""

    def learn(store: EventStore, way: str) -> Round:
        settings = {
            "lease_seconds": 5,
            "judging": {"fewest_events": 10, "tolerated_loss": 1.0},
            "refresh": {"recipe": way},
        }
        return LearningLoop(store, LoopConfig.parse(settings, where="loop")).round()

    return learn
