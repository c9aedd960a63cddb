"""From plain Python values, as JSON and databases give them, to a column of one type."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import polars as pl


def column_of(name: str, values: Sequence[Any]) -> pl.Series:
    """Build a column; values of types that do not go together become text, so that nothing is lost."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int} or kinds <= {str} or kinds <= {bool} or kinds <= {datetime} or kinds <= {date}:
        return _typed(name, values)
    if kinds <= {int, float, Decimal}:
        return pl.Series(
            name, [None if value is None else float(value) for value in values], dtype=pl.Float64
        )
    if kinds == {list} and all(_is_text_list(value) for value in values):
        return pl.Series(name, values, dtype=pl.List(pl.String))
    return pl.Series(name, [_as_text(value) for value in values], dtype=pl.String)


def _typed(name: str, values: Sequence[Any]) -> pl.Series:
    try:
        return pl.Series(name, values)
    except (pl.exceptions.PolarsError, OverflowError, TypeError):  # whole numbers beyond 64 bits
        return pl.Series(name, [_as_text(value) for value in values], dtype=pl.String)


def _is_text_list(value: Any) -> bool:
    return value is None or all(isinstance(entry, str) for entry in value)


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, list | dict | bool):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def stacked(frames: list[pl.DataFrame]) -> pl.DataFrame:
    """Put frames on top of each other; columns whose types do not go together become text."""
    if len(frames) == 1:
        return frames[0]
    try:
        return pl.concat(frames, how="diagonal_relaxed")
    except pl.exceptions.PolarsError:
        types: dict[str, set[pl.DataType]] = {}
        for frame in frames:
            for name, dtype in frame.schema.items():
                types.setdefault(name, set()).add(dtype)
        mixed = [name for name, found in types.items() if len(found) > 1]
        as_text = [
            frame.with_columns(pl.col(set(mixed) & set(frame.columns)).cast(pl.String)) for frame in frames
        ]
        return pl.concat(as_text, how="diagonal_relaxed")
