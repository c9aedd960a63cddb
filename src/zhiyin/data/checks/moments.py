"""Times, in all the ways in which they are written."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from zhiyin.data.checks.written_moments import micros_of
from zhiyin.data.description import FILE_NAME, TIME_UNITS
from zhiyin.data.files.raw import RawTable
from zhiyin.data.problems import Findings, rows_of
from zhiyin.domain import NO_TIMESTAMP, BoolArray, LongArray
from zhiyin.domain.errors import DataError

_PER_SECOND = dict(zip(TIME_UNITS, (1, 10**3, 10**6, 10**9), strict=True))
_LARGEST_AS = (("nanoseconds", 10**17), ("microseconds", 10**14), ("milliseconds", 10**11))
_MICRO = 10**6


@dataclass(frozen=True, eq=False)
class Moments:
    """One time a row.

    Attributes:
        seconds: (T,) int64 UTC seconds, `NO_TIMESTAMP` where it is missing.
        order: (T,) int64 that rises with time and may be finer than seconds; may be the same array.
        unreadable: (T,) bool: something is written there, but no time.
        per_second: Steps of ``order`` in one second.
    """

    seconds: LongArray
    order: LongArray
    unreadable: BoolArray
    per_second: int


def read_moments(raw: RawTable, column: str, findings: Findings) -> Moments | None:
    """Read a column of times; None, and an error in the findings, when it holds none."""
    series = raw.frame[column]
    place = f"{raw.label}, column {column}"
    if series.dtype == pl.String or series.dtype in (pl.Categorical, pl.Enum):
        return _from_text(series.cast(pl.String), place, findings)
    if series.dtype.is_integer() and findings.description.time_format:
        return _from_text(series.cast(pl.String), place, findings)
    if series.dtype.is_integer() or series.dtype.is_float() or series.dtype.is_decimal():
        return _from_numbers(series, place, findings)
    if series.dtype == pl.Date or isinstance(series.dtype, pl.Datetime):
        return _from_micros(series.cast(pl.Datetime("us")).dt.epoch("us"), None)
    if series.dtype == pl.Null:
        return _from_micros(series.cast(pl.Int64), None)
    findings.error(
        "not_a_time",
        place,
        f"The column holds {series.dtype}, which cannot be a time.",
        "Times are UTC seconds since 1970, or dates such as 2024-01-31 12:00:00.",
    )
    return None


def _from_micros(micros: pl.Series, written: BoolArray | None) -> Moments:
    missing = micros.is_null().to_numpy()
    order = micros.fill_null(0).to_numpy().astype(np.int64)
    order[missing] = NO_TIMESTAMP
    seconds = np.where(missing, NO_TIMESTAMP, order // _MICRO)
    unreadable = np.zeros(len(missing), dtype=np.bool_) if written is None else missing & written
    return Moments(seconds, order, unreadable, _MICRO)


def _from_numbers(series: pl.Series, place: str, findings: Findings) -> Moments:
    unreadable = np.zeros(len(series), dtype=np.bool_)
    if series.dtype.is_integer():
        missing = series.is_null().to_numpy()
        order = series.fill_null(0).cast(pl.Int64).to_numpy()
        unit = findings.description.time_unit or _unit_of(order[~missing] if missing.any() else order)
        per_second = _PER_SECOND[unit]
    else:
        numbers = series.cast(pl.Float64).fill_null(np.nan).to_numpy()
        readable = np.isfinite(numbers) & (np.abs(numbers) < 9e18)
        missing = ~readable
        unreadable = missing & ~np.isnan(numbers)
        unit = findings.description.time_unit or _unit_of(numbers[readable])
        scale = _MICRO if unit == "seconds" and bool((np.abs(numbers[readable]) < 9e12).all()) else 1
        order = (np.where(readable, numbers, 0.0) * scale).astype(np.int64)
        per_second = _PER_SECOND[unit] * scale
    if unit != "seconds" and not findings.description.time_unit:
        findings.warn(
            "timestamp_unit",
            place,
            f"The times are too large for seconds; they look like {unit}.",
            done=f"read as {unit}",
            remedy=f'To settle it, write in {FILE_NAME}:  [timestamps]  unit = "{unit}"',
        )
    seconds = order if per_second == 1 else order // per_second
    if missing.any():
        order = np.where(missing, NO_TIMESTAMP, order)
        seconds = np.where(missing, NO_TIMESTAMP, seconds)
    return Moments(seconds, order, unreadable, per_second)


def _unit_of(numbers: np.ndarray[tuple[int], np.dtype[np.generic]]) -> str:
    if not len(numbers):
        return "seconds"
    typical = float(np.median(np.abs(numbers[:: max(1, len(numbers) // 10_001)])))
    return next((unit for unit, least in _LARGEST_AS if typical > least), "seconds")


def _from_text(series: pl.Series, place: str, findings: Findings) -> Moments | None:
    text = series.str.strip_chars()
    written = (text.is_not_null() & (text != "")).fill_null(value=False).to_numpy()
    if not findings.description.time_format:
        numbers = text.cast(pl.Float64, strict=False)
        if written.any() and numbers.null_count() <= len(text) - int(written.sum()) / 2:
            return _from_number_text(text, numbers, written, place, findings)
    try:
        return _from_micros(micros_of(text, findings.description.time_format), written)
    except DataError as error:
        findings.raised("not_a_time", place, error)
        return None


def _from_number_text(
    text: pl.Series, numbers: pl.Series, written: BoolArray, place: str, findings: Findings
) -> Moments:
    whole = text.cast(pl.Int64, strict=False)
    exact = whole if whole.null_count() == numbers.null_count() else numbers
    moments = _from_numbers(exact, place, findings)
    unreadable = moments.unreadable | (written & numbers.is_null().to_numpy())
    return Moments(moments.seconds, moments.order, unreadable, moments.per_second)


EARLIEST = 631_152_000
"""1990-01-01."""
LATEST = 4_102_444_800
"""2100-01-01."""
_DAY = 86_400


def check_moments(
    raw: RawTable, column: str, moments: Moments, now: float, findings: Findings
) -> tuple[Moments, BoolArray]:
    """Report missing, unreadable, implausible and future times.

    Args:
        raw: The table.
        column: Name of the column.
        moments: As read.
        now: The present, UTC seconds; only clipped to, never guessed from.
        findings: Where to report.

    Returns:
        The times, clipped where that is the rule; (T,) bool rows to drop.
    """
    seconds = moments.seconds
    drop = np.zeros(len(seconds), dtype=np.bool_)
    missing = seconds == NO_TIMESTAMP
    if missing.any():
        drop |= _report_missing(raw, column, moments, missing, findings)
    strange = ~missing & ((seconds < EARLIEST) | (seconds >= LATEST))
    if strange.any():
        drop |= _report_strange(raw, column, seconds, strange, findings)
    future = ~missing & (seconds > now + _DAY) & (seconds < LATEST)
    if future.any():
        rows = np.flatnonzero(future)
        action = findings.settle(
            "future_timestamp",
            raw,
            rows,
            f"{rows_of(len(rows), 'lies', 'lie')} in the future, up to {_day(int(seconds[rows].max()))}.",
            column=column,
        )
        if action == "clip":
            moments = _clipped(moments, future, int(now))
        if action == "drop":
            drop |= future
    return moments, drop


def _report_missing(
    raw: RawTable, column: str, moments: Moments, missing: BoolArray, findings: Findings
) -> BoolArray:
    n_unreadable = int(moments.unreadable.sum())
    n_empty = int(missing.sum()) - n_unreadable
    action = findings.description.action("missing_timestamp")
    for rows, what in ((moments.unreadable, "unreadable"), (missing & ~moments.unreadable, "empty")):
        if not rows.any():
            continue
        positions = np.flatnonzero(rows)
        sample = raw.frame[column][int(positions[0])]
        message = (
            f"{rows_of(len(positions), 'holds', 'hold')} no time that can be read, as in {sample!r}."
            if what == "unreadable"
            else f"{rows_of(len(positions), 'has', 'have')} no {column}."
        )
        findings.settle("missing_timestamp", raw, positions, message, column=column)
    allowed = findings.description.largest_dropped_share
    if n_unreadable > allowed * max(1, len(missing) - n_empty) and action == "keep":
        findings.error(
            "not_a_time",
            f"{raw.label}, column {column}",
            f"{n_unreadable / len(missing):.0%} of the times cannot be read; their format is another one.",
            f'Name it in {FILE_NAME}:  [timestamps]  format = "%d.%m.%Y %H:%M"   (or what it is)',
        )
    return missing if action == "drop" else np.zeros(len(missing), dtype=np.bool_)


def _report_strange(
    raw: RawTable, column: str, seconds: LongArray, strange: BoolArray, findings: Findings
) -> BoolArray:
    rows = np.flatnonzero(strange)
    values = seconds[rows]
    hint = ""
    if bool(((values > 19_000_000) & (values < 21_010_000)).all()):
        hint = f' They look like 20240131; then write in {FILE_NAME}:  [timestamps]  format = "%Y%m%d".'
    elif len(rows) == len(seconds):
        hint = " A counter instead of a time orders the events just as well."
    action = findings.settle(
        "implausible_timestamp",
        raw,
        rows,
        f"{rows_of(len(rows), 'lies', 'lie')} before 1990 or after 2100, as in {values[0]}.{hint}",
        column=column,
    )
    return strange if action == "drop" else np.zeros(len(strange), dtype=np.bool_)


def _clipped(moments: Moments, future: BoolArray, now: int) -> Moments:
    """Set future times to the present; among themselves they keep the order of the file."""
    seconds = np.where(future, now, moments.seconds)
    order = np.where(future, now * moments.per_second, moments.order)
    return Moments(seconds, order, moments.unreadable, moments.per_second)


def _day(seconds: int) -> str:
    return str(np.datetime64(seconds, "s").astype("datetime64[D]"))
