"""From the URL of a database to the database."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.util import find_spec
from urllib.parse import unquote

from zhiyin.domain.errors import MissingExtra, StoreError
from zhiyin.stores.events import Database


def open_database(url: str) -> Database:
    """Open the database behind a URL; SQLite files and tables are made where they are missing.

    Args:
        url: ``sqlite:///relative/path.db``, ``sqlite:////absolute/path.db`` or
            ``postgresql://user:password@host:5432/database``.

    Raises:
        StoreError: when the URL names no database this version knows, or it cannot be opened.
        MissingExtra: when a package that is needed is not installed.
    """
    return _opened(url, is_guest=False)


def open_beside(url: str) -> Database:
    """Open a database to read it, or for its keys and audit log, also while a service uses its file.

    See `open_database`; what an SQLite file keeps of tenants cannot be changed through what comes back.
    """
    return _opened(url, is_guest=True)


def _opened(url: str, *, is_guest: bool) -> Database:
    scheme, _, rest = url.partition("://")
    if scheme not in _OPENERS or not rest:
        raise StoreError(
            f"The store '{_without_secrets(url)}' is not known.",
            possible="A store is sqlite:///file.db (relative), sqlite:////folder/file.db (absolute) or "
            "postgresql://user:password@host/database.",
        )
    if find_spec("sqlalchemy") is None:
        raise MissingExtra("sqlalchemy", "serve")
    if find_spec("alembic") is None:
        raise MissingExtra("alembic", "serve")
    return _OPENERS[scheme](rest, is_guest)


def _without_secrets(url: str) -> str:
    """Return a URL without what may be a password."""
    return re.sub(r"//[^/]*@", "//…@", url).partition("?")[0]


def _open_sqlite(rest: str, is_guest: bool) -> Database:
    path = unquote(rest.removeprefix("/").partition("?")[0])
    if not path or path == ":memory:":
        raise StoreError(
            "A store in memory would lose every event when the service stops.",
            remedy="Name a file:  sqlite:///zhiyin.db",
        )
    from zhiyin.stores.database import SqlDatabase  # noqa: PLC0415
    from zhiyin.stores.sqlite import SqliteBackend  # noqa: PLC0415

    return SqlDatabase(SqliteBackend(path, is_guest=is_guest))


def _open_postgres(rest: str, _: bool) -> Database:
    if find_spec("psycopg") is None:
        raise MissingExtra("psycopg", "postgres")
    from zhiyin.stores.database import SqlDatabase  # noqa: PLC0415
    from zhiyin.stores.postgres import PostgresBackend  # noqa: PLC0415

    return SqlDatabase(PostgresBackend(f"postgresql://{rest}"))


_OPENERS: dict[str, Callable[[str, bool], Database]] = {
    "sqlite": _open_sqlite,
    "postgresql": _open_postgres,
    "postgres": _open_postgres,
}
