"""Tables of version 1 become those of today with everything they hold, and back."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from zhiyin.domain.errors import StoreError
from zhiyin.stores import tables
from zhiyin.stores.file_lock import FileLock
from zhiyin.stores.migrating import VERSION_TABLE, move_to
from zhiyin.stores.opening import open_beside, open_database
from zhiyin.stores.records import Event, Impression, StoredItem, StoredUser
from zhiyin.testing.change_log_contract import Follower

FIRST_VERSION = """
CREATE TABLE zhiyin_store (version INTEGER NOT NULL, PRIMARY KEY (version));
CREATE TABLE events (sequence INTEGER NOT NULL, event_id VARCHAR NOT NULL, user_id VARCHAR NOT NULL,
 item_id VARCHAR NOT NULL, event VARCHAR NOT NULL, timestamp BIGINT NOT NULL, value FLOAT, context JSON,
 PRIMARY KEY (sequence), UNIQUE (event_id));
CREATE INDEX ix_events_user_id ON events (user_id);
CREATE TABLE items (sequence INTEGER NOT NULL, item_id VARCHAR NOT NULL, attributes JSON NOT NULL,
 deleted BOOLEAN NOT NULL, PRIMARY KEY (sequence), UNIQUE (item_id));
CREATE TABLE users (user_id VARCHAR NOT NULL, attributes JSON NOT NULL, PRIMARY KEY (user_id));
CREATE TABLE deleted_users (user_id VARCHAR NOT NULL, PRIMARY KEY (user_id));
CREATE TABLE impressions (sequence INTEGER NOT NULL, request_id VARCHAR NOT NULL, user_id VARCHAR,
 timestamp BIGINT NOT NULL, route VARCHAR NOT NULL, bundle VARCHAR NOT NULL, item_ids JSON NOT NULL,
 propensities JSON NOT NULL, PRIMARY KEY (sequence));
CREATE INDEX ix_impressions_user_id ON impressions (user_id);
INSERT INTO zhiyin_store VALUES (1);
"""
"""What the first released version made."""

FIRST_DATA = """
INSERT INTO events VALUES (3, 'e3', 'ann', 'tea', 'view', 30, NULL, NULL),
 (7, 'e7', 'bob', '茶', 'rating', 20, 4.5, '{"a": 1}'),
 (9, 'e9', 'eva', 'tea', 'view', 40, NULL, NULL);
INSERT INTO items VALUES (1, 'tea', '{"title": "Tea"}', FALSE), (2, 'old', '{}', TRUE);
INSERT INTO users VALUES ('ann', '{"age": 30}');
INSERT INTO deleted_users VALUES ('eva');
INSERT INTO impressions VALUES (4, 'r', 'ann', 50, 'recommend', 'b1', '["tea"]', '[1.0]');
"""
"""Eva was removed and came back with one event."""


@pytest.fixture(params=["sqlite", "postgres"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sql.Engine]:
    """A database without any table."""
    if request.param == "sqlite":
        engine = sql.create_engine(f"sqlite:///{tmp_path}/store.db")
    else:
        url = sql.make_url(request.getfixturevalue("postgres_url")).set(drivername="postgresql+psycopg")
        engine = sql.create_engine(url)
        with engine.begin() as connection:
            connection.exec_driver_sql("DROP SCHEMA public CASCADE")
            connection.exec_driver_sql("CREATE SCHEMA public")
    yield engine
    engine.dispose()


def url_of(engine: sql.Engine) -> str:
    return engine.url.set(drivername=engine.dialect.name).render_as_string(hide_password=False)


def run(engine: sql.Engine, script: str) -> None:
    with engine.begin() as connection:
        for statement in script.split(";\n"):
            if statement.strip():
                connection.exec_driver_sql(statement)


def differences(engine: sql.Engine) -> list[Any]:
    """What the tables have that the code does not know, and the other way round."""
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        return compare_metadata(context, tables.metadata)


def test_an_empty_database_gets_exactly_the_tables_of_the_code(empty: sql.Engine) -> None:
    open_database(url_of(empty)).close()
    assert differences(empty) == []


def check_taken_over(empty: sql.Engine) -> None:
    database = open_database(url_of(empty))
    store = database.store()
    assert database.tenants() == ["default"]
    assert store.position() == 7  # One for each row but the slate.
    assert store.events_of("bob") == [Event("e7", "bob", "茶", "rating", 20, 4.5, {"a": 1})]
    assert store.items() == [StoredItem("tea", {"title": "Tea"}), StoredItem("old", {}, True)]
    assert list(store.user_batches()) == [[StoredUser("ann", {"age": 30})]]
    assert store.deleted_users() == ["eva"]
    assert store.impressions_of("ann") == [
        Impression("r", "ann", 50, "recommend", "b1", ("tea",), (1.0,), None, None)
    ]
    follower = Follower(store)
    follower.catch_up(1)
    assert [row[1] for row in follower.events] == ["ann", "bob", "eva"], "who came back stays"
    assert [row[0] for row in follower.events] == [3, 7, 9], "in the order of acceptance"
    assert store.append_events(
        [Event("e9", "x", "y", "view", 1), Event("e10", "x", "y", "view", 1)]
    ).result() == [
        False,
        True,
    ]
    assert store.position() == 8
    assert store.put_item("new", {}).result() == StoredItem("new", {})
    database.close()


def test_version_one_is_taken_over_with_its_data(empty: sql.Engine) -> None:
    # PostgreSQL counts by itself only where the column says so.
    numbered = "BIGSERIAL" if empty.dialect.name == "postgresql" else "INTEGER"
    run(empty, FIRST_VERSION.replace("sequence INTEGER", f"sequence {numbered}") + FIRST_DATA)
    check_taken_over(empty)
    assert differences(empty) == []


def test_down_and_up_again_keeps_what_version_one_can_hold(empty: sql.Engine) -> None:
    with empty.begin() as connection:
        move_to(connection, "0001")
    run(empty, FIRST_DATA)
    with empty.begin() as connection:
        move_to(connection, "0002")
        connection.exec_driver_sql("INSERT INTO audit VALUES (1, 1, 'default', 'a', 'b', 'c', 'd', '')")
    assert differences(empty) == []
    with empty.begin() as connection:
        move_to(connection, "0001")
    with empty.connect() as connection:
        rows = connection.exec_driver_sql("SELECT sequence, event_id FROM events ORDER BY sequence").all()
        assert [tuple(row) for row in rows] == [(3, "e3"), (7, "e7"), (9, "e9")]
        assert connection.exec_driver_sql("SELECT version FROM zhiyin_store").scalar() == 1
    check_taken_over(empty)
    with empty.begin() as connection:
        move_to(connection, "base")
        assert set(sql.inspect(connection).get_table_names()) <= {VERSION_TABLE}
    open_database(url_of(empty)).close()
    assert differences(empty) == []


def test_a_guest_leaves_the_tables_to_an_older_service(tmp_path: Path) -> None:
    url, file = f"sqlite:///{tmp_path}/s.db", tmp_path / "s.db"
    with sqlite3.connect(file) as first:
        first.executescript(FIRST_VERSION)
    service = FileLock(file)
    with pytest.raises(StoreError, match="tables of an older Zhiyin, and a service of that version uses it"):
        open_beside(url)
    with sqlite3.connect(file) as first:
        assert first.execute("SELECT version FROM zhiyin_store").fetchone() == (1,)
    service.release()
    guest = open_beside(url)
    assert guest.access.keys() == []
    open_database(url).close()
    guest.close()


def test_a_check_leaves_the_version_of_newer_tables(empty: sql.Engine) -> None:
    database = open_database(url_of(empty))
    run(empty, f"UPDATE zhiyin_store SET version = {tables.SCHEMA_VERSION + 1}")
    database.check()
    database.close()
    with pytest.raises(StoreError, match="newer Zhiyin"):
        open_database(url_of(empty))


def test_the_log_keeps_growing_after_every_version_below(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "s.db") as first:
        first.executescript(FIRST_VERSION)
    database = open_database(f"sqlite:///{tmp_path}/s.db")
    assert database.tenants() == []
    assert database.store().position() == 0
    database.close()


def test_an_interrupted_migration_leaves_the_old_version(empty: sql.Engine) -> None:
    numbered = "BIGSERIAL" if empty.dialect.name == "postgresql" else "INTEGER"
    run(empty, FIRST_VERSION.replace("sequence INTEGER", f"sequence {numbered}") + FIRST_DATA)
    run(empty, "CREATE TABLE documents (somebody VARCHAR)")  # A table in the way, met at the very end.
    with pytest.raises(StoreError, match="documents"):
        open_database(url_of(empty))
    run(empty, "DROP TABLE documents")
    check_taken_over(empty)


OPENS = """
import json, sys
from zhiyin.stores.opening import open_database
from zhiyin.stores.records import Event
database = open_database(sys.argv[1])
new = database.store().append_events([Event("same", "ann", "tea", "view", 1)]).result()
database.close()
print(json.dumps(new[0]))
"""


def test_processes_that_start_together_migrate_once(empty: sql.Engine) -> None:
    if empty.dialect.name == "sqlite":
        pytest.skip("one process at a time uses a SQLite file")
    starting = [
        subprocess.Popen([sys.executable, "-c", OPENS, url_of(empty)], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    answers = [process.communicate(timeout=60)[0] for process in starting]
    assert sorted(json.loads(answer) for answer in answers) == [False, False, True]
    assert differences(empty) == []
