"""Events and shown slates: what comes in masses, and is written many changes in one statement."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import sqlalchemy as sql
from sqlalchemy import Connection

from zhiyin.stores import tables
from zhiyin.stores.backend import Backend
from zhiyin.stores.changes import Made, TenantChange
from zhiyin.stores.event_columns import EventColumns
from zhiyin.stores.log import OpenLog
from zhiyin.stores.records import Event, Impression

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_ASKED_AT_ONCE = 10_000
"""Ids in one question; SQLite takes at most 32,766 parameters."""


def as_json(value: Any) -> str:
    """Return JSON text; raises TypeError or ValueError where there is none."""
    return _encode(value)


_as_json_again = lru_cache(256)(as_json)
"""For values that come again and again, such as the propensities of a policy without chance."""


class AppendEvents(TenantChange[list[bool]]):
    """Add events whose id is new; tell for each whether it was.

    Whatever can be prepared is prepared here, in the thread of the caller.

    Args:
        tenant: Whose events.
        events: In their order.
        backend: Has the fast way to insert.

    Raises:
        TypeError, ValueError: when a context cannot be written as JSON.
    """

    def __init__(self, tenant: str, events: Sequence[Event], backend: Backend) -> None:
        self.tenant = tenant
        self.n_rows = len(events)
        *columns, contexts = EventColumns.of(events).columns
        self.event_ids: Sequence[str] = columns[0]
        self.columns: list[Sequence[Any]] = [
            *columns,
            [as_json(dict(context)) if context else None for context in contexts],
        ]
        self._backend = backend

    def make_in(self, connection: Connection, log: OpenLog) -> list[bool]:
        """Make the change."""
        return append_events(connection, self._backend, log, [self])[0].result


class AppendImpressions(TenantChange[None]):
    """Add shown slates, but those whose user was erased since; takes no position.

    Args:
        tenant: Whose slates.
        impressions: In their order.
        backend: Has the fast way to insert.
    """

    def __init__(self, tenant: str, impressions: Sequence[Impression], backend: Backend) -> None:
        self.tenant = tenant
        self.n_rows = len(impressions)
        self.impressions = impressions
        self._backend = backend

    def make_in(self, connection: Connection, log: OpenLog) -> None:
        """Make the change."""
        append_impressions(connection, self._backend, log, [self])


def append_events(
    connection: Connection, backend: Backend, log: OpenLog, changes: Sequence[AppendEvents]
) -> list[Made[list[bool]]]:
    """Make several changes in one statement; each that brings anything new gets a position of its own."""
    first = log.position + 1
    sizes = [change.n_rows for change in changes]
    # Supposing that everything is new; who sends nothing would leave a gap.
    has_events = [size > 0 for size in sizes]
    places = places_of(first, has_events)
    n_rows = sum(sizes)
    if n_rows == 0:
        return [Made([], log.position) for _ in changes]
    columns: list[Sequence[Any]] = [
        [log.tenant] * n_rows,
        list(chain.from_iterable([place] * size for place, size in zip(places, sizes, strict=True))),
        *(list(chain.from_iterable(parts)) for parts in zip(*(c.columns for c in changes), strict=True)),
    ]
    if backend.insert(connection, tables.events, columns) == n_rows:
        log.position = places[-1]
        return [Made([True] * size, place) for size, place in zip(sizes, places, strict=True)]
    return _with_known_ones(connection, log, changes, places)


def places_of(first: int, counts: Iterable[bool]) -> list[int]:
    """Return the position each change ends at: the next one, or, where it does not count, the newest.

    Args:
        first: The next position.
        counts: For each change whether it takes one.
    """
    places = []
    newest = first - 1
    for does_count in counts:
        newest += does_count
        places.append(newest)
    return places


def _with_known_ones(
    connection: Connection, log: OpenLog, changes: Sequence[AppendEvents], places: Sequence[int]
) -> list[Made[list[bool]]]:
    """Find out which events were new, and close the gaps of changes that brought nothing new."""
    events = tables.events.c
    mine = (events.tenant == log.tenant) & (events.position > log.position)
    stored = connection.execute(sql.select(events.position, events.event_id).where(mine))
    new_ones = Counter((row.position, row.event_id) for row in stored)
    answers = []
    for change, place in zip(changes, places, strict=True):
        is_new = []
        for event_id in change.event_ids:
            is_new.append(new_ones[place, event_id] > 0)
            new_ones[place, event_id] = 0
        answers.append(is_new)
    closed = places_of(log.position + 1, map(any, answers))
    for is_new, place, target in zip(answers, places, closed, strict=True):
        if any(is_new) and place != target:
            move = sql.update(tables.events).where(events.tenant == log.tenant, events.position == place)
            connection.execute(move.values(position=target))
    log.position = closed[-1]
    return [Made(is_new, target) for is_new, target in zip(answers, closed, strict=True)]


def append_impressions(
    connection: Connection, backend: Backend, log: OpenLog, changes: Sequence[AppendImpressions]
) -> None:
    """Make several changes in one statement."""
    shown = [impression for change in changes for impression in change.impressions]
    erased = _erased_at(connection, log.tenant, {one.user_id for one in shown if one.user_id is not None})
    if erased:
        shown = [one for one in shown if one.user_id not in erased or one.timestamp > erased[one.user_id]]
    if not shown:
        return
    columns: list[Sequence[Any]] = [
        [log.tenant] * len(shown),
        [one.request_id for one in shown],
        [one.user_id for one in shown],
        [one.timestamp for one in shown],
        [one.route for one in shown],
        [one.bundle for one in shown],
        [as_json(one.item_ids) for one in shown],
        [_as_json_again(one.propensities) for one in shown],
        [one.experiment for one in shown],
        [one.arm for one in shown],
    ]
    backend.insert(connection, tables.impressions, columns)


def _erased_at(connection: Connection, tenant: str, user_ids: set[str]) -> dict[str, int]:
    """Return when those of the users were erased that were."""
    asked = list(user_ids)
    erased = tables.deleted_users.c
    found: dict[str, int] = {}
    anybody = (
        sql.select(sql.literal(1)).select_from(tables.deleted_users).where(erased.tenant == tenant).limit(1)
    )
    if (
        connection.execute(anybody).first() is None
    ):  # naming hundreds of users takes longer than to store their slates
        return found
    for start in range(0, len(asked), _ASKED_AT_ONCE):
        among = erased.user_id.in_(asked[start : start + _ASKED_AT_ONCE])
        statement = sql.select(erased.user_id, erased.timestamp).where(erased.tenant == tenant, among)
        found.update({row.user_id: row.timestamp for row in connection.execute(statement)})
    return found
