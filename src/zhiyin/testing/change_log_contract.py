# ruff: noqa: D102 - the name of a test is its sentence
"""What a change log promises: gapless positions in order, and that following equals reading everything."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zhiyin.stores.events import Database, EventStore
from zhiyin.stores.opening import open_database
from zhiyin.stores.records import Changes, Event, StoredItem
from zhiyin.testing.store_contract import an_event

Operation: TypeAlias = tuple[Any, ...]

_USERS = st.sampled_from(["ann", "bob", "eva"])
_NAMES = st.sampled_from(["a", "b"])
_WORDS = st.dictionaries(_NAMES, st.integers(0, 3), max_size=2)
_SENT = st.lists(st.tuples(st.integers(0, 30), _USERS), max_size=4)
_CHANGE: st.SearchStrategy[Operation] = st.one_of(
    st.tuples(st.just("events"), _SENT),
    st.tuples(st.just("events"), _SENT),
    st.tuples(st.just("put item"), _NAMES, _WORDS),
    st.tuples(st.just("delete item"), _NAMES),
    st.tuples(st.just("put user"), _USERS, _WORDS),
    st.tuples(st.just("delete user"), _USERS),
    st.tuples(st.just("document"), _NAMES, st.none() | _WORDS),
    st.tuples(st.just("activate"), st.sampled_from(["v1", "v2"])),
    st.tuples(st.just("follow"), st.integers(1, 4)),
)


# Every example takes a tenant of its own in the one database, and every database runs the same examples.
_EXPECTED = [HealthCheck.function_scoped_fixture, HealthCheck.differing_executors]


class Follower:
    """A live copy that is kept by `EventStore.changes_after` alone.

    Args:
        store: What it follows.
    """

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self.position = 0
        self.events: list[tuple[Any, ...]] = []
        self.items: dict[str, StoredItem] = {}
        self.users: dict[str, Any] = {}
        self.forgotten: set[str] = set()
        self.documents: dict[str, Any] = {}
        self.bundle: str | None = None

    def step(self, limit: int) -> None:
        """Read one batch of changes and apply it."""
        changes = self._store.changes_after(self.position, limit=limit)
        assert changes.position >= self.position
        self.apply(changes)

    def catch_up(self, limit: int) -> None:
        """Read batches until nothing is missing."""
        while self.position < self._store.position():
            self.step(limit)

    def apply(self, changes: Changes) -> None:
        """Apply in the order that `Changes` states."""
        self.forgotten.update(changes.forgotten)
        self.events = [row for row in self.events if row[1] not in changes.forgotten]
        for user_id in changes.forgotten:
            self.users.pop(user_id, None)
        self.items.update({item.item_id: item for item in changes.items})
        self.users.update({user.user_id: user.attributes for user in changes.described})
        self.events.extend(changes.events.rows())
        for document in changes.documents:
            self.documents.pop(document.name, None)
            if document.body is not None:
                self.documents[document.name] = document.body
        self.bundle = changes.bundle or self.bundle
        self.position = changes.position

    def state(self) -> tuple[Any, ...]:
        """Return all that is known, to be compared."""
        return self.events, self.items, self.users, self.forgotten, self.documents, self.bundle


class ChangeLogContract:
    """Subclass it, say where a test's own database is, and pytest runs the suite."""

    @pytest.fixture
    def url(self) -> str:
        """URL of an empty database, another one for every test; each subclass has its own fixture."""
        raise NotImplementedError

    @pytest.fixture
    def database(self, url: str) -> Iterator[Database]:
        opened = open_database(url)
        yield opened
        opened.close()

    @pytest.fixture
    def tenants(self) -> Iterator[str]:
        """Names that were not used before."""
        return (f"tenant {number}" for number in count())

    @given(operations=st.lists(_CHANGE, min_size=1, max_size=15), last_limit=st.integers(1, 5))
    @settings(max_examples=40, suppress_health_check=_EXPECTED, deadline=None)
    def test_following_in_steps_equals_reading_everything(
        self,
        database: Database,
        tenants: Iterator[str],
        tmp_path: Path,
        operations: list[Operation],
        last_limit: int,
    ) -> None:
        store = database.store(next(tenants))
        (tmp_path / "bundle").mkdir(exist_ok=True)
        for version in ("v1", "v2"):
            store.put_bundle(version, tmp_path / "bundle", position=0, facts={})
        follower, late = Follower(store), Follower(store)
        told: list[int] = []
        for operation in operations:
            if operation[0] == "follow":
                follower.step(operation[1])
            else:
                _make(store, operation, told)
        follower.catch_up(last_limit)
        late.catch_up(1_000_000)
        assert follower.state() == late.state() == _read(store)
        assert sorted(set(told) - {0}) == list(range(1, store.position() + 1))
        assert told == sorted(told)
        assert follower.position == late.position == store.position()

    def test_a_batch_ends_with_a_whole_position(self, database: Database) -> None:
        store = database.store()
        for number in range(4):
            store.append_events([an_event(10 * number + step) for step in range(3)]).result()
        store.put_item("tea", {}).result()
        assert [store.changes_after(0, limit=limit).position for limit in (1, 3, 4, 6, 7, 100)] == [
            1,
            1,
            2,
            2,
            3,
            5,
        ]
        assert [store.changes_after(0, limit=limit).events.height for limit in (1, 3, 4, 6, 7)] == [
            3,
            3,
            6,
            6,
            9,
        ]
        assert store.changes_after(4).items == (StoredItem("tea", {}),)
        assert store.changes_after(5).position == 5
        assert store.changes_after(5).events.height == 0

    def test_nothing_forgotten_comes_back_and_who_returns_stays(self, database: Database) -> None:
        store = database.store()
        store.append_events([an_event(1)]).result()
        behind = Follower(store)
        behind.catch_up(1)
        store.append_events([an_event(2)]).result()
        store.delete_user("ann").result()
        store.append_events([an_event(3)]).result()
        for follower in (behind, Follower(store)):
            follower.catch_up(1)
            assert [row[4] for row in follower.events] == [1_700_000_003]
            assert follower.forgotten == {"ann"}

    def test_positions_of_many_writers_are_gapless_and_seen_in_order(self, url: str) -> None:
        databases = [open_database(url)]
        if databases[0].is_shared:
            databases.append(open_database(url))
        follower, done = Follower(databases[-1].store()), threading.Event()

        def write(worker: int) -> list[int]:
            store, positions = databases[worker % len(databases)].store(), []
            for step in range(30):
                # Half of the events are sent by two workers, perhaps in two processes.
                number = step if step % 2 else 1000 * worker + step
                store.append_events(
                    [an_event(number, user_id="ann")],
                    on_durable=lambda new, position: positions.append(position) if new[0] else None,
                ).result()
            return positions

        def watch() -> None:
            while not done.is_set():
                follower.step(7)

        with ThreadPoolExecutor(9) as pool:
            watching = pool.submit(watch)
            taken = [position for positions in pool.map(write, range(8)) for position in positions]
            done.set()
            watching.result()
        follower.catch_up(7)
        assert sorted(taken) == list(range(1, 8 * 15 + 15 + 1))
        assert follower.state() == _read(databases[0].store())
        assert len(follower.events) == len(taken)
        for database in databases:
            database.close()

    def test_two_tenants_written_by_two_processes_at_once(self, url: str) -> None:
        databases = [open_database(url)]
        if databases[0].is_shared:
            databases.append(open_database(url))

        def write(worker: int) -> None:
            database = databases[worker % len(databases)]
            pending = [
                database.store(f"t{(worker + step) % 3}").append_events([an_event(1000 * worker + step)])
                for step in range(60)
            ]
            assert all(future.result() == [True] for future in pending)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(write, range(4)))
        assert [databases[-1].store(f"t{number}").position() for number in range(3)] == [80, 80, 80]
        assert [databases[0].store(f"t{number}").counts().events for number in range(3)] == [80, 80, 80]
        for database in databases:
            database.close()


def _make(store: EventStore, operation: Operation, told: list[int]) -> None:
    def hear(_result: object, position: int) -> None:
        told.append(position)

    match operation:
        case ("events", sent):
            events = [Event(f"e{number}", user, "tea", "view", number) for number, user in sent]
            store.append_events(events, on_durable=hear).result()
        case ("put item", name, words):
            store.put_item(name, words, on_durable=hear).result()
        case ("delete item", name):
            store.delete_item(name, on_durable=hear).result()
        case ("put user", user, words):
            store.put_user(user, words, on_durable=hear).result()
        case ("delete user", user):
            store.delete_user(user, on_durable=hear).result()
        case ("document", name, body):
            store.put_document("kind", name, body, on_durable=hear).result()
        case ("activate", version):
            store.activate_bundle(version, on_durable=hear).result()


def _read(store: EventStore) -> tuple[Any, ...]:
    return (
        [row for batch in store.event_batches(size=5) for row in batch.rows()],
        {item.item_id: item for item in store.items()},
        {user.user_id: user.attributes for batch in store.user_batches(size=2) for user in batch},
        set(store.deleted_users()),
        {document.name: document.body for document in store.documents("kind")},
        next((bundle.version for bundle in store.bundles() if bundle.is_active), None),
    )
