"""Rows that are there twice."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import polars as pl

from zhiyin.data.files.raw import RawTable
from zhiyin.data.problems import Findings, rows_of
from zhiyin.domain import BoolArray


def report_duplicates(
    raw: RawTable,
    columns: Mapping[str, npt.NDArray[np.generic]],
    context: Mapping[str, pl.Series],
    findings: Findings,
) -> BoolArray:
    """Report rows that say the same as an earlier one, and return them as (T,) bool.

    Rows are compared by a hash first; only those whose hash occurs twice are compared column by column.

    Args:
        raw: The table.
        columns: What makes an event, (T,) each, under the names used in the message.
        context: Further columns, which must be equal too.
        findings: Where to report.
    """
    repeated = np.zeros(raw.frame.height, dtype=np.bool_)
    hashes = hashed(list(columns.values()))
    in_order = np.sort(hashes)
    again = in_order[1:][in_order[1:] == in_order[:-1]]
    if not len(again):
        return repeated
    suspects = np.flatnonzero(np.isin(hashes, again))
    table = pl.DataFrame({name: column[suspects] for name, column in columns.items()})
    table = table.hstack([column[suspects].alias(f"context {name}") for name, column in context.items()])
    is_first = table.select(pl.struct(pl.all()).is_first_distinct()).to_series()
    repeated[suspects] = ~is_first.to_numpy()
    if repeated.any():
        rows = np.flatnonzero(repeated)
        what = ", ".join(columns) + (" and context" if context else "")
        message = f"{rows_of(len(rows), 'repeats', 'repeat')} the {what} of an earlier row."
        findings.settle("duplicate_event", raw, rows, message)
    return repeated


def hashed(columns: list[npt.NDArray[np.generic]]) -> npt.NDArray[np.uint64]:
    """Mix (T,) columns into one uint64 a row: multiply by an odd constant, fold high bits down."""
    mixed = np.zeros(len(columns[0]), dtype=np.uint64)
    for column in columns:
        bits = column.view(np.uint32) if column.dtype == np.float32 else column
        mixed += bits.astype(np.int64).view(np.uint64)
        mixed *= np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    return mixed
