"""The short road of new events does what the long one does, and leaves to it what it cannot do."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from zhiyin.stores.appends import AppendEvents
from zhiyin.stores.changes import PutUser
from zhiyin.stores.database import SqlDatabase
from zhiyin.stores.postgres import PostgresBackend
from zhiyin.stores.quick_appends import append_quickly
from zhiyin.stores.records import Event
from zhiyin.stores.sqlite import SqliteBackend
from zhiyin.testing.store_contract import an_event


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlDatabase]:
    if request.param == "sqlite":
        opened = SqlDatabase(SqliteBackend(tmp_path / "s.db"))
    else:
        opened = SqlDatabase(PostgresBackend(request.getfixturevalue("postgres_url")))
    yield opened
    opened.close()


def appends(database: SqlDatabase, *groups: list[Event], tenant: str = "default") -> list[AppendEvents]:
    return [AppendEvents(tenant, group, database.backend) for group in groups]


def test_new_events_get_one_position_a_change_and_stand_in_their_order(database: SqlDatabase) -> None:
    store = database.store()
    store.append_events([an_event(0)]).result()
    odd = Event("e-3", 'a "user"\\', "item {1}, ü", "view", 5, 0.5, {"page": "{x}"})
    made = append_quickly(
        database.backend, appends(database, [an_event(1), an_event(2)], [odd], [an_event(4)])
    )
    assert made is not None
    assert [(one.result, one.position) for one in made] == [([True, True], 2), ([True], 3), ([True], 4)]
    assert store.position() == 4
    log = store.changes_after(1)
    assert log.position == 4
    assert store.events_of(odd.user_id) == [odd]
    assert log.events["item_id"].to_list() == [
        an_event(1).item_id, an_event(2).item_id, odd.item_id, an_event(4).item_id
    ]  # fmt: skip


def test_what_was_sent_before_changes_nothing_and_goes_the_long_road(database: SqlDatabase) -> None:
    store = database.store()
    store.append_events([an_event(0)]).result()
    assert append_quickly(database.backend, appends(database, [an_event(1)], [an_event(0)])) is None
    assert append_quickly(database.backend, appends(database, [an_event(2), an_event(2)])) is None
    assert (store.position(), store.counts().events) == (1, 1)
    assert store.append_events([an_event(1), an_event(0)]).result() == [True, False]
    assert store.position() == 2


def test_a_tenant_without_a_head_and_other_changes_go_the_long_road(database: SqlDatabase) -> None:
    backend = database.backend
    assert append_quickly(backend, appends(database, [an_event(1)])) is None
    database.store().append_events([an_event(1)]).result()
    two_tenants = appends(database, [an_event(2)]) + appends(database, [an_event(2)], tenant="other")
    assert append_quickly(backend, two_tenants) is None
    assert append_quickly(backend, [PutUser("default", "u", {})]) is None
    assert append_quickly(backend, appends(database, [])) is None
    assert database.store().position() == 1
