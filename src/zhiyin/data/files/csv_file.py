"""Comma-separated files, whole and damaged ones.

Every column is read as text: ``007`` stays ``007``, and one bad cell does not decide the type of a column.
"""

from __future__ import annotations

import csv
import gzip
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from zhiyin.data.description import FILE_NAME, Description
from zhiyin.domain import LongArray
from zhiyin.domain.errors import DataError

_SEPARATORS = (",", "\t", ";", "|")
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_GUESSES = ("gb18030", "latin-1")


@dataclass(frozen=True, eq=False)
class TextTable:
    """Rows that could be read, and those that could not.

    Attributes:
        frame: The rows that could be read.
        row_number: (rows,) int64, counting data rows from 1; None when none was left out.
        bad_rows: Numbers of the rows that could not be read.
        complaint: What they have, in words that follow "3 rows have".
    """

    frame: pl.DataFrame
    row_number: LongArray | None = None
    bad_rows: tuple[int, ...] = ()
    complaint: str = ""


def read_csv(path: Path, description: Description) -> TextTable:
    """Read a csv or tsv file, also compressed.

    Raises:
        DataError: when it cannot be read at all: empty, in another encoding, a quote left open.
    """
    separator = description.separator or _separator(path, description)
    if description.encoding.lower().replace("-", "") != "utf8" or _starts_as_utf16(path):
        return _tolerant(text_of(path, description), separator)
    try:
        frame = pl.read_csv(path, separator=separator, infer_schema=False)
    except (pl.exceptions.PolarsError, OSError):
        return _tolerant(text_of(path, description), separator)
    last = frame.columns[-1]
    if frame[last].null_count() and _has_short_rows(path, separator, frame.width):
        return _tolerant(text_of(path, description), separator)
    return TextTable(frame)


def text_of(path: Path, description: Description) -> str:
    """Return a file as text.

    Raises:
        DataError: when its bytes are not in the encoding; the message shows what they would be in others.
    """
    content = bytes_of(path)
    encoding = description.encoding
    if content[:2] in _UTF16_MARKS:
        encoding = "utf-16"
    elif encoding.lower().replace("-", "") == "utf8":
        encoding = "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise _wrong_encoding(content, error) from None


def bytes_of(path: Path) -> bytes:
    """Return the bytes of a file, uncompressed.

    Raises:
        DataError: when a compressed file is damaged.
    """
    content = path.read_bytes()
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"The gzip file is damaged: {error}.", remedy="Copy or download it again.") from None


def _wrong_encoding(content: bytes, error: UnicodeDecodeError) -> DataError:
    line = content.count(b"\n", 0, error.start)
    row = f"data row {line}" if line else "the header"
    start = content.rfind(b"\n", 0, error.start) + 1
    stop = content.find(b"\n", error.start)
    sample = content[start : stop if stop >= 0 else None].strip()
    readings = []
    for encoding in _GUESSES:
        try:
            readings.append(f'as {encoding} it reads "{_shortened(sample.decode(encoding))}"')
        except UnicodeDecodeError:
            continue
    return DataError(
        f"{row[0].upper()}{row[1:]} is not {error.encoding.removesuffix('-sig')}: it has the byte "
        f"0x{content[error.start]:02x}; {'; '.join(readings)}.",
        remedy=f"Save the file as UTF-8, or name its encoding in {FILE_NAME}:  "
        f'[files]  encoding = "{readings[0].split()[1] if readings else "gb18030"}"',
    )


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "…"


def _separator(path: Path, description: Description) -> str:
    opened = gzip.open if path.name.lower().endswith(".gz") else open
    try:
        with opened(path, "rb") as file:
            head = file.readline(1 << 20)
    except (OSError, EOFError):
        return ","
    encoding = "utf-16" if head[:2] in _UTF16_MARKS else description.encoding
    header = head.decode(encoding, errors="replace")
    counts = {separator: header.count(separator) for separator in _SEPARATORS}
    best = max(_SEPARATORS, key=lambda separator: counts[separator])
    return best if counts[best] else ","


def _starts_as_utf16(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) in _UTF16_MARKS


def _has_short_rows(path: Path, separator: str, width: int) -> bool:
    """Tell rows with too few fields from rows whose last field is empty; polars reads both as null."""
    lines = pl.Series("line", bytes_of(path).decode("utf-8-sig").splitlines(), dtype=pl.String)
    lines = lines.filter(lines.str.len_bytes() > 0)
    if bool(lines.str.contains('"', literal=True).any()):
        return True
    return bool((lines.str.count_matches(separator, literal=True) != width - 1).any())


def _tolerant(text: str, separator: str) -> TextTable:
    """Take a file apart line by line; slow, and only for files that are not as they should be."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    header: list[str] | None = None
    rows: list[list[str]] = []
    numbers: list[int] = []
    bad: list[int] = []
    number = 0
    try:
        for fields in reader:
            if not fields:
                continue
            if header is None:
                header = fields
                continue
            number += 1
            if len(fields) == len(header):
                rows.append(fields)
                numbers.append(number)
            else:
                bad.append(number)
    except csv.Error as error:
        raise DataError(
            f"The quotes do not close after data row {number}: {error}.",
            remedy='A quote inside a quoted field is written twice, as in "a 5"" screen".',
        ) from None
    if header is None:
        raise DataError("The file is empty.", remedy="It needs a line with the names of the columns.")
    return _as_table(header, rows, numbers, bad)


def _as_table(header: list[str], rows: list[list[str]], numbers: list[int], bad: list[int]) -> TextTable:
    names = [f"{name}_duplicated_{i}" if name in header[:i] else name for i, name in enumerate(header)]
    columns = {name: [row[i] or None for row in rows] for i, name in enumerate(names)}
    frame = pl.DataFrame(columns, schema=dict.fromkeys(names, pl.String))
    if not bad:
        return TextTable(frame)
    return TextTable(
        frame,
        np.array(numbers, dtype=np.int64),
        tuple(bad),
        f"not {len(header)} fields like the header; a separator inside a text needs quotes around it",
    )
