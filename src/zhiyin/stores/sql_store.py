"""What one tenant keeps in a SQL database."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol, TypeVar

import polars as pl
import sqlalchemy as sql
from sqlalchemy import Connection

from zhiyin.domain.errors import BundleError, StoreError
from zhiyin.stores import changes, reading, tables
from zhiyin.stores.access import Desk
from zhiyin.stores.appends import AppendEvents, AppendImpressions
from zhiyin.stores.backend import Backend
from zhiyin.stores.bundle_files import Files, damaged_file, files_of, write_files
from zhiyin.stores.bundle_writing import drop_files, files_in, put_files
from zhiyin.stores.changes import Change
from zhiyin.stores.events import EVENTS_AT_ONCE, OnDurable
from zhiyin.stores.records import (
    Changes,
    Erased,
    Event,
    Impression,
    StoreCounts,
    StoredBundle,
    StoredDocument,
    StoredItem,
    StoredUser,
)

T = TypeVar("T")


class TenantDesk(Desk, Protocol):
    """Where a store hands in its reads and writes; `zhiyin.stores.database.SqlDatabase` is it."""

    backend: Backend

    def write_apart(self, change: Change[T]) -> T:
        """Make a long change without holding up the others."""
        ...

    def reading(self, read: Callable[[Connection], T]) -> T:
        """Run several reading statements on one connection."""
        ...


class SqlStore:
    """Fulfils `EventStore`.

    Args:
        tenant: Whose store.
        desk: Where reads and writes are handed in.
    """

    def __init__(self, tenant: str, desk: TenantDesk) -> None:
        self.tenant = tenant
        self._desk = desk

    def append_events(
        self, events: Sequence[Event], *, on_durable: OnDurable[list[bool]] | None = None
    ) -> Future[list[bool]]:
        """Add events to the log; see `EventStore`."""
        try:
            change = AppendEvents(self.tenant, events, self._desk.backend)
        except (TypeError, ValueError) as error:
            refused: Future[list[bool]] = Future()
            refused.set_exception(
                StoreError(
                    f"The context of an event cannot be written as JSON: {error}.",
                    possible="JSON holds texts, numbers, true, false, null, lists, and objects of these.",
                )
            )
            return refused
        return self._desk.submit(change, on_durable)

    def put_item(
        self, item_id: str, attributes: Mapping[str, Any], *, on_durable: OnDurable[StoredItem] | None = None
    ) -> Future[StoredItem]:
        """Add or change attributes of an item; see `EventStore`."""
        return self._desk.submit(changes.PutItem(self.tenant, item_id, attributes), on_durable)

    def delete_item(self, item_id: str, *, on_durable: OnDurable[bool] | None = None) -> Future[bool]:
        """Mark an item as deleted; see `EventStore`."""
        return self._desk.submit(changes.DeleteItem(self.tenant, item_id), on_durable)

    def put_user(
        self, user_id: str, attributes: Mapping[str, Any], *, on_durable: OnDurable[StoredUser] | None = None
    ) -> Future[StoredUser]:
        """Add or change attributes of a user; see `EventStore`."""
        return self._desk.submit(changes.PutUser(self.tenant, user_id, attributes), on_durable)

    def delete_user(self, user_id: str, *, on_durable: OnDurable[Erased] | None = None) -> Future[Erased]:
        """Remove a user; see `EventStore`. In SQLite the bytes are overwritten, in the log too."""
        return self._desk.submit(changes.DeleteUser(self.tenant, user_id, int(time.time())), on_durable)

    def append_impressions(self, impressions: Sequence[Impression]) -> Future[None]:
        """Add shown slates; see `EventStore`."""
        return self._desk.submit(AppendImpressions(self.tenant, impressions, self._desk.backend))

    def put_document(
        self,
        kind: str,
        name: str,
        body: Mapping[str, Any] | None,
        *,
        on_durable: OnDurable[None] | None = None,
    ) -> Future[None]:
        """Store or remove a document; see `EventStore`."""
        return self._desk.submit(changes.PutDocument(self.tenant, kind, name, body), on_durable)

    def documents(self, kind: str) -> list[StoredDocument]:
        """Return the documents of a kind by name; see `EventStore`."""
        docs = tables.documents.c
        there = (docs.tenant == self.tenant, docs.kind == kind, docs.body.is_not(None))
        rows = self._desk.read(sql.select(docs.name, docs.body).where(*there))
        return sorted(
            (StoredDocument(kind, row.name, row.body) for row in rows), key=lambda document: document.name
        )

    def put_bundle(self, version: str, folder: Path, *, position: int, facts: Mapping[str, Any]) -> None:
        """Store the files of a bundle; see `EventStore`."""

        def find(connection: Connection) -> tuple[Files | None, bool]:
            files = files_of(connection, self.tenant, version)
            is_whole = files is not None and damaged_file(connection, self.tenant, version, files) is None
            return files, is_whole

        before, is_whole = self._desk.reading(find)
        if is_whole:
            return
        self._desk.backend.check_room(sum(path.stat().st_size for path in files_in(Path(folder))))
        row = StoredBundle(version, position, int(time.time()), facts, is_active=False)
        put_files(self._desk.write_apart, self.tenant, row, Path(folder), before)

    def fetch_bundle(self, version: str, folder: Path) -> None:
        """Write the files of a bundle into a new folder; see `EventStore`."""

        def fetch(connection: Connection) -> None:
            files = files_of(connection, self.tenant, version)
            while True:
                if files is None:
                    raise changes.no_such_bundle(version)
                try:
                    return write_files(connection, self.tenant, version, files, Path(folder))
                except BundleError:
                    # It may have been removed, or mended, while it was read.
                    before, files = files, files_of(connection, self.tenant, version)
                    if files == before:
                        raise

        self._desk.reading(fetch)

    def bundles(self) -> list[StoredBundle]:
        """Return the versions, oldest first; see `EventStore`."""
        mine = sql.select(tables.bundles).where(tables.bundles.c.tenant == self.tenant)
        rows = self._desk.read(mine.order_by(tables.bundles.c.sequence))
        active = max((row.position for row in rows if row.position is not None), default=None)
        return [
            StoredBundle(
                row.version,
                row.trained_to,
                row.timestamp,
                row.facts,
                active is not None and row.position == active,
            )
            for row in rows
        ]

    def activate_bundle(self, version: str, *, on_durable: OnDurable[str] | None = None) -> Future[str]:
        """Make a stored version the one to serve; see `EventStore`."""
        return self._desk.submit(changes.ActivateBundle(self.tenant, version), on_durable)

    def drop_bundle(self, version: str) -> None:
        """Remove a version and its files; see `EventStore`."""
        drop_files(self._desk.write_apart, self.tenant, version)

    def position(self) -> int:
        """Return the newest position of the change log; see `EventStore`."""
        return self._desk.reading(lambda connection: reading.head(connection, self.tenant))

    def changes_after(self, position: int, *, limit: int = EVENTS_AT_ONCE) -> Changes:
        """Return what changed after a position; see `EventStore`."""
        return self._desk.reading(
            lambda connection: reading.changes_after(connection, self.tenant, position, limit)
        )

    def event_batches(self, size: int = EVENTS_AT_ONCE) -> Iterator[pl.DataFrame]:
        """Yield the event log; see `EventStore`."""
        last = (0, 0)
        while rows := self._desk.read(reading.events_page(self.tenant, last, size)):
            last = rows[-1].position, rows[-1].sequence
            yield reading.batch(rows)

    def events_of(self, user_id: str) -> list[Event]:
        """Return one user's events; see `EventStore`."""
        log = tables.events
        mine = sql.select(log).where(log.c.tenant == self.tenant, log.c.user_id == user_id)
        return [reading.event(row) for row in self._desk.read(mine.order_by(log.c.position, log.c.sequence))]

    def impressions_of(self, user_id: str) -> list[Impression]:
        """Return what one user was shown; see `EventStore`."""
        shown = tables.impressions
        mine = sql.select(shown).where(shown.c.tenant == self.tenant, shown.c.user_id == user_id)
        return [reading.impression(row) for row in self._desk.read(mine.order_by(shown.c.sequence))]

    def user(self, user_id: str) -> StoredUser | None:
        """Return the attributes of one user; see `EventStore`."""
        rows = self._desk.read(self._mine(tables.users).where(tables.users.c.user_id == user_id))
        return reading.user(rows[0]) if rows else None

    def items(self) -> list[StoredItem]:
        """Return the items; see `EventStore`."""
        rows = self._desk.read(self._mine(tables.items).order_by(tables.items.c.sequence))
        return [StoredItem(row.item_id, row.attributes, row.deleted) for row in rows]

    def user_batches(self, size: int = 10_000) -> Iterator[list[StoredUser]]:
        """Yield the users with attributes; see `EventStore`."""
        user_id = tables.users.c.user_id
        page, last = self._mine(tables.users).order_by(user_id).limit(size), ""
        while rows := self._desk.read(page.where(user_id > last)):
            last = rows[-1].user_id
            yield [reading.user(row) for row in rows]

    def deleted_users(self) -> list[str]:
        """Return the removed users; see `EventStore`."""
        return [row.user_id for row in self._desk.read(self._mine(tables.deleted_users))]

    def impression_batches(self, since: int = 0, size: int = 50_000) -> Iterator[list[Impression]]:
        """Yield the shown slates; see `EventStore`."""
        shown = tables.impressions.c
        mine = (shown.tenant == self.tenant, shown.timestamp >= since)
        # Where to begin is read from an index; everything before would else be looked at for nothing.
        first = self._desk.read(sql.select(sql.func.min(shown.sequence).label("least")).where(*mine))[0].least
        last = (first or 0) - 1
        page = sql.select(tables.impressions).where(*mine).order_by(shown.sequence).limit(size)
        while rows := self._desk.read(page.where(shown.sequence > last)):
            last = rows[-1].sequence
            yield [reading.impression(row) for row in rows]

    def counts(self) -> StoreCounts:
        """Return how much there is; see `EventStore`."""
        return StoreCounts(
            *(
                self._desk.read(sql.select(sql.func.count()).where(table.c.tenant == self.tenant))[0][0]
                for table in (tables.events, tables.items, tables.users, tables.impressions)
            )
        )

    def _mine(self, table: sql.Table) -> sql.Select[Any]:
        return sql.select(table).where(table.c.tenant == self.tenant)
