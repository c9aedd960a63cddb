"""Ids: missing ones, untidy ones, ones that are no ids at all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from zhiyin.data.files.raw import RawTable
from zhiyin.data.order import first_appearances
from zhiyin.data.problems import Findings, rows_of
from zhiyin.domain import PAD, BoolArray, IndexArray

_NOTHING = ("", "nan", "NaN", "null", "NULL", "None", "\\N")
"""What programs write where there is no id."""


@dataclass(frozen=True, eq=False)
class Ids:
    """One id a row.

    Attributes:
        distinct: The ids, in the order of their first appearance.
        place: (T,) int32 into them, -1 where there is none.
    """

    distinct: pl.Series
    place: IndexArray

    @classmethod
    def none(cls) -> Ids:
        """Return the ids of no row."""
        return cls(pl.Series([], dtype=pl.String), np.empty(0, dtype=np.int32))

    def kept(self, keep: BoolArray) -> Ids:
        """Return the rows marked in (T,) bool, and only the ids that still occur."""
        place = self.place[keep]
        used, first = np.unique(place, return_index=True)
        order = used[np.argsort(first)]
        renumbered = np.full(len(self.distinct), PAD, dtype=np.int32)
        renumbered[order] = np.arange(len(order), dtype=np.int32)
        return Ids(self.distinct.gather(order), renumbered[place])


def read_ids(raw: RawTable, column: str, findings: Findings) -> Ids | None:
    """Encode a column of ids.

    Returns:
        The ids, -1 where one is missing; None when the column cannot hold ids.
    """
    series = raw.frame[column]
    if series.dtype.is_float():
        whole = _whole(raw, column, series, findings)
        if whole is None:
            return None
        series = whole
    elif series.dtype in (pl.Categorical, pl.Enum):
        series = series.cast(pl.String)
    elif not (series.dtype == pl.String or series.dtype.is_integer() or series.dtype == pl.Null):
        findings.error(
            "not_an_id",
            f"{raw.label}, column {column}",
            f"The column holds {series.dtype}, which cannot be an id.",
            "Ids are text or whole numbers.",
        )
        return None
    distinct, place = first_appearances(series)
    return _tidy(raw, column, Ids(distinct.cast(pl.String), place), findings)


def report_missing(raw: RawTable, column: str, ids: Ids, findings: Findings) -> BoolArray:
    """Report rows without an id, and return them as (T,) bool."""
    missing: BoolArray = ids.place == PAD
    if missing.any():
        rows = np.flatnonzero(missing)
        findings.settle(
            "missing_id",
            raw,
            rows,
            f"{rows_of(len(rows), 'has', 'have')} no {column}.",
            column=column,
        )
    return missing


def _whole(raw: RawTable, column: str, series: pl.Series, findings: Findings) -> pl.Series | None:
    series = series.fill_nan(None)
    broken = ((series != series.round(0)) | series.is_infinite()).fill_null(value=False)
    if broken.any():
        rows = np.flatnonzero(broken.to_numpy())
        findings.error(
            "not_an_id",
            f"{raw.label}, column {column}",
            f"{rows_of(len(rows), 'holds a fraction', 'hold fractions')}, as in {series[int(rows[0])]:g} "
            f"(row {raw.rows_named(rows)[0]}); an id cannot be one.",
            "Ids are text or whole numbers.",
        )
        return None
    findings.warn(
        "untidy_name",
        f"{raw.label}, column {column}",
        "The ids are numbers with a decimal point, as in 1.0.",
        done="read as whole numbers, as in 1",
    )
    return series.cast(pl.Int64)


def _tidy(raw: RawTable, column: str, ids: Ids, findings: Findings) -> Ids:
    tidy = ids.distinct.str.strip_chars(" \t\r\n\u00a0\u3000\ufeff\u200b")
    is_nothing = tidy.is_in(_NOTHING).fill_null(value=True).to_numpy()
    if findings.description.action("untidy_name") == "keep":
        tidy = ids.distinct
    changed = (tidy != ids.distinct).fill_null(value=False).to_numpy() & ~is_nothing
    if not is_nothing.any() and not changed.any():
        return ids
    if changed.any():
        rows = np.flatnonzero(np.append(changed, False)[ids.place])
        findings.settle(
            "untidy_name",
            raw,
            rows,
            f"{rows_of(len(rows), 'has', 'have')} blanks around the {column}.",
            column=column,
            sentence="blanks were removed",
        )
    kept, renumbered = first_appearances(tidy.set(pl.Series(is_nothing), None))
    return Ids(kept, np.append(renumbered, np.int32(PAD))[ids.place])
