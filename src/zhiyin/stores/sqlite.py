"""The default database: one SQLite file, durable, without a server."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, cast

import sqlalchemy as sql
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import SQLAlchemyError

from zhiyin.domain.errors import StoreError
from zhiyin.stores import tables
from zhiyin.stores.backend import Backend, filled_columns
from zhiyin.stores.file_lock import FileLock, store_in_use
from zhiyin.stores.log import OpenLog
from zhiyin.stores.migrating import migrate, version_of
from zhiyin.stores.writer import EveryWriteFails

BUSY_SECONDS = 5.0
"""How long a write waits for another program that holds the file."""

LEAST_ROOM_BYTES = 1_000_000
"""What a disk needs for a few groups of writes; with less free, the store says that it is not ready."""

ERASE_MILLISECONDS = 200
"""How long an erasure waits for those who read, before it is tried again after the next write."""

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_MOVE_HEAD = "UPDATE log_heads SET position = position + ? WHERE tenant = ? RETURNING position"
_POOL = {"pool_size": 8, "max_overflow": 56}


class SqliteBackend(Backend):
    """One file in WAL mode with ``synchronous=FULL``: a commit has reached the disk, readers never wait.

    One process uses a file at a time, held by a lock beside it. A guest may come while another process holds
    it, reads, and changes keys and audit log alone: they have no positions, so that nobody else's live state
    can fall behind.

    Args:
        path: The file; it is made, with its folder, when it is not there.
        is_guest: Whether to open the file although another process holds the lock.

    Raises:
        StoreError: when the file is not a database, is another program's, comes from a newer version, is in
            use by another service (for a guest: one of an older version), or cannot be written.
    """

    is_shared: ClassVar[bool] = False

    def __init__(self, path: str | Path, *, is_guest: bool = False) -> None:
        self.path = Path(path)
        self.label = f"The store {self.path}"
        self._lock = None if is_guest else FileLock(self.path)
        self._must_empty_log = False
        self._appending: sqlite3.Connection | None = None
        try:
            self.engine = _engine(self.path)
            self.writing = self.engine.execution_options(begin="BEGIN IMMEDIATE")
            if is_guest:
                self._migrate_as_guest()
            else:
                self._migrate()
        except BaseException as error:
            self._let_go()
            if isinstance(error, Exception):
                raise self.store_error(error) from None
            raise

    def identity(self) -> str:
        """Return a digest of the path; see `Backend`."""
        return hashlib.sha256(str(self.path.resolve()).encode()).hexdigest()[:16]

    def open_logs(self, connection: Connection, tenants: Sequence[str]) -> dict[str, OpenLog]:
        """Read the heads; `BEGIN IMMEDIATE` keeps every other writer out already.

        Raises:
            StoreError: when this is a guest.
        """
        self._refuse_guest()
        logs = {}
        for tenant in tenants:
            found = connection.exec_driver_sql(
                "SELECT position FROM log_heads WHERE tenant = ?", (tenant,)
            ).scalar_one_or_none()
            if found is None:
                connection.exec_driver_sql(
                    "INSERT INTO log_heads (tenant, position) VALUES (?, 0)", (tenant,)
                )
            logs[tenant] = OpenLog(tenant, found or 0, found or 0)
        return logs

    def move_heads(self, connection: Connection, logs: Iterable[OpenLog]) -> None:
        """Write the new positions of logs to their heads."""
        for log in logs:
            connection.exec_driver_sql(
                "UPDATE log_heads SET position = ? WHERE tenant = ?", (log.position, log.tenant)
            )

    def insert(self, connection: Connection, table: sql.Table, columns: Sequence[Sequence[Any]]) -> int:
        """Add rows whose key is new; see `Backend`."""
        rows = list(zip(*columns, strict=True))
        # The driver counts the rows of all statements together.
        with closing(connection.connection.cursor()) as cursor:
            cursor.executemany(_insert_statement(table), rows)
            return int(cursor.rowcount)

    def append_new_events(
        self, tenant: str, n_positions: int, steps: Sequence[int], columns: Sequence[Sequence[Any]]
    ) -> int | None:
        """Add new events; see `Backend`."""
        self._refuse_guest()
        cursor = self._appending_cursor()
        cursor.execute("BEGIN IMMEDIATE")
        try:
            head = cursor.execute(_MOVE_HEAD, (n_positions, tenant)).fetchall()
            if not head:
                cursor.execute("ROLLBACK")
                return None
            newest = int(head[0][0])
            before = newest - n_positions
            rows = list(zip([tenant] * len(steps), [before + step for step in steps], *columns, strict=True))
            cursor.executemany(_insert_statement(tables.events), rows)
            if cursor.rowcount < len(rows):
                cursor.execute("ROLLBACK")
                return None
        except BaseException:
            self._give_up_appending()
            raise
        try:
            cursor.execute("COMMIT")
            self.after_commit(has_erased=False)
        except Exception as error:
            self._give_up_appending()
            raise EveryWriteFails(self.store_error(error)) from None
        return newest

    def store_error(self, error: Exception) -> Exception:
        """Turn an error of the database into one that says what to do."""
        cause = getattr(error, "orig", None) or error
        if unheld := self.cannot_hold(cause):
            return unheld
        if isinstance(error, (SQLAlchemyError, sqlite3.Error)):
            return _store_error(self.label, str(cause))
        return error

    def fails_all(self, error: Exception) -> bool:
        """Whether an error has nothing to do with what was written."""
        said = str(error).lower()
        is_ours = isinstance(error, (SQLAlchemyError, sqlite3.Error))
        return is_ours and any(word in said for word in ("locked", "readonly", "not a database", "malformed"))

    def check_room(self, n_bytes: int = 0) -> None:
        """Look at the disk itself: where a large write fails, a small one may still find a place.

        What is free is not what this user may use, where there are quotas or a limit on the size of files, so
        such a limit is looked at, and the room is taken for a moment.
        """
        # It stands in the log and in the file, and the log is longer; both stay while anybody reads.
        n_needed = LEAST_ROOM_BYTES + 3 * n_bytes
        n_free = shutil.disk_usage(self.path.parent).free
        if n_free < n_needed:
            wanted = (
                f"; to store {n_bytes // 1_000} kB takes three times as much for a while" if n_bytes else ""
            )
            raise self._no_room(f"{n_free // 1_000} kB are left on its disk{wanted}")
        files = (self.path, self.path.with_name(f"{self.path.name}-wal"))
        longest = max(file.stat().st_size for file in files if file.exists())
        limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        if limit != resource.RLIM_INFINITY and longest + n_needed > limit:
            raise self._no_room(f"its files may grow to {limit // 1_000} kB")
        try:
            with tempfile.TemporaryFile(dir=self.path.parent) as probe:
                os.posix_fallocate(probe.fileno(), 0, LEAST_ROOM_BYTES)
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise self._no_room(str(error.strerror)) from None

    def _no_room(self, why: str) -> StoreError:
        return StoreError(f"{self.label} has no room: {why}.", remedy="Free some space.")

    def after_commit(self, *, has_erased: bool) -> None:
        """Empty the write-ahead log after an erasure, since the old pages still stand in it.

        Somebody who reads at that moment is in the way for as long as they read; then it is tried again after
        every commit, and when the file is closed.
        """
        self._must_empty_log = self._must_empty_log or has_erased
        if self._must_empty_log:
            with closing(self.engine.raw_connection()) as connection:
                cursor = connection.cursor()
                cursor.execute(f"PRAGMA busy_timeout = {ERASE_MILLISECONDS}")
                cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                is_in_the_way = cursor.fetchone() != (0, 0, 0)
                cursor.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
            self._must_empty_log = is_in_the_way

    def close(self) -> None:
        """Let go of the file."""
        self._give_up_appending()
        self.engine.dispose()
        self._let_go()

    def _migrate(self) -> None:
        with self.writing.begin() as connection:
            migrate(connection, str(self.path))

    def _migrate_as_guest(self) -> None:
        """Bring tables to this version, unless a service of an older one still counts on them."""
        with self.engine.connect() as connection:
            if version_of(connection, str(self.path)) == tables.SCHEMA_VERSION:
                return
        try:
            lock = FileLock(self.path)
        except StoreError:
            raise StoreError(
                f"{self.label} has tables of an older Zhiyin, and a service of that version uses it.",
                remedy="Use the Zhiyin of that service, or start the service again with this one first.",
            ) from None
        try:
            self._migrate()
        finally:
            lock.release()

    def _refuse_guest(self) -> None:
        if self._lock is None:
            raise store_in_use(self.path)

    def _appending_cursor(self) -> sqlite3.Cursor:
        """Return the cursor of a connection that the pool does not know any more."""
        if self._appending is None:
            connection = self.engine.raw_connection()
            self._appending = cast("sqlite3.Connection", connection.driver_connection)
            connection.detach()
        return self._appending.cursor()

    def _give_up_appending(self) -> None:
        """Close the connection; what was not committed is undone."""
        if self._appending is not None:
            # A statement that failed halfway would keep the file locked for as long as its cursor lives.
            with suppress(sqlite3.Error):
                self._appending.rollback()
            self._appending.close()
            self._appending = None

    def _let_go(self) -> None:
        if self._lock is not None:
            self._lock.release()


@cache
def _insert_statement(table: sql.Table) -> str:
    names = [column.name for column in filled_columns(table)]
    places = ", ".join("?" * len(names))
    return f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({places}) ON CONFLICT DO NOTHING"


def _engine(path: Path) -> Engine:
    engine = sql.create_engine(
        sql.URL.create("sqlite", database=str(path)), connect_args={"timeout": BUSY_SECONDS}, **_POOL
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


_REMEDIES = {
    "not a database": "Name another file; it is made when it is not there.",
    "malformed": "Restore the file from a copy, or name another file.",
    "locked": f"Another program has held the file for {BUSY_SECONDS:.0f} seconds; close it and try again.",
    "readonly": "Give this user the right to write to the file and to its folder.",
    "unable to open": "Give this user the right to write to the file and to its folder.",
    "full": "Free some space on the disk; nothing of this write was stored, and it can be sent again.",
    "disk i/o": "Check the disk; nothing of this write was stored, and it can be sent again.",
}


def _store_error(label: str, said: str) -> StoreError:
    remedy = next((remedy for word, remedy in _REMEDIES.items() if word in said.lower()), "")
    return StoreError(f"{label} cannot be used: {said}.", remedy=remedy)
