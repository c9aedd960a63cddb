"""Comma-separated files record by record: slow, for files in which lines are not rows."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import numpy as np
import polars as pl

from zhiyin.data.files.raw import TextTable, ragged_complaint
from zhiyin.domain.errors import DataError


def count_records(text: str, separator: str) -> tuple[int, int]:
    """Count the records under the header, and those that have not as many fields as it, without keeping any.

    Raises:
        DataError: when a quote is left open.
    """
    records = _records(text, separator)
    width = len(next(records, []))
    n_records = n_ragged = 0
    for fields in records:
        n_records += 1
        n_ragged += len(fields) != width
    return n_records, n_ragged


def read_records(text: str, separator: str) -> TextTable:
    """Read all records but the ragged ones.

    Raises:
        DataError: when there is no record, or a quote is left open.
    """
    records = _records(text, separator)
    header = next(records, None)
    if header is None:
        raise DataError("The file is empty.", remedy="It needs a line with the names of the columns.")
    rows: list[list[str]] = []
    numbers: list[int] = []
    bad: list[int] = []
    for number, fields in enumerate(records, start=1):
        if len(fields) == len(header):
            rows.append(fields)
            numbers.append(number)
        else:
            bad.append(number)
    names = [f"{name}_duplicated_{i}" if name in header[:i] else name for i, name in enumerate(header)]
    columns = {name: [row[i] or None for row in rows] for i, name in enumerate(names)}
    frame = pl.DataFrame(columns, schema=dict.fromkeys(names, pl.String))
    if not bad:
        return TextTable(frame)
    return TextTable(frame, np.array(numbers, dtype=np.int64), tuple(bad), ragged_complaint(len(header)))


def _records(text: str, separator: str) -> Iterator[list[str]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    n_records = 0
    try:
        for fields in reader:
            if fields:
                yield fields
                n_records += 1
    except csv.Error as error:
        raise DataError(
            f"The quotes do not close after data row {max(0, n_records - 1)}: {error}.",
            remedy='A quote inside a quoted field is written twice, as in "a 5"" screen".',
        ) from None
