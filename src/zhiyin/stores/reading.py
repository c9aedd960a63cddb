"""What a SQL store reads, as statements and as records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl
import sqlalchemy as sql
from sqlalchemy import Connection

from zhiyin.stores import tables
from zhiyin.stores.events import BATCH_SCHEMA
from zhiyin.stores.records import Changes, Event, Impression, StoredDocument, StoredItem, StoredUser

_LOG = tables.events.c
_BATCH_COLUMNS = [_LOG.position, *(_LOG[name] for name in BATCH_SCHEMA)]


def changes_after(connection: Connection, tenant: str, position: int, limit: int) -> Changes:
    """Return what changed after a position, whole positions only.

    The head is read first. Positions up to it are all visible, and whatever is changed while this reads
    gets a later position, so a row that is missed here is found by the next call.
    """
    upto = head(connection, tenant)
    rows: list[Any] = []
    if upto > position:
        rows = _events_between(connection, tenant, position, upto, limit)
        if len(rows) >= limit:
            upto = rows[-1][0]
    if upto <= position:
        return Changes(position, (), (), (), BATCH_SCHEMA.to_frame(), (), None)

    def changed(table: sql.Table, *columns: sql.Column[Any]) -> list[Any]:
        where = (table.c.tenant == tenant, table.c.position > position, table.c.position <= upto)
        return list(connection.execute(sql.select(*columns).where(*where).order_by(table.c.position)))

    items, documents, bundles = tables.items, tables.documents, tables.bundles
    active = changed(bundles, bundles.c.version)
    return Changes(
        position=upto,
        forgotten=tuple(row[0] for row in changed(tables.deleted_users, tables.deleted_users.c.user_id)),
        items=tuple(
            StoredItem(*row) for row in changed(items, items.c.item_id, items.c.attributes, items.c.deleted)
        ),
        described=tuple(
            StoredUser(*row)
            for row in changed(tables.users, tables.users.c.user_id, tables.users.c.attributes)
        ),
        events=batch(rows),
        documents=tuple(
            StoredDocument(*row)
            for row in changed(documents, documents.c.kind, documents.c.name, documents.c.body)
        ),
        bundle=active[-1][0] if active else None,
    )


def _events_between(connection: Connection, tenant: str, after: int, upto: int, limit: int) -> list[Any]:
    """Return rows of at least ``limit`` events, and all of the position the last one is in."""
    mine = sql.select(*_BATCH_COLUMNS).where(_LOG.tenant == tenant)
    ordered = mine.order_by(_LOG.position, _LOG.sequence)
    first = ordered.where(_LOG.position > after, _LOG.position <= upto).limit(limit)
    rows = list(connection.execute(first))
    if len(rows) == limit:
        last, sequence = rows[-1][:2]
        rest = ordered.where(_LOG.position == last, _LOG.sequence > sequence)
        rows.extend(connection.execute(rest))
    return rows


def head(connection: Connection, tenant: str) -> int:
    """Return the newest position of a tenant."""
    heads = tables.log_heads.c
    return connection.execute(sql.select(heads.position).where(heads.tenant == tenant)).scalar() or 0


def events_page(tenant: str, after: tuple[int, int], size: int) -> sql.Select[Any]:
    """Return the statement for the events after a position and sequence."""
    later = sql.tuple_(_LOG.position, _LOG.sequence) > sql.tuple_(*after)
    mine = sql.select(*_BATCH_COLUMNS).where(_LOG.tenant == tenant, later)
    return mine.order_by(_LOG.position, _LOG.sequence).limit(size)


def batch(rows: Sequence[Any]) -> pl.DataFrame:
    """Return rows of (position, columns of `BATCH_SCHEMA`) as a frame."""
    if not rows:
        return BATCH_SCHEMA.to_frame()
    _, *columns = zip(*rows, strict=True)
    named = zip(BATCH_SCHEMA.items(), columns, strict=True)
    return pl.DataFrame([pl.Series(name, values, dtype=dtype) for (name, dtype), values in named])


def impression(row: sql.Row[Any]) -> Impression:
    """Return the record of a row."""
    return Impression(
        row.request_id,
        row.user_id,
        row.timestamp,
        row.route,
        row.bundle,
        tuple(row.item_ids),
        tuple(row.propensities),
        row.experiment,
        row.arm,
    )


def event(row: sql.Row[Any]) -> Event:
    """Return the record of a row."""
    return Event(
        row.event_id, row.user_id, row.item_id, row.event, row.timestamp, row.value, row.context or {}
    )


def user(row: sql.Row[Any]) -> StoredUser:
    """Return the record of a row."""
    return StoredUser(row.user_id, row.attributes)
