"""Numbers, and what stands in their place."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from zhiyin.domain import BoolArray


def read_numbers(series: pl.Series) -> tuple[npt.NDArray[np.float64], BoolArray]:
    """Read a column as numbers.

    Args:
        series: (T,) of any type.

    Returns:
        (T,) float64, NaN where there is no finite number; (T,) bool where something else is written.
    """
    written = series.is_not_null()
    if series.dtype == pl.String or series.dtype in (pl.Categorical, pl.Enum):
        text = series.cast(pl.String).str.strip_chars()
        written = (text != "").fill_null(value=False)
        numbers = text.cast(pl.Float64, strict=False)
    elif series.dtype.is_numeric() or series.dtype in (pl.Boolean, pl.Null):
        numbers = series.cast(pl.Float64)
    else:
        numbers = pl.Series([None] * len(series), dtype=pl.Float64)
    found = numbers.fill_null(np.nan).to_numpy()
    finite = np.isfinite(found)
    if finite.all():
        return found, np.zeros(len(found), dtype=np.bool_)
    return np.where(finite, found, np.nan), written.to_numpy() & ~finite
