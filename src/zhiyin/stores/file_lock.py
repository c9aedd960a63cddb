"""A lock beside a file, so that two services never write to it at once."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import IO

from zhiyin.domain.errors import StoreError

# Windows has no such locks; there, two services on one file are not noticed.
fcntl = importlib.import_module("fcntl") if importlib.util.find_spec("fcntl") else None


class FileLock:
    """Held from the moment it is made until `release`; the system frees it when the process dies.

    Args:
        path: The file; its folder is made when it is not there.

    Raises:
        StoreError: when somebody else holds the lock, or the folder cannot be written to.
    """

    def __init__(self, path: Path) -> None:
        self._held = _lock(path)

    def release(self) -> None:
        """Let others have the file; may be called again."""
        if self._held is not None:
            self._held.close()


def _lock(path: Path) -> IO[bytes] | None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise StoreError(f"{path} is a folder.", remedy="Name a file inside it.")
        if fcntl is None:
            return None
        lock = open(path.with_name(path.name + ".lock"), "ab")  # noqa: SIM115
    except OSError as error:
        raise StoreError(
            f"The store {path} cannot be opened: {error.strerror}.",
            remedy="Name a file in a folder that this user may write to.",
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise store_in_use(path) from None
    return lock


def store_in_use(path: Path) -> StoreError:
    """Return the error for a file that another process writes to."""
    return StoreError(
        f"The store {path} is locked: another service is using it.",
        remedy="Stop the other one, or name another file. What commands do, a running service does over"
        " HTTP: see its /docs. Services that share a store need PostgreSQL.",
    )
