"""A database that hangs: nobody waits for ever, nothing piles up, nothing acknowledged is lost."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Any

import pytest
from sqlalchemy import Connection

from zhiyin.domain.errors import StoreError, StoreOverloaded
from zhiyin.stores.changes import Change, Made, UnloggedChange
from zhiyin.stores.database import SqlDatabase
from zhiyin.stores.postgres import PostgresBackend
from zhiyin.stores.writer import ROWS_OF_A_PLACE, GroupWriter
from zhiyin.testing.store_contract import Heard, an_event

Hanging = Callable[[Any], AbstractContextManager[None]]


def opened(server: Any) -> SqlDatabase:
    """Open a database with little patience, in which two events are already."""
    database = SqlDatabase(PostgresBackend(server.get_uri(), answer_seconds=2.0), answer_seconds=0.8)
    for number in (0, 1):
        database.store().append_events([an_event(number)]).result()
    return database


def failed(write: Callable[[], Future[Any]]) -> float:
    """Return after how many seconds a write was refused."""
    began = time.monotonic()
    with pytest.raises(StoreError, match=r"event_id|Check that the server runs"):
        write().result(20)
    return time.monotonic() - began


def test_who_writes_to_a_postgres_that_hangs_is_told_so_and_all_goes_on_when_it_does(
    own_postgres: Any, hanging: Hanging
) -> None:
    database = opened(own_postgres)
    store, heard = database.store(), Heard()
    with hanging(own_postgres):
        first = [store.append_events([an_event(n)], on_durable=heard) for n in range(10, 50)]
        assert max(failed(lambda future=future: future) for future in first) < 1.5
        # The thread that writes is held by the first of them; who comes now need not wait to learn it.
        assert failed(lambda: store.append_events([an_event(60)])) < 0.1
        began = time.monotonic()
        with pytest.raises(StoreError):
            store.position()
        assert time.monotonic() - began < 9
    stored: list[bool] = []
    until = time.monotonic() + 15
    while not stored and time.monotonic() < until:
        try:
            stored = store.append_events([an_event(n) for n in (*range(10, 50), 70)]).result(20)
        except StoreError:
            time.sleep(0.1)
    assert stored[-1]
    events = [event.event_id for event in store.events_of("ann")]
    assert sorted(events) == sorted(f"e{n}" for n in (0, 1, *range(10, 50), 70))
    assert store.position() == store.changes_after(0).position
    database.close()


def test_a_short_stop_loses_nothing_and_the_live_copy_hears_of_what_came_late(
    own_postgres: Any, hanging: Hanging
) -> None:
    database = opened(own_postgres)
    store, heard = database.store(), Heard()
    with hanging(own_postgres):
        assert failed(lambda: store.append_events([an_event(10)], on_durable=heard)) < 1.5
    store_again = [failed_or_done(store, 11) for _ in range(20)]
    assert any(store_again)
    assert heard.told == [([True], 3)]
    assert [event.event_id for event in store.events_of("ann")] == ["e0", "e1", "e10", "e11"]
    database.close()


def failed_or_done(store: Any, number: int) -> bool:
    """Whether an event is in the store now."""
    try:
        store.append_events([an_event(number)]).result(20)
    except StoreError:
        time.sleep(0.1)
        return False
    return True


def test_a_process_that_ends_does_not_wait_for_a_database_that_hangs(
    own_postgres: Any, hanging: Hanging
) -> None:
    database = opened(own_postgres)
    store = database.store()
    patient_one = SqlDatabase(PostgresBackend(own_postgres.get_uri()))  # it would wait for 15 and 35 seconds
    with hanging(own_postgres):
        pending = [patient_one.store().append_events([an_event(n)]) for n in range(10, 20)]
        reading = threading.Thread(target=cannot_read, args=(patient_one,))
        reading.start()
        time.sleep(0.2)
        began = time.monotonic()
        patient_one.end_within(0.5)
        assert max(failed(lambda future=future: future) for future in pending) < 4
        reading.join(8)
        assert not reading.is_alive()
        patient_one.close()
        assert time.monotonic() - began < 9
    store.append_events([]).result(20)
    database.close()


def cannot_read(database: SqlDatabase) -> None:
    """Read in vain."""
    with pytest.raises(StoreError):
        database.store().position()


class Touch(UnloggedChange):
    """Writes nothing, of a length that is told."""

    def __init__(self, n_rows: int = 1) -> None:
        self.n_rows = n_rows

    def make_in(self, connection: Connection) -> None: ...


class Held:
    """Commits when it may; counts what it committed."""

    def __init__(self) -> None:
        self.may = threading.Event()
        self.n_made = 0

    def __call__(self, changes: Sequence[Change[Any]]) -> list[Made[Any]]:
        assert self.may.wait(20)
        self.n_made += len(changes)
        return [Made(None, number) for number, _ in enumerate(changes)]


def test_what_does_not_fit_into_the_queue_is_refused_at_once() -> None:
    commit = Held()
    writer = GroupWriter(commit, capacity=10)
    waiting = [writer.submit(Touch()) for _ in range(4)]
    waiting.append(writer.submit(Touch(3 * ROWS_OF_A_PLACE)))
    assert writer.depth() == 8
    with pytest.raises(StoreOverloaded, match="nothing of this one was stored"):
        writer.submit(Touch(3 * ROWS_OF_A_PLACE))
    waiting += [writer.submit(Touch()) for _ in range(2)]
    with pytest.raises(StoreOverloaded):
        writer.submit(Touch())
    commit.may.set()
    assert [future.result(5) for future in waiting] == [None] * 7
    writer.close()
    assert writer.depth() == 0
    assert commit.n_made == 7


def test_one_write_that_is_longer_than_the_queue_is_taken_when_nothing_else_waits() -> None:
    commit = Held()
    commit.may.set()
    writer = GroupWriter(commit, capacity=10)
    assert writer.submit(Touch(1_000 * ROWS_OF_A_PLACE)).result(5) is None
    writer.close()


def test_what_waited_too_long_is_not_written_later_but_what_was_begun_is_told_of() -> None:
    commit, heard = Held(), Heard()
    writer = GroupWriter(commit, answer_seconds=0.3)
    begun = writer.submit(Touch(), heard)
    while writer.depth() and not writer._waiting.empty():
        time.sleep(0.01)
    behind = [writer.submit(Touch()) for _ in range(3)]
    patient = writer.submit(Touch(), answer_seconds=20.0)
    for future in (begun, *behind):
        with pytest.raises(
            StoreError, match=r"not finished a write within \d seconds; it may be stored still"
        ):
            future.result(5)
    with pytest.raises(StoreError, match="does not answer; nothing of this write was stored"):
        writer.submit(Touch())
    commit.may.set()
    assert patient.result(5) is None
    assert commit.n_made == 2
    assert heard.told == [(None, 0)]
    assert writer.submit(Touch()).result(5) is None
    writer.close()


def test_a_caller_who_went_away_does_not_disturb_the_clock() -> None:
    commit = Held()
    writer = GroupWriter(commit, answer_seconds=0.3)
    writer.submit(Touch())
    while not writer._waiting.empty():
        time.sleep(0.01)
    gone, other = writer.submit(Touch()), writer.submit(Touch())
    assert gone.cancel()
    with pytest.raises(StoreError):
        other.result(5)
    commit.may.set()
    writer.close()
    assert commit.n_made == 1
