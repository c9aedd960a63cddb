"""A folder for what a store hands out, which goes even where the process that made it was killed."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# Windows has no such locks; there, what a killed process left stays.
fcntl = importlib.import_module("fcntl") if importlib.util.find_spec("fcntl") else None
_LOG = logging.getLogger(__name__)
_PREFIX = "zhiyin-bundle-"
_LOCK = ".in-use"
_SECONDS_WITHOUT_LOCK = 86_400.0
"""A folder without a lock is about to get one, or of a version that made none: it is kept for a day."""


@contextmanager
def unpacking_folder(where: Path | None = None) -> Iterator[Path]:
    """Yield a new folder, which is removed at the end.

    While the process lives it holds a lock on a file in it, and the system lets go of the lock when the
    process is gone, however it went. Folders that nobody holds any more are removed before.

    Args:
        where: Folder it is made in; among the temporary ones where none is named.
    """
    where = where or Path(tempfile.gettempdir())
    remove_left_behind(where)
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=where) as name:
        folder = Path(name)
        unnamed = folder / f"{_LOCK}.new"
        with unnamed.open("w") as lock:
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX)
            unnamed.rename(folder / _LOCK)  # locked first, so that nobody ever sees it free
            yield folder


def remove_left_behind(where: Path) -> int:
    """Remove folders of processes that are gone, and return how many.

    Folders of other users of the machine, links, and what cannot be looked at stay.
    """
    n_removed = 0
    for folder in where.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if _is_left_behind(folder):
                shutil.rmtree(folder)
                n_removed += 1
    if n_removed:
        _LOG.info("removed %d unpacked bundles of processes that are gone from %s", n_removed, where)
    return n_removed


def _is_left_behind(folder: Path) -> bool:
    if fcntl is None or folder.is_symlink() or folder.stat().st_uid != os.getuid():
        return False
    try:
        lock = (folder / _LOCK).open("r+")
    except FileNotFoundError:
        return time.time() - folder.stat().st_mtime > _SECONDS_WITHOUT_LOCK
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
