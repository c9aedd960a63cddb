"""The changes a SQL store makes, each inside a transaction somebody else opened and will commit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import sqlalchemy as sql
from sqlalchemy import Connection
from sqlalchemy.dialects import postgresql, sqlite

from zhiyin.domain.errors import RequestError, StoreError
from zhiyin.stores import tables
from zhiyin.stores.log import OpenLog
from zhiyin.stores.records import MOST_ATTRIBUTES, Erased, StoredItem, StoredUser

T = TypeVar("T")

_INSERT: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


@dataclass(frozen=True, slots=True)
class Made(Generic[T]):
    """What came of a change.

    Attributes:
        result: What the writing method promises.
        position: The position it took; where it took none, the newest one.
    """

    result: T
    position: int


class Change(ABC, Generic[T]):
    """Something to be written for one tenant.

    Attributes:
        tenant: Whose change log it belongs to; None where it touches no tenant.
        n_rows: About how many rows it writes.
        erases: Whether bytes must be gone afterwards.
    """

    tenant: str | None
    n_rows: int = 1
    erases: ClassVar[bool] = False

    @abstractmethod
    def make(self, connection: Connection, log: OpenLog | None) -> T:
        """Make the change; the log is open where the change has a tenant."""


class TenantChange(Change[T]):
    """A change in the change log of one tenant."""

    tenant: str

    def make(self, connection: Connection, log: OpenLog | None) -> T:
        """Make the change."""
        assert log is not None
        return self.make_in(connection, log)

    @abstractmethod
    def make_in(self, connection: Connection, log: OpenLog) -> T:
        """Make the change, and take a position where something changes."""


class UnloggedChange(Change[None]):
    """A change outside all change logs."""

    tenant = None

    def make(self, connection: Connection, log: OpenLog | None) -> None:  # noqa: ARG002
        """Make the change."""
        self.make_in(connection)

    @abstractmethod
    def make_in(self, connection: Connection) -> None:
        """Make the change."""


@dataclass(frozen=True)
class PutItem(TenantChange[StoredItem]):
    """Merge attributes into what is known about an item."""

    tenant: str
    item_id: str
    attributes: Mapping[str, Any]

    def make_in(self, connection: Connection, log: OpenLog) -> StoredItem:
        """Make the change."""
        key = {"tenant": self.tenant, "item_id": self.item_id}
        merged = {**(_found(connection, tables.items.c.attributes, key) or {}), **self.attributes}
        upsert(
            connection, tables.items, key, {"attributes": merged, "deleted": False, "position": log.take()}
        )
        return StoredItem(self.item_id, merged)


@dataclass(frozen=True)
class DeleteItem(TenantChange[bool]):
    """Mark an item as not to be recommended; tell whether it was already."""

    tenant: str
    item_id: str

    def make_in(self, connection: Connection, log: OpenLog) -> bool:
        """Make the change."""
        key = {"tenant": self.tenant, "item_id": self.item_id}
        if _found(connection, tables.items.c.deleted, key):
            return True
        upsert(
            connection, tables.items, key, {"deleted": True, "position": log.take()}, new={"attributes": {}}
        )
        return False


@dataclass(frozen=True)
class PutUser(TenantChange[StoredUser]):
    """Merge attributes into what is known about a user; those that are None are removed."""

    tenant: str
    user_id: str
    attributes: Mapping[str, Any]

    def make_in(self, connection: Connection, log: OpenLog) -> StoredUser:
        """Make the change.

        Raises:
            RequestError: when the user would have too many attributes.
        """
        key = {"tenant": self.tenant, "user_id": self.user_id}
        both = {**(_found(connection, tables.users.c.attributes, key) or {}), **self.attributes}
        merged = {name: value for name, value in both.items() if value is not None}
        if len(merged) > MOST_ATTRIBUTES:
            raise RequestError(
                f"The user would have {len(merged)} attributes.",
                possible=f"A user has at most {MOST_ATTRIBUTES}.",
                remedy="Remove some with null, or gather them in fewer names.",
            )
        upsert(connection, tables.users, key, {"attributes": merged, "position": log.take()})
        return StoredUser(self.user_id, merged)


@dataclass(frozen=True)
class DeleteUser(TenantChange[Erased]):
    """Remove every row about a user, and remember when."""

    tenant: str
    user_id: str
    timestamp: int

    erases: ClassVar[bool] = True

    def make_in(self, connection: Connection, log: OpenLog) -> Erased:
        """Make the change."""
        key = {"tenant": self.tenant, "user_id": self.user_id}
        removed = {
            table: connection.execute(sql.delete(table).where(*_where(table, key))).rowcount
            for table in (tables.events, tables.impressions, tables.users)
        }
        before = _found(connection, tables.deleted_users.c.timestamp, key)
        upsert(connection, tables.deleted_users, key, {"timestamp": self.timestamp, "position": log.take()})
        return Erased(
            n_events=removed[tables.events],
            n_impressions=removed[tables.impressions],
            had_attributes=removed[tables.users] > 0,
            was_erased_before=before is not None,
        )


@dataclass(frozen=True)
class PutDocument(TenantChange[None]):
    """Store a document; None removes it."""

    tenant: str
    kind: str
    name: str
    body: Mapping[str, Any] | None

    def make_in(self, connection: Connection, log: OpenLog) -> None:
        """Make the change."""
        key = {"tenant": self.tenant, "kind": self.kind, "name": self.name}
        if self.body is None and _found(connection, tables.documents.c.body, key) is None:
            return
        body = None if self.body is None else dict(self.body)
        upsert(connection, tables.documents, key, {"body": body, "position": log.take()})


@dataclass(frozen=True)
class ActivateBundle(TenantChange[str]):
    """Make a stored version the one to serve."""

    tenant: str
    version: str

    def make_in(self, connection: Connection, log: OpenLog) -> str:
        """Make the change."""
        where = _where(tables.bundles, {"tenant": self.tenant, "version": self.version})
        changed = sql.update(tables.bundles).where(*where).values(position=log.position + 1)
        if not connection.execute(changed).rowcount:
            raise no_such_bundle(self.version)
        log.take()
        return self.version


def no_such_bundle(version: str) -> StoreError:
    """Return the error for a version that the store does not hold."""
    return StoreError(
        f"There is no bundle '{version}' in the store.",
        remedy="Put the bundle into the store first, or name one of its versions.",
    )


def upsert(
    connection: Connection,
    table: sql.Table,
    key: Mapping[str, Any],
    changed: Mapping[str, Any],
    new: Mapping[str, Any] | None = None,
) -> None:
    """Set columns of the row with a key; ``new`` holds what a row made now has besides, or instead."""
    insert = _INSERT[connection.dialect.name](table).values({**key, **changed, **(new or {})})
    connection.execute(insert.on_conflict_do_update(index_elements=list(key), set_=dict(changed)))


def _where(table: sql.Table, key: Mapping[str, Any]) -> list[sql.ColumnElement[bool]]:
    return [table.c[name] == value for name, value in key.items()]


def _found(connection: Connection, column: sql.Column[Any], key: Mapping[str, Any]) -> Any:
    return connection.execute(sql.select(column).where(*_where(column.table, key))).scalar_one_or_none()
