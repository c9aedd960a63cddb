"""Whoever follows the log, in whatever order things come, knows what reading everything once tells."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zhiyin.domain.errors import StoreError
from zhiyin.online.following import ITEM_PAUSE_SECONDS, ITEM_SECONDS, AskTheLog, Following
from zhiyin.stores.events import EventStore
from zhiyin.stores.opening import open_database
from zhiyin.stores.records import Changes, Event


@dataclass(eq=False)
class Seen:
    """Stands for a live bundle: counts how often each event came, and what became of users."""

    applied: int = 0
    events: list[str] = field(default_factory=list)
    fails_once: bool = False

    def take(self, changes: Changes) -> None:
        if self.fails_once:
            self.fails_once = False
            raise RuntimeError("once")
        gone = set(changes.forgotten)
        self.events = [event for event in self.events if event.split(":")[0] not in gone]
        rows = changes.events.select("user_id", "item_id").iter_rows()
        self.events += [f"{user}:{item}" for user, item in rows]
        self.applied = changes.position

    def catch_up(self, store: EventStore, until: int) -> None:
        while self.applied < until:
            self.take(store.changes_after(self.applied))

    def await_items(self, seconds: float | None = None) -> bool:
        """Items come at once."""
        return True

    def record(self, event: Event) -> None:
        self.events.append(f"{event.user_id}:{event.item_id}")

    def forget(self, user_id: str) -> None:
        self.events = [event for event in self.events if event.split(":")[0] != user_id]


class One:
    """One process: a connection of its own, and who follows."""

    def __init__(self, url: str) -> None:
        self.database = open_database(url)
        self.store = self.database.store()
        self.following = Following(self.store, AskTheLog(), is_shared=True, on_changes=lambda _: None)
        self.following.add(Seen())  # type: ignore[arg-type]

    def write(self, number: int, user: str) -> None:
        event = Event(f"e{number}", user, f"i{number}", "view", 1_700_000_000 + number)
        self.store.append_events(
            [event],
            on_durable=lambda is_new, position: self.following.reflect(
                position, (lambda live: live.record(event)) if is_new[0] else None
            ),
        ).result()

    def erase(self, user: str) -> None:
        self.store.delete_user(
            user,
            on_durable=lambda _, position: self.following.reflect(position, lambda live: live.forget(user)),
        ).result()


@pytest.fixture
def shared(postgres_url: str) -> Iterator[tuple[One, One]]:
    both = One(postgres_url), One(postgres_url)
    yield both
    for one in both:
        one.database.close()


class WrongHeads(AskTheLog):
    """Says what another log has reached."""

    def current(self, tenant: str, ask_database: Callable[[], int]) -> int:
        return 1_000


def test_a_position_that_the_log_never_reached_holds_nobody_up(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path}/store.db")
    following = Following(database.store(), WrongHeads(), is_shared=True, on_changes=lambda _: None)
    following.add(Seen())  # type: ignore[arg-type]
    database.store().append_events([Event("e", "ann", "tea", "view", 1)]).result()
    done = threading.Thread(target=following.catch_up, daemon=True)
    done.start()
    done.join(10)
    assert not done.is_alive()
    assert following.applied == database.store().position()
    database.close()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["write", "write", "write", "erase", "catch up", "read", "add", "drop"]),
        st.integers(0, 1),
        st.integers(0, 2),
    ),
    max_size=25,
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_any_interleaving_equals_reading_everything_once(
    shared: tuple[One, One], steps: list[tuple[str, int, int]]
) -> None:
    number = shared[0].store.position()
    for action, who, user in steps:
        one = shared[who]
        number += 1
        if action == "write":
            one.write(number, f"u{user}")
        elif action == "erase":
            one.erase(f"u{user}")
        elif action == "catch up":
            assert one.following.catch_up()
        elif action == "read":
            one.following.read_log()
        elif action == "add":
            one.following.add(Seen())  # type: ignore[arg-type]
        elif len(one.following.lives) > 1:
            one.following.drop(one.following.lives[0])
    whole = Seen()
    whole.catch_up(shared[0].store, shared[0].store.position())
    for one in shared:
        assert one.following.catch_up()
        assert one.following.lag() == 0
        assert one.following.lives
        for live in one.following.lives:
            assert sorted(live.events) == sorted(whole.events)


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[One]:
    one = One(f"sqlite:///{tmp_path}/store.db")
    yield one
    one.database.close()


def test_a_live_bundle_that_is_ahead_when_it_joins_counts_nothing_twice(alone: One) -> None:
    """Others go on writing while a bundle is brought level: it may know more than those already there."""
    alone.write(1, "u")
    store = alone.store

    class Ahead(Seen):
        """Reads one change more than it was asked for, as a store that grows meanwhile gives it."""

        n_late = 0

        def catch_up(self, store: EventStore, until: int) -> None:
            super().catch_up(store, until)
            if self.n_late < 2:
                self.n_late += 1
                store.append_events([Event(f"late-{self.n_late}", "u", "late", "view", 1)]).result()
                super().catch_up(store, store.position())

    ahead: Any = Ahead()
    alone.following.add(ahead)
    alone.write(2, "u")
    alone.following.read_log()
    whole = Seen()
    whole.catch_up(store, store.position())
    for live in alone.following.lives:
        assert live.events == whole.events


def test_a_bundle_that_failed_once_is_brought_level_and_the_other_counts_nothing_twice(alone: One) -> None:
    other: Any = Seen()
    alone.following.add(other)
    first: Any = alone.following.lives[0]
    alone.store.append_events([Event("x", "u", "x", "view", 1)]).result()
    other.fails_once = True
    with pytest.raises(RuntimeError, match="once"):
        alone.following.read_log()
    alone.store.append_events([Event("y", "u", "y", "view", 1)]).result()
    alone.following.read_log()
    assert first.events == other.events == ["u:x", "u:y"]


def test_a_log_that_cannot_be_read_makes_answers_stale_and_no_longer_when_it_can() -> None:
    class Broken:
        tenant = "default"
        works = False

        def position(self) -> int:
            if not self.works:
                raise StoreError("gone")
            return 0

    store: Any = Broken()
    following = Following(store, AskTheLog(), is_shared=True, on_changes=lambda _: None)
    assert not following.catch_up()
    assert following.is_stale
    store.works = True
    assert following.catch_up()
    assert not following.is_stale


def test_items_that_are_late_are_waited_for_seldom(alone: One, monkeypatch: pytest.MonkeyPatch) -> None:
    """While somebody puts many items, not every answer waits for the newest of them."""
    waits: list[float | None] = []

    class Late(Seen):
        def await_items(self, seconds: float | None = None) -> bool:
            waits.append(seconds)
            return seconds is None

    late: Any = Late()
    following = Following(alone.store, AskTheLog(), is_shared=True, on_changes=lambda _: None)
    following.add(late)
    waits.clear()
    for _ in range(5):
        assert following.catch_up()
    assert waits == [ITEM_SECONDS]
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + ITEM_PAUSE_SECONDS)
    assert following.catch_up()
    assert waits == [ITEM_SECONDS] * 2


def test_nobody_else_writes_so_nobody_is_asked(alone: One) -> None:
    class Never(AskTheLog):
        def current(self, tenant: str, ask_database: Any) -> int:
            raise AssertionError(tenant)

    following = Following(alone.store, Never(), is_shared=False, on_changes=lambda _: None)
    assert following.catch_up()


def test_changes_of_one_commit_are_announced_with_one_message() -> None:
    class Told:
        trust_seconds = 0.5
        works = True

        def __init__(self) -> None:
            self.positions: list[int] = []

        def raise_to(self, _: str, position: int) -> bool:
            self.positions.append(position)
            return self.works

    store: Any = type("Store", (), {"tenant": "default"})()
    heads: Any = Told()
    following = Following(store, heads, is_shared=True, on_changes=lambda _: None)
    for position in (1, 2, 3):
        following.reflect(position, lambda _: None)
    assert [following.announce(position) for position in (1, 2, 3)] == [0.0, 0.0, 0.0]
    assert heads.positions == [3]
    heads.works = False
    for position in (4, 5):
        following.reflect(position, lambda _: None)
    assert [following.announce(position) for position in (4, 5)] == [0.5, 0.5]
    assert heads.positions == [3, 5]
    heads.works = True
    following.reflect(6, lambda _: None)
    assert following.announce(6) == 0.0
