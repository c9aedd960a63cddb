"""From the URL of a store to the store."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from urllib.parse import unquote

from zhiyin.domain.errors import MissingExtra, StoreError
from zhiyin.stores.events import EventStore


def open_store(url: str) -> EventStore:
    """Open, or make, the store behind a URL.

    Args:
        url: ``sqlite:///relative/path.db`` or ``sqlite:////absolute/path.db``.

    Raises:
        StoreError: when the URL names no store this version has, or the store cannot be opened.
        MissingExtra: when SQLAlchemy is not installed.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in _OPENERS or not rest:
        raise StoreError(
            f"The store '{url}' is not known.",
            possible="A store is sqlite:///file.db (relative) or sqlite:////folder/file.db (absolute).",
        )
    return _OPENERS[scheme](rest)


def _open_sqlite(rest: str) -> EventStore:
    path = unquote(rest.removeprefix("/").partition("?")[0])
    if not path or path == ":memory:":
        raise StoreError(
            "A store in memory would lose every event when the service stops.",
            remedy="Name a file:  sqlite:///zhiyin.db",
        )
    if find_spec("sqlalchemy") is None:
        raise MissingExtra("sqlalchemy", "serve")
    from zhiyin.stores.sqlite import SqliteStore  # noqa: PLC0415

    return SqliteStore(path)


_OPENERS: dict[str, Callable[[str], EventStore]] = {"sqlite": _open_sqlite}
