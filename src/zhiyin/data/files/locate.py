"""Which files belong to which table."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from zhiyin.data.description import FILE_NAME, Description
from zhiyin.data.known import TABLES
from zhiyin.domain.errors import DataError, did_you_mean

FORMATS = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
"""Ending → format; csv and jsonl may be followed by ``.gz``."""


@dataclass(frozen=True)
class Found:
    """What a folder holds.

    Attributes:
        tables: Table → its files, in natural order (``-2`` before ``-10``).
        others: Readable files that belong to no table.
    """

    tables: dict[str, tuple[Path, ...]]
    others: tuple[Path, ...] = ()


def format_of(path: Path) -> str | None:
    """Return ``parquet``, ``csv``, ``jsonl`` or None by the ending of a file."""
    name = path.name.lower()
    return FORMATS.get(Path(name.removesuffix(".gz")).suffix)


def locate(location: Path, description: Description) -> Found:
    """Find the files of each table.

    Args:
        location: A folder, or one file, which then holds the interactions.
        description: Files that it names are taken instead of those with the table's name.

    Raises:
        DataError: when there is nothing at the location, or a named file is missing, or a table exists twice.
    """
    if location.is_file():
        if format_of(location) is None:
            raise _unknown_format(location)
        return Found({"interactions": (location,)})
    if not location.is_dir():
        raise DataError(
            f"There is no folder or file '{location}'.{_neighbour(location)}",
            remedy="Give a folder that holds interactions.csv (or .parquet, .jsonl), or a database URL.",
        )
    readable = sorted((path for path in location.iterdir() if format_of(path)), key=_natural)
    tables = {}
    for table in TABLES:
        if table in description.files:
            named = _named(location, table, description.files[table])
            if named:
                tables[table] = named
            continue
        files = _of_table(location, table, readable)
        if files:
            tables[table] = files
    taken = {path for files in tables.values() for path in files}
    return Found(tables, tuple(path for path in readable if path not in taken and path.is_file()))


def _of_table(folder: Path, table: str, readable: list[Path]) -> tuple[Path, ...]:
    pattern = re.compile(rf"{table}([-_.]?\d+|[-_.]part.*)?$", re.IGNORECASE)
    files = [path for path in readable if path.is_file() and pattern.match(stem_of(path))]
    inside = folder / table
    if inside.is_dir():
        files += sorted((path for path in inside.iterdir() if format_of(path)), key=_natural)
    formats = {format_of(path) for path in files}
    if len(formats) > 1 or len({path.parent for path in files}) > 1:
        names = ", ".join(str(path.relative_to(folder)) for path in files)
        raise DataError(
            f"It is not clear which file holds the {table}: there are {names}.",
            remedy=f'Keep one, or write in {FILE_NAME}:  [files]  {table} = "{files[0].relative_to(folder)}"',
        )
    return tuple(files)


def _named(folder: Path, table: str, names: tuple[str, ...]) -> tuple[Path, ...]:
    paths = []
    for name in names:
        path = folder / name
        if not path.is_file():
            there = [entry.name for entry in folder.iterdir()]
            raise DataError(
                f"{FILE_NAME}: [files] {table} names '{name}', which is not there.{did_you_mean(name, there)}"
            )
        if format_of(path) is None:
            raise _unknown_format(path)
        paths.append(path)
    return tuple(paths)


def _unknown_format(path: Path) -> DataError:
    return DataError(
        f"{path.name}: files with the ending '{path.suffix}' cannot be read.",
        possible=f"Readable are {', '.join(FORMATS)}, csv and jsonl also followed by .gz.",
    )


def _neighbour(location: Path) -> str:
    if not location.parent.is_dir():
        return ""
    return did_you_mean(location.name, [entry.name for entry in location.parent.iterdir()])


def stem_of(path: Path) -> str:
    """Return the name of a file without its ending, ``.gz`` included."""
    return path.name[: -len("".join(path.suffixes[-2:]))] if path.name.endswith(".gz") else path.stem


def _natural(path: Path) -> list[tuple[int, str]]:
    pieces = re.split(r"(\d+)", path.name.lower())
    return [(int(piece), "") if piece.isdigit() else (-1, piece) for piece in pieces]
