"""The files of a stored bundle: written to a folder whole or not at all, compared with their digests."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from sqlalchemy import Connection

from zhiyin.domain.errors import BundleError, StoreError
from zhiyin.stores import tables

Files = Mapping[str, Mapping[str, Any]]
"""Path → ``{"bytes", "sha256", "kept_as"}``: under which name the parts of the file are kept."""


def kept_as(version: str, files: Files) -> set[str]:
    """Return the names under which the parts of a version are kept; of older ones, that of the version."""
    return {file.get("kept_as", version) for file in files.values()}


def files_of(connection: Connection, tenant: str, version: str) -> Files | None:
    """Return what is written down of the files of a version; None where there is no such version."""
    bundles = tables.bundles.c
    which = sql.select(bundles.files).where(bundles.tenant == tenant, bundles.version == version)
    files: Files | None = connection.execute(which).scalar_one_or_none()
    return files


def write_files(connection: Connection, tenant: str, version: str, files: Files, folder: Path) -> None:
    """Write the files of a version into a new folder, which appears whole or not at all.

    Raises:
        StoreError: when the folder exists.
        BundleError: when a file is not what was stored.
    """
    if folder.exists():
        raise StoreError(f"{folder} exists already.", remedy="Name a folder that does not exist.")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise _cannot_write(folder, error) from None
    try:
        for name, expected in files.items():
            _write_file(connection, (tenant, version, name), expected, beside / name)
        beside.chmod(0o755)
        beside.rename(folder)
    except OSError as error:
        raise _cannot_write(folder, error) from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _write_file(
    connection: Connection, key: tuple[str, str, str], expected: Mapping[str, Any], path: Path
) -> None:
    tenant, version, name = key
    digest = hashlib.sha256()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for content in _contents(connection, tenant, expected.get("kept_as", version), name):
            digest.update(content)
            file.write(content)
    if digest.hexdigest() != expected["sha256"]:
        raise not_as_stored(*key)


def damaged_file(connection: Connection, tenant: str, version: str, files: Files) -> str | None:
    """Return the first file of a version that is not what was stored; None when all are."""
    for name, expected in files.items():
        digest = hashlib.sha256()
        for content in _contents(connection, tenant, expected.get("kept_as", version), name):
            digest.update(content)
        if digest.hexdigest() != expected["sha256"]:
            return name
    return None


def not_as_stored(tenant: str, version: str, name: str) -> BundleError:
    """Return the error for a file of a stored bundle that is damaged."""
    return BundleError(
        f"The file {name} of bundle '{version}' is not what was stored: its sha256 differs.",
        remedy="Publish the same bundle again, which replaces what is damaged:  "
        f"zhiyin publish BUNDLE --store URL --tenant {tenant}",
    )


def no_whole_bundle(tenant: str, problem: str) -> BundleError:
    """Return the error for a tenant of whose bundles none can be served.

    Args:
        tenant: Whose.
        problem: What is wrong with the last one that was tried.
    """
    return BundleError(
        f"The tenant '{tenant}' has no bundle that can be served: {problem}",
        remedy="Publish a whole one, also of the same version:  "
        f"zhiyin publish BUNDLE --store URL --tenant {tenant} --activate",
    )


def _contents(connection: Connection, tenant: str, name: str, path: str) -> Iterator[bytes]:
    parts = tables.bundle_parts.c
    mine = (parts.tenant == tenant, parts.version == name, parts.path == path)
    numbers = sql.select(parts.part).where(*mine).order_by(parts.part)
    for number in connection.execute(numbers).scalars().all():
        content = connection.execute(
            sql.select(parts.content).where(*mine, parts.part == number)
        ).scalar_one_or_none()
        if content is None:
            return  # removed while it is read, which its digest will tell
        yield content


def _cannot_write(folder: Path, error: OSError) -> StoreError:
    return StoreError(
        f"The bundle cannot be written to {folder}: {error.strerror}.",
        remedy="Name a folder on a disk with space, in a place this user may write to.",
    )
