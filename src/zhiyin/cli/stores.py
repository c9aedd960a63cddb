"""Open the store that a command was told of, or say that it is not there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote

import typer

from zhiyin.domain.errors import StoreError
from zhiyin.stores.events import Database
from zhiyin.stores.opening import open_beside, open_database
from zhiyin.stores.tenants import refuse_unfit_tenant


def _fit(tenant: str) -> str:
    refuse_unfit_tenant(tenant)
    return tenant


Tenant = Annotated[str, typer.Option(help="Whose data, bundles and users.", callback=_fit)]


@contextmanager
def store_of(url: str, *, may_make: bool = False) -> Iterator[Database]:
    """Open a store to change it; an SQLite file is the command's alone meanwhile.

    Args:
        url: Of the store.
        may_make: Whether to make a file that is not there; otherwise a misspelt name would make one.

    Raises:
        StoreError: when the file is not there, a service uses it, or it cannot be opened.
    """
    if not may_make:
        _refuse_missing(url)
    database = open_database(url)
    try:
        yield database
    finally:
        database.close()


@contextmanager
def store_beside(url: str, *, may_make: bool = False) -> Iterator[Database]:
    """Open a store to read it, or for its keys and its audit log; a service may have it open.

    See `store_of`.
    """
    if not may_make:
        _refuse_missing(url)
    database = open_database(url) if _missing_file(url) else open_beside(url)
    try:
        yield database
    finally:
        database.close()


def _missing_file(url: str) -> Path | None:
    path = Path(unquote(url.removeprefix("sqlite:///").partition("?")[0]))
    return path if url.startswith("sqlite:///") and not path.is_file() else None


def _refuse_missing(url: str) -> None:
    missing = _missing_file(url)
    if missing is not None:
        raise StoreError(
            f"There is no store {missing}.",
            remedy="Name the one that the service uses; `zhiyin keys create` and `zhiyin publish` make one.",
        )
