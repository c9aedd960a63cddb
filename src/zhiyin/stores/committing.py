"""From waiting changes to one transaction: logs are opened, changes made, heads moved."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection

from zhiyin.stores.appends import AppendEvents, AppendImpressions, append_events, append_impressions
from zhiyin.stores.backend import Backend
from zhiyin.stores.changes import Change, Made
from zhiyin.stores.log import OpenLog

_Numbered = tuple[int, Change[Any]]


def make_all(connection: Connection, backend: Backend, changes: Sequence[Change[Any]]) -> list[Made[Any]]:
    """Make changes inside a transaction.

    The changes of one tenant are made in their order; neighbouring appends share a statement.

    Returns:
        For each change what came of it, in the given order.
    """
    # One order for every process: who locks the heads in it never waits in a circle.
    tenants = sorted({change.tenant for change in changes if change.tenant is not None})
    logs = backend.open_logs(connection, tenants) if tenants else {}
    made: dict[int, Made[Any]] = {}
    for log, part in _parts(changes, logs):
        _make_part(connection, backend, log, part, made)
    moved = [log for log in logs.values() if log.moved]
    if moved:
        backend.move_heads(connection, moved)
    return [made[number] for number in range(len(changes))]


def _parts(
    changes: Sequence[Change[Any]], logs: dict[str, OpenLog]
) -> Iterator[tuple[OpenLog | None, list[_Numbered]]]:
    """Yield the changes in parts: appends of one tenant with no other change between, or a single change."""
    by_tenant: dict[str | None, list[_Numbered]] = {}
    for number, change in enumerate(changes):
        by_tenant.setdefault(change.tenant, []).append((number, change))
    for tenant, numbered in by_tenant.items():
        log = logs[tenant] if tenant is not None else None
        appends: list[_Numbered] = []
        for number, change in numbered:
            if isinstance(change, (AppendEvents, AppendImpressions)):
                appends.append((number, change))
                continue
            if appends:
                yield log, appends
                appends = []
            yield log, [(number, change)]
        if appends:
            yield log, appends


def _make_part(
    connection: Connection,
    backend: Backend,
    log: OpenLog | None,
    part: list[_Numbered],
    made: dict[int, Made[Any]],
) -> None:
    events = [(number, change) for number, change in part if isinstance(change, AppendEvents)]
    if log is not None and events:
        done = append_events(connection, backend, log, [change for _, change in events])
        made.update(zip((number for number, _ in events), done, strict=True))
    shown = [(number, change) for number, change in part if isinstance(change, AppendImpressions)]
    if log is not None and shown:
        append_impressions(connection, backend, log, [change for _, change in shown])
    for number, change in part:
        if number not in made:
            is_append = isinstance(change, AppendImpressions)
            result = None if is_append else change.make(connection, log)
            made[number] = Made(result, log.position if log is not None else 0)
