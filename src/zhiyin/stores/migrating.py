"""Bring the tables of a database to the version this Zhiyin works with."""

from __future__ import annotations

import threading
from pathlib import Path

import sqlalchemy as sql
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext, RevisionStep
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from zhiyin.domain.errors import StoreError
from zhiyin.stores import tables

VERSION_TABLE = "zhiyin_revision"
"""Where the newest migration that was run is written down."""

_SCRIPTS = Path(__file__).parent / "migrations"

# Alembic's operations find their connection in a place that is one for the whole process.
_ONE_AT_A_TIME = threading.Lock()


def migrate(connection: Connection, label: str) -> None:
    """Run the migrations that are missing, inside the transaction of the connection.

    Args:
        connection: In a transaction that nobody else writes beside.
        label: The database in words, without a password.

    Raises:
        StoreError: when the tables are another program's or of a newer Zhiyin.
    """
    version = version_of(connection, label)
    if version and VERSION_TABLE not in sql.inspect(connection).get_table_names():
        _write_down(connection, f"{version:04}")
    if version < tables.SCHEMA_VERSION:
        move_to(connection, f"{tables.SCHEMA_VERSION:04}")


def version_of(connection: Connection, label: str) -> int:
    """Return the version of the tables; 0 where there are none.

    Raises:
        StoreError: when the tables are another program's or of a newer Zhiyin.
    """
    names = set(sql.inspect(connection).get_table_names())
    if tables.version.name not in names:
        _refuse_strangers(connection, names, label)
        return 0
    version = int(connection.execute(sql.select(tables.version.c.version)).scalar_one())
    if version > tables.SCHEMA_VERSION:
        raise StoreError(
            f"{label} was written by a newer Zhiyin: its tables have version {version}.",
            possible=f"This Zhiyin reads versions up to {tables.SCHEMA_VERSION}.",
            remedy="Upgrade Zhiyin, or name another database.",
        )
    return version


def move_to(connection: Connection, revision: str) -> None:
    """Migrate up or down to a revision, ``base`` for none at all."""
    scripts = ScriptDirectory(str(_SCRIPTS))

    def steps(now: tuple[str, ...] | str, _context: MigrationContext) -> list[RevisionStep]:
        has = max(now) if now else "0000"
        wants = "0000" if revision == "base" else revision
        if wants >= has:
            return scripts._upgrade_revs(revision, now)  # type: ignore[arg-type]
        return scripts._downgrade_revs(revision, now)  # type: ignore[arg-type]

    with _ONE_AT_A_TIME, EnvironmentContext(Config(), scripts, fn=steps) as environment:
        environment.configure(connection=connection, target_metadata=None, version_table=VERSION_TABLE)
        environment.run_migrations()


def _write_down(connection: Connection, revision: str) -> None:
    """Write down the version of a store that was made before there were migrations."""
    scripts = ScriptDirectory(str(_SCRIPTS))
    with _ONE_AT_A_TIME, EnvironmentContext(Config(), scripts) as environment:
        environment.configure(connection=connection, version_table=VERSION_TABLE)
        environment.get_context().stamp(scripts, revision)


def _refuse_strangers(connection: Connection, names: set[str], label: str) -> None:
    """Refuse a database in which tables of another program would be in the way."""
    names = names - {VERSION_TABLE}
    in_the_way = names if connection.dialect.name == "sqlite" else names & set(tables.metadata.tables)
    if in_the_way:
        raise StoreError(
            f"{label} is a database of another program; its tables are {', '.join(sorted(in_the_way))}.",
            remedy="Name another one for Zhiyin alone:  --store sqlite:///zhiyin.db",
        )
