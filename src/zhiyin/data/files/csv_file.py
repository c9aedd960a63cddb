"""Comma-separated files, whole and damaged ones.

Every column is read as text: ``007`` stays ``007``, and one bad cell does not decide the type of a column.
"""

from __future__ import annotations

import gzip
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from zhiyin.data.description import Description
from zhiyin.data.files.csv_records import count_records, read_records
from zhiyin.data.files.encoding import UTF16_MARKS, is_plain_utf8, text_of
from zhiyin.data.files.raw import TextTable, ragged_complaint
from zhiyin.domain import BoolArray
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
            return _read(path, separator)
        return _read(text_of(path, description).encode(), separator)
    except (pl.exceptions.PolarsError, OSError):
        return read_records(text_of(path, description), separator)


def _read(source: Path | bytes, separator: str) -> TextTable:
    """Read with polars, and look closer where it would hide that rows have too many or too few fields."""
    is_cut = False
    try:
        frame = pl.read_csv(source, separator=separator, infer_schema=False)
        if not frame[frame.columns[-1]].null_count():  # no row is short
            return TextTable(frame)
        lines = _Lines.of(source, separator)
    except pl.exceptions.PolarsError:
        lines = _Lines.of(source, separator)
        frame = pl.read_csv(source, separator=separator, infer_schema=False, truncate_ragged_lines=True)
        is_cut = True
    if lines.are_rows and len(lines.is_row) == frame.height + 1:
        return lines.rows_of(frame)
    text = (source.read_bytes() if isinstance(source, Path) else source).decode("utf-8-sig")
    if not is_cut:
        n_records, n_ragged = count_records(text, separator)
        # Blank lines and rows of empty fields look alike; only where all or none are blank it is clear which.
        for rows in (frame, frame.filter(~pl.all_horizontal(pl.all().is_null()))):
            if not n_ragged and rows.height == n_records:
                return TextTable(rows)
    return read_records(text, separator)


@dataclass(frozen=True, eq=False)
class _Lines:
    """What the lines of a file say about its rows.

    Attributes:
        are_rows: False when a quoted text goes on over several lines.
        is_row: (lines,) bool, header first: False for blank lines.
        is_whole: (lines,) bool: it has as many fields as the header.
        n_fields: Of the header.
    """

    are_rows: bool
    is_row: BoolArray
    is_whole: BoolArray
    n_fields: int

    @classmethod
    def of(cls, source: Path | bytes, separator: str) -> _Lines:
        """Count the separators outside of quotes.

        Raises:
            DataError: when there is no line at all.
        """
        lines = pl.read_lines(source if isinstance(source, Path) else io.BytesIO(source)).to_series()
        lines = lines.str.strip_prefix("\ufeff") if len(lines) and lines[0].startswith("\ufeff") else lines
        is_row = (lines.str.len_bytes() > 0).to_numpy()
        if not is_row.any():
            raise DataError("The file is empty.", remedy="It needs a line with the names of the columns.")
        start = int(is_row.argmax())
        lines, is_row = lines[start:], is_row[start:]
        n_quotes = lines.str.count_matches('"', literal=True)
        if bool((n_quotes > 0).any()):
            lines = lines.str.replace_all('"[^"]*"', "")
        n_fields = (lines.str.count_matches(separator, literal=True) + 1).to_numpy()
        are_rows = not bool((n_quotes % 2 == 1).any())
        return cls(are_rows, is_row, n_fields == n_fields[0], int(n_fields[0]))

    def rows_of(self, frame: pl.DataFrame) -> TextTable:
        """Return the whole rows of a frame that has a row for every line but the header."""
        is_row, is_good = self.is_row[1:], (self.is_row & self.is_whole)[1:]
        if is_good.all():
            return TextTable(frame)
        good = frame.filter(pl.Series(is_good))
        if (is_good == is_row).all():
            return TextTable(good)
        number = np.cumsum(is_row)
        bad = number[is_row & ~is_good].tolist()
        return TextTable(good, number[is_good].astype(np.int64), tuple(bad), ragged_complaint(self.n_fields))


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
