"""The files of a bundle as rows, whole or not at all."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from sqlalchemy import Connection

from zhiyin.domain.errors import BundleError, StoreError
from zhiyin.stores import tables
from zhiyin.stores.changes import TenantChange
from zhiyin.stores.log import OpenLog
from zhiyin.stores.records import StoredBundle

PART_BYTES = 4 * 1024 * 1024
"""Bytes of a file that share one row; bounds the memory that storing and fetching need."""


@dataclass(frozen=True)
class PutBundle(TenantChange[None]):
    """Store the files of a folder as one version; one that is there and whole stays."""

    tenant: str
    row: StoredBundle
    folder: Path

    def make_in(self, connection: Connection, log: OpenLog) -> None:  # noqa: ARG002
        """Make the change; it takes no position, since nobody serves the bundle yet."""
        bundles, is_this = tables.bundles, _is_bundle(tables.bundles, self.tenant, self.row.version)
        stored = connection.execute(sql.select(bundles.c.files, bundles.c.timestamp).where(*is_this)).first()
        if stored is not None:
            if damaged_file(connection, self.tenant, self.row.version, stored.files) is None:
                return
            parts = tables.bundle_parts
            connection.execute(sql.delete(parts).where(*_is_bundle(parts, self.tenant, self.row.version)))
        files = {}
        for path in _files(self.folder):
            name = path.relative_to(self.folder).as_posix()
            files[name] = self._put_file(connection, path, name)
        if stored is not None:
            # Whether it is in use, and what is known of it, stays; by its time others see that it is new.
            mended = {"timestamp": max(self.row.timestamp, stored.timestamp + 1), "files": files}
            connection.execute(sql.update(bundles).where(*is_this).values(**mended))
            return
        row = {"tenant": self.tenant, "version": self.row.version, "trained_to": self.row.position}
        facts = {"timestamp": self.row.timestamp, "facts": dict(self.row.facts), "files": files}
        connection.execute(sql.insert(bundles), {**row, **facts})

    def _put_file(self, connection: Connection, path: Path, name: str) -> dict[str, Any]:
        digest, size = hashlib.sha256(), 0
        key = {"tenant": self.tenant, "version": self.row.version, "path": name}
        with path.open("rb") as file:
            for part, content in enumerate(iter(lambda: file.read(PART_BYTES), b"")):
                digest.update(content)
                size += len(content)
                row = {**key, "part": part, "content": content}
                connection.execute(sql.insert(tables.bundle_parts), row)
        return {"bytes": size, "sha256": digest.hexdigest()}


@dataclass(frozen=True)
class DropBundle(TenantChange[None]):
    """Remove a version and its files."""

    tenant: str
    version: str

    def make_in(self, connection: Connection, log: OpenLog) -> None:  # noqa: ARG002
        """Make the change; it takes no position, since nobody serves the bundle."""
        bundles = tables.bundles
        newest = sql.select(sql.func.max(bundles.c.position)).where(bundles.c.tenant == self.tenant)
        is_this = _is_bundle(bundles, self.tenant, self.version)
        if connection.execute(
            sql.select(bundles.c.sequence).where(*is_this, bundles.c.position == newest.scalar_subquery())
        ).first():
            raise StoreError(
                f"The bundle '{self.version}' is the active one.",
                remedy="Activate another version first.",
            )
        parts = tables.bundle_parts
        connection.execute(sql.delete(bundles).where(*is_this))
        connection.execute(sql.delete(parts).where(*_is_bundle(parts, self.tenant, self.version)))


def write_files(
    connection: Connection, tenant: str, version: str, files: Mapping[str, Mapping[str, Any]], folder: Path
) -> None:
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
    digest = hashlib.sha256()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for content in _contents(connection, *key):
            digest.update(content)
            file.write(content)
    if digest.hexdigest() != expected["sha256"]:
        raise not_as_stored(*key)


def damaged_file(
    connection: Connection, tenant: str, version: str, files: Mapping[str, Mapping[str, Any]]
) -> str | None:
    """Return the first file of a version that is not what was stored; None when all are."""
    for name, expected in files.items():
        digest = hashlib.sha256()
        for content in _contents(connection, tenant, version, name):
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


def _contents(connection: Connection, tenant: str, version: str, path: str) -> Iterator[bytes]:
    parts = tables.bundle_parts
    mine = (*_is_bundle(parts, tenant, version), parts.c.path == path)
    numbers = sql.select(parts.c.part).where(*mine).order_by(parts.c.part)
    for number in connection.execute(numbers).scalars().all():
        yield connection.execute(
            sql.select(parts.c.content).where(*mine, parts.c.part == number)
        ).scalar_one()


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise StoreError(f"{folder} is not a folder.", remedy="Name the folder of a bundle.")
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _is_bundle(table: sql.Table, tenant: str, version: str) -> tuple[sql.ColumnElement[bool], ...]:
    return (table.c.tenant == tenant, table.c.version == version)


def _cannot_write(folder: Path, error: OSError) -> StoreError:
    return StoreError(
        f"The bundle cannot be written to {folder}: {error.strerror}.",
        remedy="Name a folder on a disk with space, in a place this user may write to.",
    )
