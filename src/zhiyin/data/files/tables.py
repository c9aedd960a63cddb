"""Reading all tables of a location, and reporting those that cannot be read."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from zhiyin.data.description import Description
from zhiyin.data.files.csv_file import read_csv
from zhiyin.data.files.jsonl_file import read_jsonl
from zhiyin.data.files.locate import format_of
from zhiyin.data.files.raw import Part, RawTable, TextTable
from zhiyin.data.files.values import stacked
from zhiyin.data.problems import Findings, rows_of
from zhiyin.domain.errors import DataError

_SIGNATURES = {
    b"PAR1": ("parquet", "a parquet file"),
    b"PK\x03\x04": ("zip", "a zip archive or an Excel workbook"),
    b"\xd0\xcf\x11\xe0": ("xls", "an old Excel workbook"),
    b"SQLi": ("sqlite", "an SQLite database"),
}


def read_table(name: str, paths: tuple[Path, ...], findings: Findings) -> RawTable | None:
    """Read one table from its files; None, and errors in the findings, when a file cannot be read."""
    frames: list[pl.DataFrame] = []
    parts: list[Part] = []
    for path in paths:
        table = _read(path, findings)
        if table is None:
            continue
        frames.append(table.frame)
        parts.append(Part(path.name, table.frame.height, table.row_number))
        if table.bad_rows:
            n_bad = len(table.bad_rows)
            findings.counted(
                "unreadable_row",
                path.name,
                [str(row) for row in table.bad_rows],
                n_bad,
                f"{rows_of(n_bad, 'has', 'have')} {table.complaint}.",
            )
            _refuse_when_most_are_bad(path, n_bad, table.frame.height, findings)
    if len(frames) < len(paths):
        return None
    is_text = all(format_of(path) == "csv" for path in paths)
    return RawTable(name, stacked(frames), tuple(parts), is_text)


def _refuse_when_most_are_bad(path: Path, n_bad: int, n_good: int, findings: Findings) -> None:
    share = n_bad / (n_bad + n_good)
    allowed = findings.description.largest_dropped_share
    if share > allowed and "unreadable_row" not in findings.description.cleaning:
        findings.error(
            "too_much_dropped",
            path.name,
            f"{share:.0%} of the lines cannot be read; at most {allowed:.0%} may be dropped.",
            "Something is wrong with the whole file: look at its first lines, and at the separator.",
        )


def _read(path: Path, findings: Findings) -> TextTable | None:
    try:
        _refuse_other_content(path)
        return _READERS[str(format_of(path))](path, findings.description)
    except DataError as error:
        findings.raised("unreadable_file", path.name, error)
    except OSError as error:
        findings.error("unreadable_file", path.name, f"The file cannot be opened: {error.strerror or error}.")
    return None


def _refuse_other_content(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(4)
    if not start:
        raise DataError("The file is empty.", remedy="Write it again; it has no bytes at all.")
    kind, words = _SIGNATURES.get(start, ("", ""))
    if kind and kind != format_of(path):
        raise DataError(
            f"By its name this is {format_of(path)}, but it holds {words}.",
            remedy="Name it by what it holds, or export the table as csv.",
        )


def _read_parquet(path: Path, description: Description) -> TextTable:  # noqa: ARG001
    try:
        return TextTable(pl.read_parquet(path))
    except (pl.exceptions.PolarsError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(
            f"The file is damaged or not parquet: {reason}.", remedy="Copy or write it again."
        ) from None


_READERS = {"csv": read_csv, "jsonl": read_jsonl, "parquet": _read_parquet}
