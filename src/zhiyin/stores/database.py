"""All tenants behind one SQL database, with one writer for the whole process."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Waited
from typing import Any, TypeVar

import sqlalchemy as sql
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from zhiyin.domain.errors import StoreError, StoreOverloaded
from zhiyin.stores import tables
from zhiyin.stores.access import SqlAccess
from zhiyin.stores.backend import Backend
from zhiyin.stores.changes import Change, Made, UnloggedChange
from zhiyin.stores.committing import make_all
from zhiyin.stores.events import DEFAULT_TENANT, AccessStore
from zhiyin.stores.quick_appends import append_quickly
from zhiyin.stores.sql_store import SqlStore
from zhiyin.stores.writer import ANSWER_SECONDS, CAPACITY, EveryWriteFails, GroupWriter

T = TypeVar("T")

CHECK_SECONDS = 10.0
"""After how long `SqlDatabase.check` gives up."""

_OVERLOADED_SECONDS = 0.1
"""After how long `SqlDatabase.write_apart` tries again."""


class SqlDatabase:
    """Fulfils `Database` on SQLite and on PostgreSQL; open it with `zhiyin.stores.opening.open_database`.

    Args:
        backend: The database itself; closed together with this.
        answer_seconds: After how long who waits for a write is told that it takes too long.
    """

    queue_capacity = CAPACITY

    def __init__(self, backend: Backend, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        self.backend = backend
        self.is_shared = backend.is_shared
        self.access: AccessStore = SqlAccess(self)
        self._writer = GroupWriter(self._commit, answer_seconds=answer_seconds)
        self._stores: dict[str, SqlStore] = {}
        self._making = threading.Lock()

    def store(self, tenant: str = DEFAULT_TENANT) -> SqlStore:
        """Return the store of one tenant; see `Database`."""
        with self._making:
            if tenant not in self._stores:
                self._stores[tenant] = SqlStore(tenant, self)
            return self._stores[tenant]

    def tenants(self) -> list[str]:
        """Return the tenants that have anything stored, by name; see `Database`."""
        heads = tables.log_heads.c
        unlogged = [
            sql.exists().where(table.c.tenant == heads.tenant)
            for table in (tables.impressions, tables.bundles)
        ]
        statement = (
            sql.select(heads.tenant).where(sql.or_(heads.position > 0, *unlogged)).order_by(heads.tenant)
        )
        return [row.tenant for row in self.read(statement)]

    def identity(self) -> str:
        """Return what names this database alone; see `Database`."""
        try:
            return self.backend.identity()
        except Exception as error:
            raise self._told(error) from None

    def queue_depth(self) -> int:
        """Return how many writes wait to become durable; see `Database`."""
        return self._writer.depth()

    def end_within(self, seconds: float) -> None:
        """Let nobody wait longer for a database that does not answer; see `Database`."""
        self.backend.end_within(seconds)
        self._writer.end_within(seconds)

    def check(self) -> None:
        """Return when the database can be written to; see `Database`."""
        try:
            self.submit(_Touch()).result(timeout=CHECK_SECONDS)
        except Waited:
            raise StoreError(
                f"{self.backend.label} has not finished a write within {CHECK_SECONDS:.0f} seconds.",
                remedy="See whether it is overloaded, or whether its disk is.",
            ) from None
        self.backend.check_room()

    def close(self) -> None:
        """Finish the writes, then let go; see `Database`."""
        self._writer.close()
        self.backend.close()

    def submit(self, change: Change[T], on_durable: Callable[[T, int], None] | None = None) -> Future[T]:
        """Queue a change; the future is done when it is durable."""
        return self._writer.submit(change, on_durable)

    def write_apart(self, change: Change[T]) -> T:
        """Make a change of a long work: beside others where the database has two writers, else in turn.

        Where too much waits, it waits, too: the work of hours should not be lost for that.
        """
        while not self.is_shared:
            try:
                return self._writer.submit(change, answer_seconds=math.inf).result()
            except StoreOverloaded:
                time.sleep(_OVERLOADED_SECONDS)
        try:
            made: Made[T] = self._commit([change])[0]
        except EveryWriteFails as error:
            raise error.reason from None
        return made.result

    def read(self, statement: sql.Executable) -> Sequence[sql.Row[Any]]:
        """Run one reading statement."""
        return self.reading(lambda connection: connection.execute(statement).all())

    def reading(self, read: Callable[[Connection], T]) -> T:
        """Run several reading statements on one connection; once more when the connection was dead."""
        try:
            try:
                return self._read_once(read)
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                return self._read_once(read)
        except Exception as error:
            raise self._told(error) from None

    def _read_once(self, read: Callable[[Connection], T]) -> T:
        with self.backend.engine.connect() as connection:
            return read(connection)

    def _commit(self, changes: Sequence[Change[Any]]) -> list[Made[Any]]:
        """Make changes in one durable transaction, all or none."""
        made, error = self._try_quickly(changes)
        if made is None and error is None:
            made, error = self._try(changes)
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            # The connection was dead, and a transaction that never came to its commit has left no trace.
            made, error = self._try(changes)
        if error is not None:
            told = self._told(error)
            raise EveryWriteFails(told) if self.backend.fails_all(error) else told from None
        assert made is not None
        return made

    def _try_quickly(self, changes: Sequence[Change[Any]]) -> tuple[list[Made[Any]] | None, Exception | None]:
        try:
            return append_quickly(self.backend, changes), None
        except EveryWriteFails:
            raise
        except Exception as error:
            return None, error

    def _try(self, changes: Sequence[Change[Any]]) -> tuple[list[Made[Any]] | None, Exception | None]:
        """Make changes once; an error before the commit is returned, one of the commit is raised."""
        try:
            connection = self.backend.writing.connect()
        except Exception as error:
            return None, error
        with connection:
            try:
                connection.begin()
                made = make_all(connection, self.backend, changes)
            except Exception as error:
                return None, error
            self._finish(connection, changes)
        return made, None

    def _finish(self, connection: Connection, changes: Sequence[Change[Any]]) -> None:
        try:
            connection.commit()
            self.backend.after_commit(has_erased=any(change.erases for change in changes))
        except Exception as error:
            # Perhaps it was committed, and only the answer was lost: trying again is left to who sent it.
            raise EveryWriteFails(self._told(error)) from None

    def _told(self, error: Exception) -> Exception:
        return self.backend.store_error(error)


class _Touch(UnloggedChange):
    """Writes, and changes nothing that matters."""

    def make_in(self, connection: Connection) -> None:
        connection.execute(sql.update(tables.version).values(version=tables.version.c.version))
