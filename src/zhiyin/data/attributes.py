"""From attributes as JSON gives them to rows of the catalogue's table."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from zhiyin.domain.errors import RequestError

KNOWN_TYPES: dict[str, pl.DataType] = {
    "title": pl.String(),
    "description": pl.String(),
    "categories": pl.List(pl.String()),
    "brand": pl.String(),
    "price": pl.Float64(),
    "domain": pl.String(),
    "image": pl.String(),
    "audio": pl.String(),
}
"""Types of the known columns, for a catalogue that lacks them so far."""

RESERVED = ("item_id", "any", "all", "not")
"""Names no attribute may have, because the path or the filters use them."""


_LARGEST = 2**31
"""Whole numbers below it fit every integer column a catalogue is likely to have."""


class UnfitAttribute(RequestError):
    """An attribute whose value or name does not fit; ``path`` is its name."""

    def __init__(self, problem: str, *, path: str, possible: str = "", remedy: str = "") -> None:
        super().__init__(f"{path}: {problem}", possible=possible, remedy=remedy)
        self.path = path


def fitted(name: str, value: object, schema: Mapping[str, pl.DataType]) -> Any:
    """Return a value as its column can hold it.

    Args:
        name: The attribute.
        value: As JSON gives it; None is fit for every attribute.
        schema: Columns of the catalogue; an attribute that is not among them takes the type of the value.

    Raises:
        UnfitAttribute: when the value has another type than the column, or the name is reserved.
    """
    if name in RESERVED:
        raise UnfitAttribute(
            "This name is taken.", path=name, possible=f"Reserved are {', '.join(RESERVED)}."
        )
    if value is None:
        return None
    dtype = schema.get(name) or KNOWN_TYPES.get(name) or _type_of(name, value)
    if isinstance(dtype, pl.List):
        elements = value if isinstance(value, list) else [value]
        return [_scalar(name, element, _inner(dtype)) for element in elements]
    return _scalar(name, value, dtype)


def rows_of(items: Sequence[Mapping[str, Any]], schema: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """Make a table of items.

    Args:
        items: Attribute → value, ``item_id`` among them. A value that does not fit its column, because the
            catalogue changed since it was accepted, becomes null.
        schema: Columns of the catalogue.

    Returns:
        One row an item: the columns of the catalogue in their order, then new ones.
    """
    names = list(dict.fromkeys([*schema, *(name for item in items for name in item)]))
    columns = []
    for name in names:
        values = [item.get(name) for item in items]
        dtype = schema.get(name) or KNOWN_TYPES.get(name) or _first_type(name, values)
        if name != "item_id":
            values = [_fitted_or_none(name, value, dtype) for value in values]
            if dtype.is_integer() and any(isinstance(value, float) for value in values):
                dtype = pl.Float64()
        columns.append(pl.Series(name, values, dtype=dtype, strict=False))
    return pl.DataFrame(columns)


def _fitted_or_none(name: str, value: object, dtype: pl.DataType) -> Any:
    try:
        return fitted(name, value, {name: dtype})
    except UnfitAttribute:
        return None


def _first_type(name: str, values: Sequence[object]) -> pl.DataType:
    return next((_type_of(name, value) for value in values if value is not None), pl.String())


def _type_of(name: str, value: object) -> pl.DataType:
    if isinstance(value, bool):
        return pl.Boolean()
    if isinstance(value, (int, float)):
        return pl.Float64()
    if isinstance(value, str):
        return pl.String()
    if isinstance(value, list):
        inner = _type_of(name, value[0]) if value else pl.String()
        if not isinstance(inner, pl.List):
            return pl.List(inner)
    raise UnfitAttribute(
        "This value cannot be an attribute.",
        path=name,
        possible="An attribute is a text, a number, true, false, null, or a list of texts or of numbers.",
    )


def _inner(dtype: pl.List) -> pl.DataType:
    return dtype.inner() if isinstance(dtype.inner, type) else dtype.inner


def _scalar(name: str, value: object, dtype: pl.DataType) -> Any:
    fit = _fit(value, dtype)
    if fit is None:
        said = repr(value)
        said = said if len(said) <= 60 else said[:57] + "..."
        raise UnfitAttribute(f"{said} is not {_kind(dtype)}.", path=name, possible=_possible(name, dtype))
    return fit


def _fit(value: object, dtype: pl.DataType) -> Any:
    """The value as the type holds it; None when it cannot."""
    if dtype == pl.Boolean:
        return value if isinstance(value, bool) else None
    if dtype.is_numeric():
        return _number(value, dtype)
    if dtype.is_temporal():
        return _moment(value, dtype)
    if isinstance(dtype, (pl.String, pl.Categorical, pl.Enum)):
        return value if isinstance(value, str) else None
    return None


def _number(value: object, dtype: pl.DataType) -> float | int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    is_whole = value == int(value) and abs(value) < _LARGEST
    return int(value) if dtype.is_integer() and is_whole else float(value)


def _moment(value: object, dtype: pl.DataType) -> dt.date | None:
    if isinstance(value, dt.date):
        return value
    if not isinstance(value, str):
        return None
    try:
        moment = dt.datetime.fromisoformat(value)
    except ValueError:
        return None
    if dtype == pl.Date:
        return moment.date()
    zoned = moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment
    has_zone = isinstance(dtype, pl.Datetime) and dtype.time_zone is not None
    return zoned if has_zone else zoned.astimezone(dt.UTC).replace(tzinfo=None)


def _kind(dtype: pl.DataType) -> str:
    if dtype.is_numeric():
        return "a number"
    if dtype.is_temporal():
        return "a date such as 2024-12-31"
    return "true or false" if dtype == pl.Boolean else "a text"


def _possible(name: str, dtype: pl.DataType) -> str:
    return f"In this catalogue '{name}' is {_kind(dtype)}, or null."
