"""The files of a bundle go into the store part by part, and nobody else waits meanwhile."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import sqlalchemy as sql
from sqlalchemy import Connection

from zhiyin.domain.errors import StoreError, ZhiyinError
from zhiyin.stores import tables
from zhiyin.stores.bundle_files import Files, kept_as
from zhiyin.stores.changes import Change, TenantChange, UnloggedChange
from zhiyin.stores.log import OpenLog
from zhiyin.stores.records import StoredBundle

T = TypeVar("T")

PART_BYTES = 1024 * 1024
"""Bytes of a file that share a row and a transaction; bounds memory, and how long others wait for a disk."""

LEFT_BEHIND_SECONDS = 86_400
"""Age from which parts that belong to no bundle are removed: who put them was killed."""


Write = Callable[[Change[T]], T]
"""Makes a change durable."""


def put_files(
    write: Write[Any], tenant: str, row: StoredBundle, folder: Path, replaced: Files | None
) -> None:
    """Store the files of a folder as one version.

    Each part is a transaction of its own under a name that no bundle has so far. So a slow line or a large
    file holds nobody up, and what is broken off leaves nothing that anybody reads.

    Args:
        write: Makes a change durable.
        tenant: Whose.
        row: What is known of the version.
        folder: With the files.
        replaced: The files of the version that are to be replaced; None where it was not there.

    Raises:
        StoreError: when the folder is none, or the store cannot be written to.
    """
    paths = files_in(folder)
    now = int(time.time())
    _drop_parts(write, tenant, write(_FindLeftBehind(tenant, now - LEFT_BEHIND_SECONDS)))
    name = f"{row.version}@{now}-{uuid4().hex[:8]}"
    try:
        files = {
            path.relative_to(folder).as_posix(): _put_file(write, (tenant, name), path, folder)
            for path in paths
        }
        unused = write(PutBundle(tenant, row, files, replaced))
    except BaseException:
        with suppress(ZhiyinError):
            # Perhaps the last step was made, and only its answer was lost.
            left_behind = write(_FindLeftBehind(tenant, now + 1))
            _drop_parts(write, tenant, {name}.intersection(left_behind))
        raise
    _drop_parts(write, tenant, unused)


def drop_files(write: Write[Any], tenant: str, version: str) -> None:
    """Remove a version and its files.

    Raises:
        StoreError: when it is the active one, or the store cannot be written to.
    """
    _drop_parts(write, tenant, write(_DropBundle(tenant, version)))


def files_in(folder: Path) -> list[Path]:
    """Return the files of a folder.

    Raises:
        StoreError: when it is none.
    """
    if not folder.is_dir():
        raise StoreError(f"{folder} is not a folder.", remedy="Name the folder of a bundle.")
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _drop_parts(write: Write[Any], tenant: str, names: Iterable[str]) -> None:
    """Remove parts that no version has, each by itself: where bytes are overwritten, that takes its time."""
    for name in sorted(names):
        while write(_DropOnePart(tenant, name)):
            pass


def _put_file(write: Write[Any], key: tuple[str, str], path: Path, folder: Path) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        for part, content in enumerate(iter(lambda: file.read(PART_BYTES), b"")):
            digest.update(content)
            size += len(content)
            write(_PutPart(*key, path.relative_to(folder).as_posix(), part, content))
    return {"bytes": size, "sha256": digest.hexdigest(), "kept_as": key[1]}


@dataclass(frozen=True)
class _PutPart(UnloggedChange):
    """Store a part of a file."""

    of: str
    kept_as: str
    path: str
    part: int
    content: bytes

    def make_in(self, connection: Connection) -> None:
        """Make the change."""
        row = {"version": self.kept_as, "path": self.path, "part": self.part, "content": self.content}
        connection.execute(sql.insert(tables.bundle_parts), {"tenant": self.of, **row})


@dataclass(frozen=True)
class _DropOnePart(Change[bool]):
    """Remove one part; tell whether there was any."""

    of: str
    kept_as: str
    tenant: None = None

    def make(self, connection: Connection, log: OpenLog | None) -> bool:  # noqa: ARG002
        """Make the change."""
        parts = tables.bundle_parts
        mine = (parts.c.tenant == self.of, parts.c.version == self.kept_as)
        found = connection.execute(sql.select(parts.c.path, parts.c.part).where(*mine).limit(1)).first()
        if found is None:
            return False
        this = (*mine, parts.c.path == found.path, parts.c.part == found.part)
        connection.execute(sql.delete(parts).where(*this))
        return True


@dataclass(frozen=True)
class _FindLeftBehind(TenantChange[list[str]]):
    """Find parts that somebody who was killed left behind; a tenant's first bundle makes its change log."""

    tenant: str
    before: int

    def make_in(self, connection: Connection, log: OpenLog) -> list[str]:  # noqa: ARG002
        """Make the change; it takes no position."""
        parts, bundles = tables.bundle_parts.c, tables.bundles.c
        stored = connection.execute(
            sql.select(bundles.version, bundles.files).where(bundles.tenant == self.tenant)
        ).all()
        used = {name for row in stored for name in kept_as(row.version, row.files)}
        there = connection.execute(
            sql.select(parts.version).where(parts.tenant == self.tenant).distinct()
        ).scalars()
        return [name for name in there if name not in used and self._is_old(name)]

    def _is_old(self, name: str) -> bool:
        moment = name.rpartition("@")[2].partition("-")[0]
        # Only those of before parts had names of their own say no time, and nobody puts such any more.
        return int(moment) < self.before if "@" in name and moment.isdecimal() else True


@dataclass(frozen=True)
class PutBundle(TenantChange[set[str]]):
    """Make a version of parts that are stored; one that was there stays, unless its files are to be replaced.

    Tells the names of parts that are of no use any more.

    Attributes:
        tenant: Whose.
        row: What is known of the version.
        files: Its files.
        replaced: The files that are to be replaced; None for a new version.
    """

    tenant: str
    row: StoredBundle
    files: Files
    replaced: Files | None

    def make_in(self, connection: Connection, log: OpenLog) -> set[str]:  # noqa: ARG002
        """Make the change; it takes no position, since nobody serves the bundle yet."""
        bundles = tables.bundles
        is_this = (bundles.c.tenant == self.tenant, bundles.c.version == self.row.version)
        stored = connection.execute(sql.select(bundles.c.files, bundles.c.timestamp).where(*is_this)).first()
        if stored is None:
            row = {"tenant": self.tenant, "version": self.row.version, "trained_to": self.row.position}
            facts = {"timestamp": self.row.timestamp, "facts": dict(self.row.facts), "files": self.files}
            connection.execute(sql.insert(bundles), {**row, **facts})
            return set()
        if stored.files != self.replaced:
            # Somebody else has put the same version meanwhile.
            return kept_as(self.row.version, self.files)
        # Whether it is in use, and what is known of it, stays; by its time others see that it is new.
        mended = {"timestamp": max(self.row.timestamp, stored.timestamp + 1), "files": self.files}
        connection.execute(sql.update(bundles).where(*is_this).values(**mended))
        return kept_as(self.row.version, stored.files)


@dataclass(frozen=True)
class _DropBundle(TenantChange[set[str]]):
    """Remove a version; tell the names of its parts."""

    tenant: str
    version: str

    def make_in(self, connection: Connection, log: OpenLog) -> set[str]:  # noqa: ARG002
        """Make the change; it takes no position, since nobody serves the bundle."""
        bundles = tables.bundles.c
        newest = sql.select(sql.func.max(bundles.position)).where(bundles.tenant == self.tenant)
        is_this = (bundles.tenant == self.tenant, bundles.version == self.version)
        stored = connection.execute(
            sql.select(
                bundles.files, (bundles.position == newest.scalar_subquery()).label("is_active")
            ).where(*is_this)
        ).first()
        if stored is None:
            return set()
        if stored.is_active:
            raise StoreError(
                f"The bundle '{self.version}' is the active one.",
                remedy="Activate another version first.",
            )
        connection.execute(sql.delete(tables.bundles).where(*is_this))
        return kept_as(self.version, stored.files)
