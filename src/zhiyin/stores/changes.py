"""The changes a SQL store makes, each inside a transaction somebody else opened and will commit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sql
from sqlalchemy import Connection
from sqlalchemy.dialects.sqlite import insert

from zhiyin.stores import tables
from zhiyin.stores.records import Event, Impression, StoredItem, StoredUser

_KNOWN_AT_ONCE = 10_000
"""Event ids asked for in one statement; SQLite takes at most 32,766 parameters."""


def append_events(connection: Connection, events: Sequence[Event]) -> list[bool]:
    """Add the events whose id is new; tell for each whether it was."""
    seen = _known_ids(connection, [event.event_id for event in events])
    is_new = []
    rows = []
    for event in events:
        is_new.append(event.event_id not in seen)
        if is_new[-1]:
            seen.add(event.event_id)
            rows.append(_event_row(event))
    if rows:
        connection.execute(sql.insert(tables.events), rows)
    return is_new


def put_item(connection: Connection, item_id: str, attributes: Mapping[str, Any]) -> StoredItem:
    """Merge attributes into what is there."""
    found = connection.execute(
        sql.select(tables.items.c.attributes).where(tables.items.c.item_id == item_id)
    ).scalar_one_or_none()
    merged = {**(found or {}), **attributes}
    connection.execute(_upsert_item(item_id, {"attributes": merged, "deleted": False}))
    return StoredItem(item_id, merged)


def delete_item(connection: Connection, item_id: str) -> bool:
    """Mark as deleted; tell whether it was already."""
    was_deleted = connection.execute(
        sql.select(tables.items.c.deleted).where(tables.items.c.item_id == item_id)
    ).scalar_one_or_none()
    connection.execute(_upsert_item(item_id, {"deleted": True}))
    return bool(was_deleted)


def put_user(connection: Connection, user_id: str, attributes: Mapping[str, Any]) -> StoredUser:
    """Merge attributes into what is there."""
    found = connection.execute(
        sql.select(tables.users.c.attributes).where(tables.users.c.user_id == user_id)
    ).scalar_one_or_none()
    merged = {**(found or {}), **attributes}
    statement = insert(tables.users).values(user_id=user_id, attributes=merged)
    connection.execute(
        statement.on_conflict_do_update(index_elements=["user_id"], set_={"attributes": merged})
    )
    return StoredUser(user_id, merged)


def delete_user(connection: Connection, user_id: str) -> bool:
    """Remove every row about a user and leave a tombstone; tell whether there was any row."""
    n_rows = 0
    for table in (tables.events, tables.users, tables.impressions, tables.deleted_users):
        n_rows += connection.execute(sql.delete(table).where(table.c.user_id == user_id)).rowcount
    connection.execute(sql.insert(tables.deleted_users), {"user_id": user_id})
    return n_rows > 0


def append_impressions(connection: Connection, impressions: Iterable[Impression]) -> None:
    """Add slates."""
    rows = [
        {
            "request_id": impression.request_id,
            "user_id": impression.user_id,
            "timestamp": impression.timestamp,
            "route": impression.route,
            "bundle": impression.bundle,
            "item_ids": list(impression.item_ids),
            "propensities": list(impression.propensities),
        }
        for impression in impressions
    ]
    if rows:
        connection.execute(sql.insert(tables.impressions), rows)


def _known_ids(connection: Connection, event_ids: Sequence[str]) -> set[str]:
    known: set[str] = set()
    for start in range(0, len(event_ids), _KNOWN_AT_ONCE):
        part = event_ids[start : start + _KNOWN_AT_ONCE]
        where = tables.events.c.event_id.in_(part)
        known.update(connection.execute(sql.select(tables.events.c.event_id).where(where)).scalars())
    return known


def _event_row(event: Event) -> dict[str, Any]:
    return {
        "event_id": event.event_id,
        "user_id": event.user_id,
        "item_id": event.item_id,
        "event": event.kind,
        "timestamp": event.timestamp,
        "value": event.value,
        "context": dict(event.context) or None,
    }


def _upsert_item(item_id: str, changed: dict[str, Any]) -> sql.Insert:
    statement = insert(tables.items).values({"item_id": item_id, "attributes": {}, **changed})
    return statement.on_conflict_do_update(index_elements=["item_id"], set_=changed)
