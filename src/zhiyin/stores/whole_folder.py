"""A folder that appears whole or not at all, and is replaced without a moment in which nothing is kept."""

from __future__ import annotations

import glob
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zhiyin.domain.processes import is_first_process

_DIGITS = 8
"""Of the random number that a draft, or what was taken away, has in its name."""


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Give a draft beside a folder, and put it in the folder's place when nothing went wrong.

    Of several processes that train together, each gets a draft, and only that of the first is kept.

    Args:
        folder: Replaced when it exists; whether it may be is for the caller to say.
    """
    draft = folder.parent / f".{folder.name}.{uuid.uuid4().hex[:_DIGITS]}.partial"
    try:
        draft.mkdir(parents=True)
        yield draft
        _let_others_read(draft)
        if is_first_process():
            _move_into_place(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _let_others_read(draft: Path) -> None:
    """Give files that a library made for its owner alone the rights that new files have here."""
    probe = draft / f".{uuid.uuid4().hex}"
    probe.touch()
    usual = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    for file in draft.rglob("*"):
        if file.is_file() and not file.is_symlink():
            file.chmod(usual)


def bring_back(folder: Path) -> None:
    """Undo a replacement that was killed between taking the old folder away and putting the new one there."""
    if not folder.exists() and not folder.is_symlink():
        aside = _set_aside(folder)
        if aside:
            aside[-1].rename(folder)


def _move_into_place(draft: Path, folder: Path) -> None:
    if folder.exists():
        folder.rename(folder.parent / f".{folder.name}.{uuid.uuid4().hex[:_DIGITS]}.old")
    draft.rename(folder)
    for replaced in _set_aside(folder):
        shutil.rmtree(replaced, ignore_errors=True)


def _set_aside(folder: Path) -> list[Path]:
    # Not any text between the points: a neighbour may be called "v1.2" where this one is "v1".
    names = f".{glob.escape(folder.name)}.{'[0-9a-f]' * _DIGITS}.old"
    return sorted(folder.parent.glob(names), key=lambda path: path.stat().st_mtime)
