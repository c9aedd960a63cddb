"""Filters on item attributes: a small, safe grammar, compiled to polars.

A filter is a JSON object; all its entries must hold::

    {
        "domain": "books",                                   # equals; for lists: one element equals
        "price": {"at_least": 5, "below": 20},               # all conditions of one attribute must hold
        "brand": {"in": ["OPI", "Essie"]},
        "categories": {"contains": "nail"},                  # part of the text, upper and lower case alike
        "title": {"starts_with": "The "},
        "image": {"known": true},                            # the item has a value
        "any": [{"year": 1999}, {"year": {"at_least": 2020}}],
        "all": [...],
        "not": {"brand": "Acme"}
    }

An item without a value fulfils no condition on it except ``{"known": false}``; so ``not`` is exactly the rest
of the catalogue.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import operator
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl

from zhiyin.domain import BoolArray, Catalogue
from zhiyin.domain.errors import RequestError, did_you_mean

MAX_DEPTH = 8
"""How deep ``any``, ``all`` and ``not`` may be nested."""
MAX_CONDITIONS = 200
"""Conditions in one filter."""
MAX_VALUES = 1_000
"""Values after ``in``."""


class FilterError(RequestError):
    """A filter that cannot be understood; ``path`` is where, such as ``filter.price.at_most``."""

    def __init__(self, problem: str, *, path: str, possible: str = "", remedy: str = "") -> None:
        super().__init__(f"{path}: {problem}", possible=possible, remedy=remedy)
        self.path = path


def check_form(spec: Mapping[str, Any], *, where: str = "filter") -> None:
    """Refuse a filter that no catalogue could understand, where the attributes of the items are not known.

    Raises:
        FilterError: when a condition is unknown, or its value is of no type that it takes.
    """
    _Former().every(spec, where, depth=1)


def compile_filter(spec: Mapping[str, Any], schema: pl.Schema, *, where: str = "filter") -> pl.Expr:
    """Turn a filter into one expression over a table of items.

    Args:
        spec: The filter, as JSON gives it.
        schema: Columns of the table and their types.
        where: What to call the filter in an error.

    Returns:
        A boolean expression that is never null.

    Raises:
        FilterError: when an attribute or a condition is unknown, or a value has the wrong type.
    """
    return _Compiler(schema).every(spec, where, depth=1)


class FilterMasks:
    """Masks of the catalogue, so that a filter that comes again costs nothing.

    Args:
        capacity: Masks kept; each takes I bytes.
    """

    def __init__(self, capacity: int = 256) -> None:
        self._capacity = capacity
        self._masks: OrderedDict[str, BoolArray] = OrderedDict()
        self._of: Catalogue | None = None
        self._lock = threading.Lock()

    def mask(self, spec: Mapping[str, Any], catalogue: Catalogue, *, where: str = "filter") -> BoolArray:
        """Return which items a filter lets through.

        Args:
            spec: The filter.
            catalogue: A changed catalogue is another object; then all masks are made anew.
            where: What to call the filter in an error.

        Returns:
            (I,) bool, not to be written to.

        Raises:
            FilterError: when the filter cannot be understood.
        """
        try:
            key = json.dumps(spec, sort_keys=True)
        except (TypeError, ValueError, RecursionError):
            raise FilterError("This is not JSON.", path=where) from None
        with self._lock:
            if self._of is not catalogue:
                self._masks.clear()
                self._of = catalogue
            if key in self._masks:
                self._masks.move_to_end(key)
                return self._masks[key]
        mask: BoolArray = (
            catalogue.table.select(allowed=compile_filter(spec, catalogue.table.schema, where=where))
            .to_series()
            .to_numpy()
        )
        mask.flags.writeable = False
        with self._lock:
            if self._of is catalogue:
                self._masks[key] = mask
                if len(self._masks) > self._capacity:
                    self._masks.popitem(last=False)
        return mask


class _Compiler:
    """One pass over one filter."""

    def __init__(self, schema: pl.Schema) -> None:
        self.schema = schema
        self.n_conditions = 0

    def every(self, spec: object, path: str, depth: int) -> pl.Expr:
        """All entries of an object."""
        if not isinstance(spec, Mapping):
            raise FilterError(
                f"A filter is an object, not {_said(spec)}.",
                path=path,
                possible='For example {"price": {"at_most": 20}, "brand": {"in": ["OPI", "Essie"]}}.',
            )
        if depth > MAX_DEPTH:
            raise FilterError(f"Filters may be nested {MAX_DEPTH} deep.", path=path)
        parts = [self.entry(str(key), value, path, depth) for key, value in spec.items()]
        return pl.all_horizontal(parts) if parts else pl.repeat(True, pl.len())

    def entry(self, key: str, value: object, path: str, depth: int) -> pl.Expr:
        """One entry: a word of the grammar or an attribute."""
        path = f"{path}.{key}"
        if key == "not":
            return ~self.every(value, path, depth + 1)
        if key in ("any", "all"):
            if not isinstance(value, Sequence) or isinstance(value, str) or not value:
                raise FilterError(f"'{key}' takes a list of filters, at least one.", path=path)
            parts = [self.every(part, f"{path}[{i}]", depth + 1) for i, part in enumerate(value)]
            return pl.any_horizontal(parts) if key == "any" else pl.all_horizontal(parts)
        return self.attribute(key, value, path)

    def attribute(self, name: str, value: object, path: str) -> pl.Expr:
        """Every condition on one attribute."""
        if name not in self.schema:
            raise FilterError(
                f"No item has the attribute '{name}'.{did_you_mean(name, self.schema)}",
                path=path,
                possible=f"The attributes are {', '.join(self.schema)}; besides them 'any', 'all' and 'not'.",
            )
        conditions = value if isinstance(value, Mapping) else {"equals": value}
        if not conditions:
            raise FilterError("There is no condition.", path=path, possible=_possible(self.schema[name]))
        return self.conditions(name, conditions, path)

    def conditions(self, name: str, conditions: Mapping[str, Any], path: str) -> pl.Expr:
        """All conditions on one attribute, of which there is one at least."""
        parts = [
            self.condition(name, str(word), operand, path if word == "equals" else f"{path}.{word}")
            for word, operand in conditions.items()
        ]
        return pl.all_horizontal(parts)

    def condition(self, name: str, word: str, operand: object, path: str) -> pl.Expr:
        """One condition on one attribute."""
        self.n_conditions += 1
        if self.n_conditions > MAX_CONDITIONS:
            raise FilterError(f"A filter may have {MAX_CONDITIONS} conditions.", path=path)
        dtype = self.schema[name]
        column = pl.col(name)
        if word == "known":
            if not isinstance(operand, bool):
                raise FilterError(f"'known' is true or false, not {_said(operand)}.", path=path)
            return column.is_not_null() if operand else column.is_null()
        if word not in _words_of(dtype):
            problem = f"'{word}' is not a condition for '{name}'.{did_you_mean(word, _words_of(dtype))}"
            raise FilterError(problem, path=path, possible=_possible(dtype))
        if word == "in":
            values = _values(operand, dtype, path)
            return _on_elements(
                column, dtype, lambda element: _is_in(element, values, _element_type(dtype))
            ).fill_null(False)
        value = _value(operand, dtype, path)
        return _on_elements(column, dtype, lambda element: _TESTS[word](element, value)).fill_null(False)


class _Former(_Compiler):
    """The same pass where no catalogue is known: each condition is taken to fit the type of its attribute."""

    def __init__(self) -> None:
        super().__init__(pl.Schema())

    def attribute(self, name: str, value: object, path: str) -> pl.Expr:
        """Every condition on one attribute."""
        conditions = value if isinstance(value, Mapping) else {"equals": value}
        if not conditions:
            possible = f"Conditions are {', '.join(_WORDS)}."
            raise FilterError("There is no condition.", path=path, possible=possible)
        parts = []
        for word, operand in conditions.items():
            self.schema[name] = _type_for(str(word), operand, path)
            parts.append(self.conditions(name, {word: operand}, path))
        return pl.all_horizontal(parts)


def _type_for(word: str, operand: object, path: str) -> pl.DataType:
    """Return the type of an attribute that one condition could be about."""
    if word not in _WORDS:
        problem = f"'{word}' is not a condition.{did_you_mean(word, _WORDS)}"
        raise FilterError(problem, path=f"{path}.{word}", possible=f"Conditions are {', '.join(_WORDS)}.")
    value = operand
    if word == "in" and isinstance(operand, Sequence) and not isinstance(operand, str) and operand:
        value = operand[0]
    if word not in _TEXT:
        return pl.Date() if isinstance(value, str) else pl.Float64()
    if isinstance(value, bool):
        return pl.Boolean()
    return pl.Float64() if isinstance(value, (int, float)) and word in _ORDERED else pl.String()


def _on_elements(column: pl.Expr, dtype: pl.DataType, test: Callable[[pl.Expr], pl.Expr]) -> pl.Expr:
    """Apply a test to a column; a list passes when one of its elements does."""
    if isinstance(dtype, pl.List):
        return column.list.eval(test(pl.element()).fill_null(False)).list.any()
    return test(column)


def _is_in(element: pl.Expr, values: list[Any], dtype: pl.DataType) -> pl.Expr:
    if dtype.is_integer():
        whole = [int(value) for value in values if value == int(value) and abs(value) < _LARGEST]
        element, among = element.cast(pl.Int64, strict=False), pl.Series(whole, dtype=pl.Int64)
    elif dtype.is_numeric():
        among = pl.Series(values, dtype=pl.Float64, strict=False).cast(dtype)
    elif _kind(dtype) == "text":
        element, among = element.cast(pl.String), pl.Series(values, dtype=pl.String)
    else:
        among = pl.Series(values).cast(dtype)
    return element.is_in(among.implode())


def _contains(element: pl.Expr, value: Any) -> pl.Expr:
    return element.cast(pl.String).str.to_lowercase().str.contains(str(value).lower(), literal=True)


def _starts_with(element: pl.Expr, value: Any) -> pl.Expr:
    return element.cast(pl.String).str.to_lowercase().str.starts_with(str(value).lower())


_TESTS: dict[str, Callable[[pl.Expr, Any], pl.Expr]] = {
    "equals": operator.eq,
    "at_least": operator.ge,
    "at_most": operator.le,
    "above": operator.gt,
    "below": operator.lt,
    "contains": _contains,
    "starts_with": _starts_with,
}
_LARGEST = 2**63
"""Whole numbers from here on do not fit the 64 bits of polars."""
_PLAIN: dict[str, type] = {"true or false": bool, "text": str}
_ORDERED = ("equals", "in", "at_least", "at_most", "above", "below", "known")
_TEXT = ("equals", "in", "contains", "starts_with", "known")
_WORDS = tuple(dict.fromkeys(_ORDERED + _TEXT))


def _element_type(dtype: pl.DataType) -> pl.DataType:
    if not isinstance(dtype, pl.List):
        return dtype
    return dtype.inner() if isinstance(dtype.inner, type) else dtype.inner


def _kind(dtype: pl.DataType) -> str:
    element = _element_type(dtype)
    if element.is_numeric():
        return "a number"
    if element.is_temporal():
        return "a date"
    return "true or false" if element == pl.Boolean else "text"


def _words_of(dtype: pl.DataType) -> tuple[str, ...]:
    kind = _kind(dtype)
    if kind == "true or false":
        return ("equals", "known")
    return _TEXT if kind == "text" else _ORDERED


def _possible(dtype: pl.DataType) -> str:
    each = "a list, each element " if isinstance(dtype, pl.List) else ""
    return f"The attribute is {each}{_kind(dtype)}; its conditions are {', '.join(_words_of(dtype))}."


def _said(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _values(operand: object, dtype: pl.DataType, path: str) -> list[Any]:
    if not isinstance(operand, Sequence) or isinstance(operand, str):
        raise FilterError(f"'in' takes a list, not {_said(operand)}.", path=path)
    if len(operand) > MAX_VALUES:
        raise FilterError(f"'in' takes {MAX_VALUES} values at most, not {len(operand)}.", path=path)
    return [_value(value, dtype, f"{path}[{i}]") for i, value in enumerate(operand)]


def _value(operand: object, dtype: pl.DataType, path: str) -> Any:
    """Check one value against the type of the attribute."""
    kind = _kind(dtype)
    if kind == "a number" and isinstance(operand, (int, float)) and not isinstance(operand, bool):
        if math.isfinite(operand):
            return operand if abs(operand) < _LARGEST else float(operand)
    elif isinstance(operand, _PLAIN.get(kind, ())):
        return operand
    elif kind == "a date" and isinstance(operand, str):
        parsed = _date(operand, dtype)
        if parsed is not None:
            return parsed
    raise FilterError(f"{_said(operand)} is not {kind}.", path=path, possible=_possible(dtype))


def _date(text: str, dtype: pl.DataType) -> dt.date | None:
    """Read a date or a moment; without a zone it is meant in UTC, as the times of events are."""
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    element = _element_type(dtype)
    if element == pl.Date:
        return moment.date()
    moment = moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment
    has_zone = isinstance(element, pl.Datetime) and element.time_zone is not None
    return moment if has_zone else moment.astimezone(dt.UTC).replace(tzinfo=None)
