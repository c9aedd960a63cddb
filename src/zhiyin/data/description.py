"""What ``dataset.toml`` says about a data folder."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zhiyin.data.known import KNOWN, TABLES
from zhiyin.data.rules import LARGEST_DROPPED_SHARE, RULES
from zhiyin.domain.errors import DataError, did_you_mean

FILE_NAME = "dataset.toml"
TIME_UNITS = ("seconds", "milliseconds", "microseconds", "nanoseconds")


@dataclass(frozen=True)
class Description:
    """How a user's files are to be understood. Every part may be missing.

    Attributes:
        name: What reports call the dataset; empty takes the name of the folder.
        files: Table → the files it is read from, relative to the folder.
        database: URL of the database that holds the tables, or empty.
        encoding: Of text files.
        separator: Of csv files; empty guesses it from the first line.
        columns: Known name → the file's name, in whichever table has that column.
        table_columns: Table → the same, for that table alone.
        event_weights: Event kind → what one such event is worth.
        positive: Values at or above it count as liked.
        minimum: Smallest allowed value.
        maximum: Largest allowed value.
        time_unit: Of timestamps that are numbers; empty guesses it from their size.
        time_format: Of timestamps that are text, as in ``%d/%m/%Y``; empty tries the unmistakable ones.
        cleaning: Rule → action, only those named in the file.
        largest_dropped_share: Above this share of dropped rows reading stops.
    """

    name: str = ""
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    database: str = ""
    encoding: str = "utf-8"
    separator: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    table_columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    event_weights: Mapping[str, float] = field(default_factory=dict)
    positive: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    time_unit: str = ""
    time_format: str = ""
    cleaning: Mapping[str, str] = field(default_factory=dict)
    largest_dropped_share: float = LARGEST_DROPPED_SHARE

    def action(self, rule: str) -> str:
        """Return what is to be done about rows that a rule is about."""
        return self.cleaning.get(rule, RULES[rule].default)


def read_description(folder: Path) -> Description:
    """Read ``dataset.toml`` of a folder; without one everything keeps its default.

    Raises:
        DataError: when the file cannot be read, or names something unknown.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return Description()
    try:
        written = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(
            f"{FILE_NAME} is not readable as TOML: {error}.",
            remedy='Text stands in quotes, as in  item_id = "item"; tables look like  [columns].',
        ) from None
    except OSError as error:
        raise DataError(f"{FILE_NAME} cannot be opened: {error.strerror}.") from None
    return _description(written)


_SECTIONS = ("name", "files", "columns", "events", "values", "timestamps", "cleaning")


def _description(written: dict[str, Any]) -> Description:
    _only_known(written, _SECTIONS, "")
    files = _section(written, "files", (*TABLES, "database", "encoding", "separator"))
    values = _section(written, "values", ("positive", "minimum", "maximum"))
    times = _section(written, "timestamps", ("unit", "format"))
    columns, table_columns = _columns(_section(written, "columns", None))
    cleaning = _section(written, "cleaning", (*RULES, "largest_dropped_share"))
    share = _number(cleaning.pop("largest_dropped_share", LARGEST_DROPPED_SHARE), "largest_dropped_share")
    minimum, maximum = (_optional_number(values, key, "values") for key in ("minimum", "maximum"))
    if minimum is not None and maximum is not None and minimum > maximum:
        raise DataError(f"{FILE_NAME}: [values] minimum {minimum:g} is above maximum {maximum:g}.")
    separator = _text(files.get("separator", ""), "[files] separator")
    if len(separator.encode()) > 1:
        raise DataError(f"{FILE_NAME}: [files] separator must be one character; got {separator!r}.")
    return Description(
        name=_text(written.get("name", ""), "name"),
        files={table: _paths(files[table], table) for table in TABLES if table in files},
        database=_text(files.get("database", ""), "[files] database"),
        encoding=_encoding(_text(files.get("encoding", "utf-8"), "[files] encoding")),
        separator=separator,
        columns=columns,
        table_columns=table_columns,
        event_weights={
            kind: _number(weight, f"[events] {kind}")
            for kind, weight in _section(written, "events", None).items()
        },
        positive=_optional_number(values, "positive", "values"),
        minimum=minimum,
        maximum=maximum,
        time_unit=_one_of(times.get("unit", ""), ("", *TIME_UNITS), "[timestamps] unit"),
        time_format=_text(times.get("format", ""), "[timestamps] format"),
        cleaning={
            rule: _one_of(action, tuple(RULES[rule].actions), f"[cleaning] {rule}")
            for rule, action in cleaning.items()
        },
        largest_dropped_share=share,
    )


def _section(written: dict[str, Any], name: str, known: tuple[str, ...] | None) -> dict[str, Any]:
    section = written.get(name, {})
    if not isinstance(section, dict):
        raise DataError(
            f"{FILE_NAME}: '{name}' must be a table; got {section!r}.", remedy=f"Write  [{name}]  above it."
        )
    if known is not None:
        _only_known(section, known, f"[{name}] ")
    return dict(section)


def _only_known(keys: Iterable[str], known: tuple[str, ...], where: str) -> None:
    for key in keys:
        if key not in known:
            raise DataError(
                f"{FILE_NAME}: {where}'{key}' is not known.{did_you_mean(key, known)}",
                possible=f"Known are {', '.join(known)}.",
            )


def _columns(section: dict[str, Any]) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    everywhere: dict[str, str] = {}
    by_table: dict[str, dict[str, str]] = {}
    every_name = tuple(dict.fromkeys(name for names in KNOWN.values() for name in names))
    for key, value in section.items():
        if isinstance(value, dict):
            _only_known([key], TABLES, "[columns] table ")
            _only_known(value, KNOWN[key], f"[columns.{key}] ")
            by_table[key] = {name: _text(column, f"[columns.{key}] {name}") for name, column in value.items()}
        else:
            _only_known([key], every_name, "[columns] ")
            everywhere[key] = _text(value, f"[columns] {key}")
    return everywhere, by_table


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{FILE_NAME}: {where} must be text in quotes; got {value!r}.")
    return value


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise DataError(f"{FILE_NAME}: {where} must be a number; got {value!r}.")
    return float(value)


def _optional_number(section: dict[str, Any], key: str, name: str) -> float | None:
    return _number(section[key], f"[{name}] {key}") if key in section else None


def _one_of(value: Any, allowed: tuple[str, ...], where: str) -> str:
    if value not in allowed:
        listed = ", ".join(f'"{word}"' for word in allowed if word)
        raise DataError(
            f"{FILE_NAME}: {where} cannot be {value!r}.{did_you_mean(str(value), allowed)}",
            possible=f"It can be {listed}.",
        )
    return str(value)


def _paths(value: Any, table: str) -> tuple[str, ...]:
    paths = value if isinstance(value, list) else [value]
    return tuple(_text(path, f"[files] {table}") for path in paths)


def _encoding(name: str) -> str:
    try:
        "".encode(name)
    except (LookupError, ValueError):
        raise DataError(
            f"{FILE_NAME}: [files] encoding {name!r} is not known.",
            possible='Often seen are "utf-8", "gb18030", "big5", "shift_jis", "latin-1", "cp1252".',
        ) from None
    return name
