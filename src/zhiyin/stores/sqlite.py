"""The default store: one SQLite file, durable, without a server."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Any

import polars as pl
import sqlalchemy as sql
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import SQLAlchemyError

from zhiyin.domain.errors import StoreError
from zhiyin.stores import changes, tables
from zhiyin.stores.events import BATCH_SCHEMA
from zhiyin.stores.records import Event, Impression, StoreCounts, StoredItem, StoredUser
from zhiyin.stores.writer import GroupWriter

# Windows has no such locks; there, two services on one file are not noticed.
fcntl = importlib.import_module("fcntl") if importlib.util.find_spec("fcntl") else None

BUSY_SECONDS = 5.0
"""How long a write waits for another program that holds the file."""


class SqliteStore:
    """Keeps everything in one file; fulfils `EventStore`.

    The file is in WAL mode with ``synchronous=FULL``: a commit has reached the disk. One service uses a file
    at a time, because the live state of a second one would not see what the first one writes.

    Args:
        path: The file; it is made, with its folder, when it is not there.

    Raises:
        StoreError: when the file is not a database, is another program's, comes from a newer version, is in
            use by another service, or cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = _lock_file(self.path)
        try:
            self._engine = _engine(self.path)
            with self._store_errors():
                _prepare(self._engine, self.path)
        except BaseException:
            _unlock(self._lock)
            raise
        writing = self._engine.execution_options(begin="BEGIN IMMEDIATE")
        self._writer = GroupWriter(writing.begin, self._as_store_error)

    def append_events(
        self, events: Sequence[Event], *, on_durable: Callable[[list[bool]], None] | None = None
    ) -> Future[list[bool]]:
        """Add events to the log; see `EventStore`."""
        return self._writer.submit(lambda connection: changes.append_events(connection, events), on_durable)

    def put_item(
        self,
        item_id: str,
        attributes: Mapping[str, Any],
        *,
        on_durable: Callable[[StoredItem], None] | None = None,
    ) -> Future[StoredItem]:
        """Add or change attributes of an item; see `EventStore`."""
        return self._writer.submit(
            lambda connection: changes.put_item(connection, item_id, attributes), on_durable
        )

    def delete_item(self, item_id: str, *, on_durable: Callable[[bool], None] | None = None) -> Future[bool]:
        """Mark an item as deleted; see `EventStore`."""
        return self._writer.submit(lambda connection: changes.delete_item(connection, item_id), on_durable)

    def put_user(
        self,
        user_id: str,
        attributes: Mapping[str, Any],
        *,
        on_durable: Callable[[StoredUser], None] | None = None,
    ) -> Future[StoredUser]:
        """Add or change attributes of a user; see `EventStore`."""
        return self._writer.submit(
            lambda connection: changes.put_user(connection, user_id, attributes), on_durable
        )

    def delete_user(self, user_id: str, *, on_durable: Callable[[bool], None] | None = None) -> Future[bool]:
        """Remove a user; see `EventStore`. Its bytes are overwritten, in the log too."""

        def forget(was_known: bool) -> None:
            if on_durable is not None:
                on_durable(was_known)
            self._empty_write_ahead_log()

        return self._writer.submit(lambda connection: changes.delete_user(connection, user_id), forget)

    def append_impressions(self, impressions: Sequence[Impression]) -> Future[None]:
        """Add shown slates; see `EventStore`."""
        return self._writer.submit(lambda connection: changes.append_impressions(connection, impressions))

    def event_batches(self, size: int = 200_000) -> Iterator[pl.DataFrame]:
        """Yield the event log; see `EventStore`."""
        columns = [tables.events.c[name] for name in BATCH_SCHEMA]
        last = -1
        while True:
            after = sql.select(*columns).where(tables.events.c.sequence > last)
            rows = self._read(after.order_by(tables.events.c.sequence).limit(size))
            if not rows:
                return
            last = rows[-1][0]
            yield pl.DataFrame([tuple(row) for row in rows], schema=BATCH_SCHEMA, orient="row")

    def events_of(self, user_id: str) -> list[Event]:
        """Return one user's events; see `EventStore`."""
        log = tables.events
        statement = sql.select(log).where(log.c.user_id == user_id).order_by(log.c.sequence)
        return [
            Event(row.event_id, user_id, row.item_id, row.event, row.timestamp, row.value, row.context or {})
            for row in self._read(statement)
        ]

    def items(self) -> list[StoredItem]:
        """Return the items; see `EventStore`."""
        rows = self._read(sql.select(tables.items).order_by(tables.items.c.sequence))
        return [StoredItem(row.item_id, row.attributes, row.deleted) for row in rows]

    def users(self) -> list[StoredUser]:
        """Return the users with attributes; see `EventStore`."""
        return [StoredUser(row.user_id, row.attributes) for row in self._read(sql.select(tables.users))]

    def deleted_users(self) -> list[str]:
        """Return the removed users; see `EventStore`."""
        return [row.user_id for row in self._read(sql.select(tables.deleted_users))]

    def impressions(self) -> list[Impression]:
        """Return the shown slates; see `EventStore`."""
        shown = tables.impressions
        return [
            Impression(
                row.request_id,
                row.user_id,
                row.timestamp,
                row.route,
                row.bundle,
                tuple(row.item_ids),
                tuple(row.propensities),
            )
            for row in self._read(sql.select(shown).order_by(shown.c.sequence))
        ]

    def counts(self) -> StoreCounts:
        """Return how much there is; see `EventStore`."""
        sizes = [
            self._read(sql.select(sql.func.count()).select_from(table))[0][0]
            for table in (tables.events, tables.items, tables.users, tables.impressions)
        ]
        return StoreCounts(*sizes)

    def check(self) -> None:
        """Return when the store can be written to; see `EventStore`."""
        self._writer.submit(_touch).result(timeout=BUSY_SECONDS + 1)

    def close(self) -> None:
        """Finish the writes and let go of the file; see `EventStore`."""
        self._writer.close()
        self._engine.dispose()
        _unlock(self._lock)

    def _read(self, statement: sql.Select[Any]) -> Sequence[sql.Row[Any]]:
        with self._store_errors(), self._engine.connect() as connection:
            return connection.execute(statement).all()

    def _empty_write_ahead_log(self) -> None:
        with self._store_errors(), closing(self._engine.raw_connection()) as connection:
            connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")

    @contextmanager
    def _store_errors(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise self._as_store_error(error) from None

    def _as_store_error(self, error: Exception) -> Exception:
        if not isinstance(error, (SQLAlchemyError, sqlite3.Error)):
            return error
        return _store_error(self.path, str(getattr(error, "orig", None) or error))


def _touch(connection: Connection) -> None:
    """Take the write lock and change nothing that matters."""
    connection.execute(sql.update(tables.version).values(version=tables.SCHEMA_VERSION))


def _engine(path: Path) -> Engine:
    engine = sql.create_engine(
        sql.URL.create("sqlite", database=str(path)), connect_args={"timeout": BUSY_SECONDS}
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # The driver would otherwise decide by itself when to begin.
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA secure_delete=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))

    return engine


def _prepare(engine: Engine, path: Path) -> None:
    """Make the tables, or check that those which are there are ours and of a version we can read."""
    with engine.begin() as connection:
        names = set(sql.inspect(connection).get_table_names())
        if names and tables.version.name not in names:
            raise StoreError(
                f"{path} is a database of another program; its tables are {', '.join(sorted(names))}.",
                remedy="Name another file; it is made when it is not there:  --store sqlite:///zhiyin.db",
            )
        tables.metadata.create_all(connection)
        found = connection.execute(sql.select(tables.version.c.version)).scalar_one_or_none()
        if found is None:
            connection.execute(sql.insert(tables.version), {"version": tables.SCHEMA_VERSION})
        elif found > tables.SCHEMA_VERSION:
            raise StoreError(
                f"{path} was written by a newer Zhiyin: its tables have version {found}.",
                possible=f"This Zhiyin reads versions up to {tables.SCHEMA_VERSION}.",
                remedy="Upgrade Zhiyin, or name another file.",
            )
        connection.execute(sql.update(tables.version).values(version=tables.SCHEMA_VERSION))


def _lock_file(path: Path) -> IO[bytes] | None:
    """Hold a lock beside the database for as long as the store is open; the system frees it when we die."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise StoreError(f"{path} is a folder.", remedy="Name a file inside it.")
        if fcntl is None:
            return None
        lock = open(path.with_name(path.name + ".lock"), "ab")  # noqa: SIM115
    except OSError as error:
        raise StoreError(
            f"The store {path} cannot be opened: {error.strerror}.",
            remedy="Name a file in a folder that this user may write to.",
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise StoreError(
            f"The store {path} is locked: another service is using it.",
            remedy="Stop the other one, or name another file. Services that share a store need PostgreSQL.",
        ) from None
    return lock


def _unlock(lock: IO[bytes] | None) -> None:
    if lock is not None:
        lock.close()


_REMEDIES = {
    "not a database": "Name another file; it is made when it is not there.",
    "malformed": "Restore the file from a copy, or name another file.",
    "locked": f"Another program has held the file for {BUSY_SECONDS:.0f} seconds; close it and try again.",
    "readonly": "Give this user the right to write to the file and to its folder.",
    "unable to open": "Give this user the right to write to the file and to its folder.",
    "full": "Free some space on the disk; nothing of this write was stored, and it can be sent again.",
    "disk i/o": "Check the disk; nothing of this write was stored, and it can be sent again.",
}


def _store_error(path: Path, said: str) -> StoreError:
    remedy = next((remedy for word, remedy in _REMEDIES.items() if word in said.lower()), "")
    return StoreError(f"The store {os.fspath(path)} cannot be used: {said}.", remedy=remedy)
