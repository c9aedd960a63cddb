"""Finding the files of a data set in folders and archives, and unpacking without trusting the archive."""

from __future__ import annotations

import gzip
import shutil
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath

from zhiyin.domain.errors import DataError


def find_files(location: Path, wanted: Iterable[str], scratch: Path) -> dict[str, Path]:
    """Find files by their names.

    Args:
        location: A folder (searched with its subfolders, the nearest first), or one ``.zip`` archive.
        wanted: Names of files, such as ``ratings.dat``; a gzipped one may stand as ``ratings.dat.gz``.
        scratch: An existing folder, where packed files are unpacked to.

    Returns:
        Name → path, for those of the wanted that are there.

    Raises:
        DataError: when the location is not there, or an archive is damaged or unsafe.
    """
    wanted = tuple(wanted)
    if location.is_dir():
        inside = sorted((path for path in location.rglob("*") if path.is_file()), key=_depth)
    elif location.is_file():
        inside = [location]
    else:
        raise DataError(f"{location} is not there.", possible="A folder, or a .zip archive.")
    found = {path.name: path for path in reversed(inside) if path.name in wanted}
    for path in inside:
        if path.suffix == ".gz" and path.stem in wanted and path.stem not in found:
            found[path.stem] = _gunzip(path, scratch)
        elif path.suffix == ".zip":
            missing = [name for name in wanted if name not in found]
            found |= _unzip(path, missing, scratch)
    return found


def _depth(path: PurePath) -> tuple[int, PurePath]:
    """Order paths so that of two files of one name the one nearer to the top comes first."""
    return len(path.parts), path


def _unzip(archive: Path, wanted: Iterable[str], scratch: Path) -> dict[str, Path]:
    """Unpack the wanted members, whatever folder inside the archive they stand in."""
    wanted = tuple(wanted)
    found = {}
    try:
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
            for member in members:
                _refuse_unsafe(archive, member.filename)
            for member in sorted(members, key=lambda member: _depth(PurePosixPath(member.filename))):
                name = PurePosixPath(member.filename).name
                if member.is_dir() or name not in wanted or name in found:
                    continue
                found[name] = scratch / name
                with opened.open(member) as source, found[name].open("wb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise _damaged(archive, error) from None
    return found


def _refuse_unsafe(archive: Path, member: str) -> None:
    """Members that would leave the folder they are unpacked to are an attack; nothing of it is used."""
    for path in (PurePosixPath(member), PureWindowsPath(member)):
        if path.is_absolute() or path.drive or ".." in path.parts:
            raise DataError(
                f"{archive} is not safe: its member {member!r} points outside the archive.",
                remedy="Nothing of it was unpacked to there. Do not use this file.",
            )


def _gunzip(path: Path, scratch: Path) -> Path:
    target = scratch / path.stem
    try:
        with gzip.open(path) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise _damaged(path, error) from None
    return target


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path} is damaged and cannot be unpacked: {error}.", remedy="Delete it and download it again."
    )
