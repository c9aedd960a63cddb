"""Attributes that a text format could not give a type."""

from __future__ import annotations

import polars as pl

from zhiyin.data.files.raw import RawTable
from zhiyin.data.known import KNOWN


def with_narrow_types(raw: RawTable) -> pl.DataFrame:
    """Return the frame with attributes that hold nothing but numbers as numbers; known columns as they are.

    Codes such as ``007`` stay text.
    """
    if not raw.is_text:
        return raw.frame
    known = KNOWN[raw.name]
    return raw.frame.with_columns(_narrow(raw.frame[name]) for name in raw.frame.columns if name not in known)


def _narrow(column: pl.Series) -> pl.Series:
    if column.dtype != pl.String or column.null_count() == len(column):
        return column
    for dtype in (pl.Int64, pl.Float64):
        numbers = column.head(1000).cast(dtype, strict=False)
        if numbers.null_count() > column.head(1000).null_count():
            continue
        numbers = column.cast(dtype, strict=False)
        if numbers.null_count() == column.null_count() and not bool(column.str.contains(r"^[+-]?0\d").any()):
            return numbers
    return column
