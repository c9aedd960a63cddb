"""API keys and the audit log in a SQL database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeVar

import sqlalchemy as sql
from sqlalchemy import Connection

from zhiyin.stores import tables
from zhiyin.stores.changes import Change, UnloggedChange, upsert
from zhiyin.stores.records import AuditEntry, StoredKey

T = TypeVar("T")


class Desk(Protocol):
    """Where stores hand in what they want written and read; `zhiyin.stores.database.SqlDatabase` is it."""

    def submit(self, change: Change[T], on_durable: Callable[[T, int], None] | None = None) -> Future[T]:
        """Queue a change."""
        ...

    def read(self, statement: sql.Executable) -> Sequence[sql.Row[Any]]:
        """Run one reading statement."""
        ...


class SqlAccess:
    """Fulfils `AccessStore`.

    Args:
        desk: Where reads and writes are handed in.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def put_key(self, key: StoredKey) -> None:
        """Add or change a key; see `AccessStore`."""
        self._desk.submit(_PutKey(key)).result()

    def key(self, key_id: str) -> StoredKey | None:
        """Return one key; see `AccessStore`."""
        rows = self._desk.read(sql.select(tables.api_keys).where(tables.api_keys.c.key_id == key_id))
        return _key(rows[0]) if rows else None

    def keys(self, tenant: str | None = None) -> list[StoredKey]:
        """Return the keys, oldest first; see `AccessStore`."""
        keys = tables.api_keys
        statement = sql.select(keys).order_by(keys.c.created, keys.c.sequence)
        if tenant is not None:
            statement = statement.where(keys.c.tenant == tenant)
        return [_key(row) for row in self._desk.read(statement)]

    def append_audit(self, entry: AuditEntry) -> None:
        """Add to the audit log; see `AccessStore`."""
        self._desk.submit(_AppendAudit(entry)).result()

    def audit(self, tenant: str | None = None, *, limit: int = 1_000) -> list[AuditEntry]:
        """Return the newest entries, newest first; see `AccessStore`."""
        log = tables.audit
        statement = sql.select(log).order_by(log.c.sequence.desc()).limit(limit)
        if tenant is not None:
            statement = statement.where(log.c.tenant == tenant)
        return [
            AuditEntry(
                row.timestamp, row.tenant, row.actor, row.action, row.subject, row.outcome, row.request_id
            )
            for row in self._desk.read(statement)
        ]


@dataclass(frozen=True)
class _PutKey(UnloggedChange):
    """Add or change a key; what was read before somebody else shortened its life gives none of it back."""

    key: StoredKey

    def make_in(self, connection: Connection) -> None:
        values = asdict(self.key)
        values["scopes"] = list(self.key.scopes)
        ends = {name: _sooner(tables.api_keys.c[name], values[name]) for name in ("expires", "revoked")}
        upsert(connection, tables.api_keys, {"key_id": values.pop("key_id")}, {**values, **ends}, values)


def _sooner(column: sql.Column[Any], moment: int | None) -> sql.ColumnElement[Any]:
    """Return the earlier of what is stored and a moment; none at all is the end of time."""
    return column if moment is None else sql.case((column < moment, column), else_=moment)


@dataclass(frozen=True)
class _AppendAudit(UnloggedChange):
    entry: AuditEntry

    def make_in(self, connection: Connection) -> None:
        connection.execute(sql.insert(tables.audit), asdict(self.entry))


def _key(row: sql.Row[Any]) -> StoredKey:
    return StoredKey(
        row.key_id,
        row.digest,
        row.tenant,
        row.name,
        tuple(row.scopes),
        row.created,
        row.expires,
        row.revoked,
        row.requests_per_second,
    )
