"""Open a store for a command, also while a service uses it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from zhiyin.domain.errors import StoreError
from zhiyin.stores.events import Database
from zhiyin.stores.opening import open_beside, open_database


@contextmanager
def store_beside(url: str, *, may_make: bool = False) -> Iterator[Database]:
    """Open a store to read it, or for its keys and its audit log; a service may have it open.

    Args:
        url: Of the store.
        may_make: Whether to make a file that is not there; otherwise a misspelt name would make one.

    Raises:
        StoreError: when the file is not there, or cannot be opened.
    """
    path = Path(unquote(url.removeprefix("sqlite:///").partition("?")[0]))
    is_missing = url.startswith("sqlite:///") and not path.is_file()
    if is_missing and not may_make:
        raise StoreError(
            f"There is no store {path}.",
            remedy="Name the one that the service uses; `zhiyin keys create` and `zhiyin publish` make one.",
        )
    database = open_database(url) if is_missing else open_beside(url)
    try:
        yield database
    finally:
        database.close()
