"""What a store holds: keys, and bundles whose files are what was stored. Nothing changes there."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from zhiyin.experiments.doctor.findings import Finding, Mark

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

_PATIENCE_SECONDS = 5
_NAME = "stored bundles"


@dataclass(frozen=True, slots=True)
class Stored:
    """What is in a store.

    Attributes:
        n_keys: API keys.
        tenants: Those that have bundles, by name.
        findings: About these bundles.
    """

    n_keys: int
    tenants: tuple[str, ...]
    findings: tuple[Finding, ...]


def look_into_store(url: str) -> Stored | None:
    """Read what a store holds; None where it cannot be read, which `look_at_store` has told."""
    if find_spec("sqlalchemy") is None:
        return None
    import sqlalchemy as sql  # noqa: PLC0415 - an extra

    from zhiyin.stores import tables  # noqa: PLC0415 - it imports the extra

    try:
        with _reading(url) as connection:
            if connection is None or not sql.inspect(connection).has_table(tables.api_keys.name):
                return Stored(0, (), ())
            n_keys = connection.execute(
                sql.select(sql.func.count()).select_from(tables.api_keys)
            ).scalar_one()
            bundles = tables.bundles.c
            rows = connection.execute(
                sql.select(tables.bundles).order_by(bundles.tenant, bundles.sequence)
            ).all()
            by_tenant = {name: list(mine) for name, mine in groupby(rows, lambda row: row.tenant)}
            return Stored(n_keys, tuple(by_tenant), tuple(_bundles(connection, by_tenant)))
    except (sql.exc.SQLAlchemyError, sqlite3.Error, ValueError, ModuleNotFoundError):
        return None


def _bundles(connection: Connection, by_tenant: dict[str, list[Any]]) -> Iterator[Finding]:
    found = (_of_tenant(connection, tenant, _as_served(rows)) for tenant, rows in by_tenant.items())
    damaged = [finding for finding in found if finding is not None]
    if damaged:
        yield from damaged
    elif by_tenant:
        many = f"{len(by_tenant)} tenants" if len(by_tenant) > 1 else f"tenant {next(iter(by_tenant))}"
        yield Finding(_NAME, Mark.GOOD, f"{many}: the files to be served are as they were stored")
    else:
        told = "none yet: name one to zhiyin serve, or put one there with zhiyin publish"
        yield Finding(_NAME, Mark.ABSENT, told)


def _as_served(rows: Sequence[Any]) -> list[Any]:
    """Return the bundles of a tenant in the order in which a start tries them: the active one, the newest."""
    active = max((row.position for row in rows if row.position is not None), default=None)
    return sorted(rows, key=lambda row: (active is None or row.position != active, -row.sequence))


def _of_tenant(connection: Connection, tenant: str, rows: Sequence[Any]) -> Finding | None:
    """Return what is wrong with the bundle that should be served; None where it is whole."""
    from zhiyin.stores.bundle_files import (  # noqa: PLC0415 - it imports the extra
        damaged_file,
        no_whole_bundle,
        not_as_stored,
    )

    problems: list[str] = []
    for row in rows:
        name = damaged_file(connection, tenant, row.version, row.files)
        if name is None:
            break
        problems.append(not_as_stored(tenant, row.version, name).problem)
    if not problems:
        return None
    told = no_whole_bundle(tenant, problems[-1])
    if len(problems) == len(rows):
        return Finding(_NAME, Mark.BAD, told.problem, told.remedy)
    instead = f"A start of tenant {tenant} serves {rows[len(problems)].version} in its place."
    return Finding(_NAME, Mark.BAD, f"{problems[0]} {instead}", told.remedy)


@contextmanager
def _reading(url: str) -> Iterator[Connection | None]:
    """Open a store to read it; None where its file does not exist yet."""
    engine = _engine(url)
    if engine is None:
        yield None
        return
    try:
        with engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def _engine(url: str) -> Engine | None:
    import sqlalchemy as sql  # noqa: PLC0415 - an extra

    scheme, _, rest = url.partition("://")
    if scheme == "sqlite":
        path = Path(unquote(rest.removeprefix("/").partition("?")[0]))
        place = f"{path.absolute().as_uri()}?mode=ro"
        if not path.exists():
            return None
        return sql.create_engine("sqlite://", creator=lambda: sqlite3.connect(place, uri=True))
    settings = {"connect_timeout": _PATIENCE_SECONDS, "options": "-c default_transaction_read_only=on"}
    parsed = sql.make_url(url).set(drivername="postgresql+psycopg")
    return sql.create_engine(parsed, connect_args=settings)
