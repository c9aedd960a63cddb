"""Comma-separated files, whole and damaged ones.

Every column is read as text: ``007`` stays ``007``, and one bad cell does not decide the type of a column.
"""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import numpy as np
import polars as pl

from zhiyin.data.description import Description
from zhiyin.data.files.csv_records import count_ragged, read_records
from zhiyin.data.files.encoding import UTF16_MARKS, is_plain_utf8, text_of
from zhiyin.data.files.raw import TextTable, ragged_complaint
from zhiyin.domain.errors import DataError

_SEPARATORS = (",", "\t", ";", "|")


def read_csv(path: Path, description: Description) -> TextTable:
    """Read a csv or tsv file, also compressed.

    Raises:
        DataError: when it cannot be read at all: empty, in another encoding, a quote left open.
    """
    separator = description.separator or _separator(path, description)
    try:
        if is_plain_utf8(path, description):
            return _checked(path, separator)
        return _checked(text_of(path, description).encode(), separator)
    except (pl.exceptions.PolarsError, OSError):
        text = text_of(path, description)
    repaired = _repaired(_lines(text.encode()), separator, None)
    return repaired or read_records(text, separator)


def _checked(source: Path | bytes, separator: str) -> TextTable:
    """Read with polars, and look closer where it cannot tell a missing field from an empty one."""
    frame = pl.read_csv(source, separator=separator, infer_schema=False)
    if not frame[frame.columns[-1]].null_count():
        return TextTable(frame)
    repaired = _repaired(_lines(source), separator, frame)
    if repaired is not None:
        return repaired
    text = (source.read_bytes() if isinstance(source, Path) else source).decode("utf-8-sig")
    return read_records(text, separator) if count_ragged(text, separator) else TextTable(frame)


def _lines(source: Path | bytes) -> pl.Series:
    lines = pl.read_lines(source if isinstance(source, Path) else io.BytesIO(source)).to_series()
    return lines.str.strip_prefix("\ufeff") if len(lines) and lines[0].startswith("\ufeff") else lines


def _repaired(lines: pl.Series, separator: str, frame: pl.DataFrame | None) -> TextTable | None:
    """Leave out blank lines and lines whose number of fields is not that of the header.

    Args:
        lines: Of the file, header first.
        separator: Between fields.
        frame: The file as polars read it, if it did; taken when nothing has to be left out.

    Returns:
        The table, or None when a quoted text goes on over several lines, so that lines are not rows.

    Raises:
        DataError: when there is no line at all.
    """
    written = lines.filter(lines.str.len_bytes() > 0)
    if not len(written):
        raise DataError("The file is empty.", remedy="It needs a line with the names of the columns.")
    n_quotes = written.str.count_matches('"', literal=True)
    if bool((n_quotes % 2 == 1).any()):
        return None
    bare = written.str.replace_all('"[^"]*"', "") if bool((n_quotes > 0).any()) else written
    n_fields = bare.str.count_matches(separator, literal=True) + 1
    is_good = n_fields == n_fields[0]
    if bool(is_good.all()) and len(written) == len(lines) and frame is not None:
        return TextTable(frame)
    good = written.filter(is_good)
    try:
        frame = pl.read_csv(good.str.join("\n")[0].encode(), separator=separator, infer_schema=False)
    except pl.exceptions.PolarsError:
        return None
    if frame.height != len(good) - 1:
        return None
    if bool(is_good.all()):
        return TextTable(frame)
    bad = np.flatnonzero(~is_good.to_numpy())
    rows = np.flatnonzero(is_good.to_numpy())[1:]
    return TextTable(frame, rows.astype(np.int64), tuple(bad.tolist()), ragged_complaint(int(n_fields[0])))


def _separator(path: Path, description: Description) -> str:
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    try:
        with opened(path, "rb") as file:
            head = file.readline(1 << 20)
    except (OSError, EOFError):
        return ","
    encoding = "utf-16" if head[:2] in UTF16_MARKS else description.encoding
    header = head.decode(encoding, errors="replace")
    counts = {separator: header.count(separator) for separator in _SEPARATORS}
    best = max(_SEPARATORS, key=lambda separator: counts[separator])
    return best if counts[best] else ","
