"""Times written as text, in all the ways in which that is done."""

from __future__ import annotations

import numpy as np
import polars as pl

from zhiyin.data.description import FILE_NAME
from zhiyin.domain.errors import DataError

_USUAL = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d")
_WRITTEN_YEAR_FIRST = (
    r"^(\d{4})[-/.年](\d{1,2})[-/.月](\d{1,2})日?"
    r"(?:[T ]+(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?)?"
    r"\s*(Z|UTC|GMT|[+-]\d{2}:?\d{2})?$"
)
_WRITTEN_WITH_MONTH_NAME = (
    "%d %b %Y",
    "%d-%b-%Y",
    "%d %B %Y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%d %b %Y %H:%M:%S",
    "%a, %d %b %Y %H:%M:%S %z",
    "%a %b %d %H:%M:%S %Y",
)
_WRITTEN_YEAR_LAST = r"^(\d{1,2})[/.-](\d{1,2})[/.-]\d{4}"
_MICRO = 10**6
_N_SAMPLE = 10_000


def micros_of(text: pl.Series, time_format: str) -> pl.Series:
    """Read times.

    Args:
        text: (T,) without blanks around.
        time_format: As in ``%d/%m/%Y``; empty tries the usual and unmistakable ones.

    Returns:
        (T,) int64 microseconds since 1970, UTC; null where nothing can be read.

    Raises:
        DataError: when the format does not work, or is needed to tell days from months.
    """
    if time_format:
        try:
            return _parsed(text, time_format)
        except pl.exceptions.PolarsError as error:
            reason = str(error).strip().splitlines()[0]
            raise DataError(f"[timestamps] format '{time_format}' does not work: {reason}.") from None
    sample = text.drop_nulls().head(_N_SAMPLE).unique(maintain_order=True)
    _refuse_unclear_order(sample)
    micros = _usual(text, sample)
    rest = np.flatnonzero((micros.is_null() & text.is_not_null()).to_numpy())
    if not len(rest):
        return micros
    distinct = text[rest].unique(maintain_order=True)
    read = _with_month_names(distinct, _year_first(distinct))
    table = pl.DataFrame({"text": distinct, "micros": read})
    joined = pl.DataFrame({"text": text[rest]}).join(table, on="text", how="left", maintain_order="left")
    return micros.scatter(rest, joined["micros"])


def _usual(text: pl.Series, sample: pl.Series) -> pl.Series:
    """Read the commonest ways of writing, which polars parses fastest; null elsewhere."""
    for time_format in _USUAL:
        if _parsed(sample.head(1), time_format).null_count() == 0 and len(sample):
            return _parsed(text, time_format)
    return pl.Series("micros", [None], dtype=pl.Int64).new_from_index(0, len(text))


def _parsed(text: pl.Series, time_format: str) -> pl.Series:
    return _as_micros(text.str.to_datetime(time_format, strict=False, time_unit="us"))


def _as_micros(moments: pl.Series) -> pl.Series:
    return moments.dt.epoch("us")


def _year_first(distinct: pl.Series) -> pl.Series:
    """Read 2024-01-31, 2024/1/31 12:00, 2024-01-31T12:00:00.5+08:00, 2024年1月31日; null elsewhere."""
    parts = distinct.str.extract_groups(_WRITTEN_YEAR_FIRST).struct.unnest()
    names = parts.columns
    is_date = parts[names[0]].is_not_null().to_numpy()
    year, month, day, hour, minute, second = (
        parts[name].cast(pl.Int64).fill_null(0).to_numpy() for name in names[:6]
    )
    fraction = parts[names[6]].fill_null("").str.pad_end(6, "0").str.slice(0, 6).cast(pl.Int64).to_numpy()
    valid = is_date & (month >= 1) & (month <= 12) & (hour < 24) & (minute < 60) & (second < 61)
    months = np.where(valid, (year - 1970) * 12 + month - 1, 0).astype("datetime64[M]")
    first_day = months.astype("datetime64[D]").astype(np.int64)
    next_month = (months + 1).astype("datetime64[D]").astype(np.int64)
    valid &= (day >= 1) & (day <= next_month - first_day)
    zone = parts[names[7]].fill_null("").str.replace(":", "", literal=True)
    offset = zone.str.extract(r"^[+-](\d{4})$").cast(pl.Int64).fill_null(0).to_numpy()
    east = np.where(zone.str.starts_with("-").to_numpy(), -1, 1) * (offset // 100 * 60 + offset % 100)
    seconds = (first_day + day - 1) * 86_400 + hour * 3_600 + (minute - east) * 60 + second
    return pl.Series("micros", seconds * _MICRO + fraction).set(pl.Series(~valid), None)


def _with_month_names(distinct: pl.Series, micros: pl.Series) -> pl.Series:
    for time_format in _WRITTEN_WITH_MONTH_NAME:
        if not micros.null_count():
            break
        parsed = distinct.str.to_datetime(time_format, strict=False, time_unit="us")
        micros = micros.zip_with(micros.is_not_null(), _as_micros(parsed))
    return micros


def _refuse_unclear_order(sample: pl.Series) -> None:
    parts = sample.str.extract_groups(_WRITTEN_YEAR_LAST).struct.unnest()
    first, second = (parts[name].drop_nulls().cast(pl.Int64) for name in parts.columns)
    if len(first) <= len(sample) // 2:
        return
    written = str(sample.filter(parts[parts.columns[0]].is_not_null())[0])
    separator = next(letter for letter in written if not letter.isdigit())
    day_first, month_first = (
        separator.join(order) + (" %H:%M:%S" if ":" in written else "")
        for order in (("%d", "%m", "%Y"), ("%m", "%d", "%Y"))
    )
    choices = {
        (True, False): f'"{day_first}"',
        (False, True): f'"{month_first}"',
    }.get((bool((first > 12).any()), bool((second > 12).any())), f'"{day_first}"  or  "{month_first}"')
    raise DataError(
        f"Dates such as '{written}' do not say whether the day or the month comes first.",
        remedy=f"Say it in {FILE_NAME}:  [timestamps]  format = {choices}",
    )
