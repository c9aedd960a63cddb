"""PostgreSQL fulfils the contract, says clearly what is wrong, and comes back after it was killed."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
import sqlalchemy as sql

from zhiyin.domain.errors import MissingExtra, StoreError
from zhiyin.stores.database import SqlDatabase
from zhiyin.stores.opening import open_database
from zhiyin.stores.postgres import PostgresBackend
from zhiyin.testing.store_contract import DatabaseContract, an_event


class TestPostgres(DatabaseContract):
    @pytest.fixture
    def url(self, postgres_url: str) -> str:
        return postgres_url


@pytest.fixture
def database(postgres_url: str) -> Iterator[SqlDatabase]:
    opened = SqlDatabase(PostgresBackend(postgres_url))
    yield opened
    opened.close()


def other_url(url: str, **parts: Any) -> str:
    return sql.make_url(url).set(**parts).render_as_string(hide_password=False)


def test_two_processes_see_each_other(database: SqlDatabase, postgres_url: str) -> None:
    other = open_database(postgres_url)
    assert database.is_shared
    assert database.store().append_events([an_event(1)]).result() == [True]
    assert other.store().append_events([an_event(1), an_event(2)]).result() == [False, True]
    assert database.store().position() == other.store().position() == 2
    other.close()


def test_commits_wait_for_the_disk_even_where_the_server_would_not(postgres_url: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    backend = PostgresBackend(postgres_url)
    for engine in (backend.engine, backend.writing):
        with engine.connect() as reading:
            assert reading.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
            assert reading.exec_driver_sql("SHOW statement_timeout").scalar() == "30s"
            assert reading.exec_driver_sql("SHOW lock_timeout").scalar() == "10s"
    backend.close()


@pytest.mark.parametrize("statement", ["UPDATE audit SET actor = 'x'", "DELETE FROM audit", "TRUNCATE audit"])
def test_the_audit_log_only_grows(database: SqlDatabase, statement: str) -> None:
    with (
        pytest.raises(sql.exc.DBAPIError, match="can only grow"),
        database.backend.writing.begin() as connection,
    ):
        connection.exec_driver_sql(statement)


def test_a_database_that_is_missing(postgres_url: str) -> None:
    with pytest.raises(StoreError, match=r"'nowhere' at .* does not exist") as caught:
        open_database(other_url(postgres_url, database="nowhere"))
    assert "createdb" in caught.value.remedy


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_that_cannot_hold_every_text(postgres_url: str, encoding: str) -> None:
    name = f"encoded_{encoding.lower()}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            f"CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        )
        try:
            with pytest.raises(StoreError, match=f"'{name}' at .* is encoded in {encoding}") as caught:
                open_database(other_url(postgres_url, database=name))
            assert "-E UTF8" in caught.value.remedy
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_server_that_does_not_run_and_a_password_that_is_not_told() -> None:
    began = time.monotonic()
    with pytest.raises(StoreError, match="refused") as caught:
        open_database("postgresql://ann:s3cret@127.0.0.1:1/shop")
    assert "Check that the server runs" in caught.value.remedy
    assert "s3cret" not in str(caught.value)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    "url",
    ["postgresql://ann:s3cret@host:port/shop", "mysql://ann:s3cret@host/shop", "mysql://h/s?password=s3cret"],
)
def test_a_url_that_cannot_be_read_does_not_tell_its_password(url: str) -> None:
    with pytest.raises(StoreError) as caught:
        open_database(url)
    assert "s3cret" not in str(caught.value)
    assert "postgresql://user:password@host" in str(caught.value)


def test_a_wrong_password(own_postgres: Any) -> None:
    with psycopg.connect(own_postgres.get_uri(), autocommit=True) as connection:
        connection.execute("CREATE ROLE ann LOGIN PASSWORD 'right'")
    rules = own_postgres.pgdata / "pg_hba.conf"
    rules.write_text("local all ann scram-sha-256\nlocal all all trust\n")
    with psycopg.connect(own_postgres.get_uri(), autocommit=True) as connection:
        connection.execute("SELECT pg_reload_conf()")
        time.sleep(0.2)
    with pytest.raises(StoreError, match="password authentication failed") as caught:
        open_database(other_url(own_postgres.get_uri(), username="ann", password="s3cret"))
    assert "Check the user and the password" in caught.value.remedy
    assert "s3cret" not in str(caught.value)


def test_a_user_who_may_not_make_tables(postgres_url: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
        connection.execute("DROP ROLE IF EXISTS guest")
        connection.execute("CREATE ROLE guest LOGIN")
    with pytest.raises(StoreError, match="no schema has been selected") as caught:
        open_database(other_url(postgres_url, username="guest"))
    assert "right to create" in caught.value.remedy


def test_databases_of_one_server_are_told_apart_and_a_plain_user_can_ask(postgres_url: str) -> None:
    name = "told_apart"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS plain")
        connection.execute("CREATE ROLE plain LOGIN")
        connection.execute(f"CREATE DATABASE {name} OWNER plain TEMPLATE template0")
    try:
        of_plain = other_url(postgres_url, database=name, username="plain")
        urls = (postgres_url, of_plain, other_url(postgres_url, database=name))
        databases = [open_database(url) for url in urls]
        told = [database.identity() for database in databases]
        for database in databases:
            database.close()
    finally:
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
            connection.execute("DROP ROLE plain")
    assert told[0] != told[1]
    assert told[1] == told[2]


def test_a_database_that_became_read_only(postgres_url: str) -> None:
    open_database(postgres_url).close()
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {connection.info.dbname} SET default_transaction_read_only = on")
    database = open_database(postgres_url)
    with pytest.raises(StoreError, match="read-only") as caught:
        database.store().append_events([an_event(1)]).result()
    assert "name the primary" in caught.value.remedy
    with pytest.raises(StoreError, match="read-only"):
        database.check()
    assert database.store().position() == 0
    database.close()


def test_a_newer_version_and_tables_of_another_program(postgres_url: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("UPDATE zhiyin_store SET version = 99")
        with pytest.raises(StoreError, match="newer Zhiyin: its tables have version 99"):
            open_database(postgres_url)
        connection.execute("DROP TABLE zhiyin_store, events")
        with pytest.raises(StoreError, match=r"another program; its tables are .*items"):
            open_database(postgres_url)


def test_a_lock_that_somebody_holds_is_not_waited_for_for_ever(
    database: SqlDatabase, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zhiyin.stores.postgres.LOCK_SECONDS", 0.2)
    database.store().append_events([an_event(1)]).result()
    quick = open_database(postgres_url)
    with psycopg.connect(postgres_url) as other:
        other.execute("UPDATE log_heads SET position = position")
        with pytest.raises(StoreError, match="lock timeout"):
            quick.store().append_events([an_event(2)]).result()
        assert quick.store().position() == 1, "who reads does not wait"
    assert quick.store().append_events([an_event(2)]).result() == [True]
    quick.close()


def test_text_that_postgres_cannot_hold(database: SqlDatabase) -> None:
    store = database.store()
    with pytest.raises(StoreError, match="cannot be used"):
        store.append_events([an_event(1, item_id="nul\x00")]).result()
    with pytest.raises(StoreError):
        store.put_item("tea", {"title": "nul\x00"}).result() and store.append_events(
            [an_event(3, user_id="nul\x00")]
        ).result()
    assert store.append_events([an_event(2)]).result() == [True]


def test_connections_that_died_while_nobody_wrote_are_not_noticed(
    database: SqlDatabase, postgres_url: str
) -> None:
    store = database.store()
    store.append_events([an_event(1)]).result()
    assert store.counts().events == 1
    with psycopg.connect(postgres_url, autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'zhiyin' AND datname = current_database()"
        )
    assert store.append_events([an_event(2)]).result() == [True]
    with psycopg.connect(postgres_url, autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'zhiyin' AND datname = current_database()"
        )
    assert store.position() == 2


def test_no_psycopg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zhiyin.stores.opening.find_spec", lambda name: None if name == "psycopg" else name)
    with pytest.raises(MissingExtra, match=r"zhiyin\[postgres\]"):
        open_database("postgresql://localhost/shop")


def restart(server: Any) -> None:
    for _ in range(100):
        try:
            # Where nobody buries dead processes, a killed server seems to run.
            (server.pgdata / "postmaster.pid").unlink(missing_ok=True)
            with server._lock:
                server.ensure_postgres_running()
            return
        except Exception:
            time.sleep(0.1)  # What is left of the killed server still holds its memory.
    raise AssertionError("the server did not start again")


def test_a_killed_server_loses_no_acknowledged_event_and_doubles_none(own_postgres: Any) -> None:
    database = open_database(own_postgres.get_uri())
    store, stop = database.store(), threading.Event()
    acknowledged: list[str] = []
    failures: list[StoreError] = []
    told: list[int] = []

    def send(worker: int) -> None:
        number = worker * 1_000_000
        while not stop.is_set():
            event = an_event(number)
            try:
                store.append_events([event], on_durable=lambda _new, position: told.append(position)).result(
                    30
                )
            except StoreError as error:
                failures.append(error)
                time.sleep(0.02)  # The same event again, as a client does who got no answer.
                continue
            acknowledged.append(event.event_id)
            number += 1

    with ThreadPoolExecutor(6) as pool:
        sending = [pool.submit(send, worker) for worker in range(6)]
        try:
            for _ in range(2):
                time.sleep(0.5)
                os.kill(own_postgres.get_pid(), signal.SIGKILL)
                time.sleep(0.3)
                restart(own_postgres)
                before = len(acknowledged)
                deadline = time.monotonic() + 10
                while len(acknowledged) < before + 50 and time.monotonic() < deadline:
                    time.sleep(0.01)
                assert len(acknowledged) >= before + 50, "it goes on by itself"
        finally:
            stop.set()
        for future in sending:
            future.result(30)
    database.check()
    stored = [event.event_id for event in store.events_of("ann")]
    assert len(stored) == len(set(stored))
    assert set(stored) == set(acknowledged), "every event was repeated until it was acknowledged"
    assert len(acknowledged) == len(set(acknowledged))
    assert told == sorted(told)
    assert store.position() == len(stored)
    assert failures
    assert all(error.remedy for error in failures)
    database.close()


def test_a_password_that_is_taken_for_the_host_is_not_shown() -> None:
    with pytest.raises(StoreError, match="cannot be read") as caught:
        open_database("postgresql://shop:sec@ret@127.0.0.1:1/shop")
    assert "ret" not in str(caught.value)
    assert "%40" in str(caught.value)
