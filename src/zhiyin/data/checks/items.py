"""The catalogue: checked, cleaned and brought into the known types."""

from __future__ import annotations

import json

import numpy as np
import polars as pl

from zhiyin.data.checks.ids import read_ids, report_missing
from zhiyin.data.checks.markup import without_markup
from zhiyin.data.checks.numbers import read_numbers
from zhiyin.data.checks.types import with_narrow_types
from zhiyin.data.files.raw import RawTable
from zhiyin.data.problems import Findings, rows_of

_TEXTS = ("title", "description", "brand", "domain")
_PLACES = ("image", "audio")


def check_items(raw: RawTable, findings: Findings) -> pl.DataFrame | None:
    """Check and clean the items.

    Returns:
        One row an item, ``item_id`` first; None when they cannot be used.
    """
    described = described_once(raw, "item_id", findings)
    if described is None:
        return None
    frame, rows = described
    columns = frame.columns
    _note_missing_texts(raw, frame, findings)
    frame = frame.with_columns(_text(raw, frame[name], rows, findings) for name in _TEXTS if name in columns)
    frame = frame.with_columns(
        frame[name].cast(pl.String, strict=False)
        for name in _PLACES
        if name in columns and frame[name].dtype != pl.Binary
    )
    if "categories" in columns:
        frame = frame.with_columns(_categories(raw, frame["categories"], findings))
    if "price" in columns:
        frame = frame.with_columns(_prices(raw, frame["price"], rows, findings))
    return frame


def _note_missing_texts(raw: RawTable, frame: pl.DataFrame, findings: Findings) -> None:
    names = [name for name in (*_TEXTS, "categories") if name in frame.columns]
    if all(frame[name].null_count() == frame.height for name in names):
        words = "are empty in every row" if names else "are missing"
        others = [
            name
            for name in frame.columns[1:]
            if name not in names
            and frame[name].dtype == pl.String
            and frame[name].null_count() < frame.height
        ]
        findings.note(
            "no_texts",
            raw.label,
            f"Title, description and categories {words}; language models read the attributes instead: "
            f"{', '.join(others) or 'there is none that is text'}.",
        )


def described_once(
    raw: RawTable, column: str, findings: Findings
) -> tuple[pl.DataFrame, np.ndarray[tuple[int], np.dtype[np.int64]]] | None:
    """Keep one row for each id.

    Returns:
        The frame, id first, ids as text; (rows,) int64 position of each in the raw frame. None when the
        column cannot hold ids or the table is empty.
    """
    if raw.frame.is_empty():
        findings.warn(
            "no_rows", raw.label, "There is a header but no row.", done="taken as if it were not there"
        )
        return None
    ids = read_ids(raw, column, findings)
    if ids is None:
        return None
    missing = report_missing(raw, column, ids, findings)
    action = findings.description.action("duplicate_row")
    known = np.flatnonzero(~missing)
    place = ids.place[known]
    turned = place[::-1] if action == "last" else place
    _, first = np.unique(turned, return_index=True)
    first = len(place) - 1 - first if action == "last" else first
    rows = np.sort(known[first])
    repeated = np.setdiff1d(known, rows)
    if len(repeated):
        findings.settle(
            "duplicate_row",
            raw,
            repeated,
            f"{rows_of(len(repeated), 'has', 'have')} the {column} of another row, "
            f"such as '{ids.distinct[int(ids.place[repeated[0]])]}'.",
            column=column,
        )
    names = ids.distinct.gather(ids.place[rows]).alias(column)
    frame = with_narrow_types(raw)[rows].with_columns(names)
    return frame.select(column, pl.exclude(column)), rows


def _text(
    raw: RawTable, column: pl.Series, rows: np.ndarray[tuple[int], np.dtype[np.int64]], findings: Findings
) -> pl.Series:
    if isinstance(column.dtype, pl.List):
        column = column.cast(pl.List(pl.String)).list.join(", ")
    elif column.dtype in (pl.Binary, pl.Struct, pl.Object):
        findings.error(
            "not_a_text", f"{raw.label}, column {column.name}", f"The column holds {column.dtype}."
        )
        return pl.Series(column.name, [None] * len(column), dtype=pl.String)
    text = column.cast(pl.String).str.strip_chars()
    text = text.set(text == "", None)
    broken = text.str.contains("\ufffd", literal=True).fill_null(value=False).to_numpy()
    if broken.any():
        found = np.flatnonzero(broken)
        findings.warn(
            "damaged_text",
            f"{raw.label}, column {column.name}",
            f"{rows_of(len(found), 'holds', 'hold')} the sign \ufffd (row {raw.rows_named(rows[found])[0]}): "
            "letters were lost when the file was written.",
            done="kept as it is",
            remedy="Export the texts again, as UTF-8.",
        )
    return without_markup(raw, text, rows, findings)


def _categories(raw: RawTable, column: pl.Series, findings: Findings) -> pl.Series:
    """Bring categories to a list of paths, each ``A > B > C``."""
    dtype = column.dtype
    if isinstance(dtype, pl.List):
        if isinstance(dtype.inner, pl.List):
            inner = pl.element().cast(pl.List(pl.String)).list.join(" > ")
            return column.list.eval(inner)
        return column.cast(pl.List(pl.String))
    if dtype != pl.String:
        column = column.cast(pl.String)
    text = column.str.strip_chars()
    text = text.set(text == "", None)
    if bool(text.str.starts_with("[").all()) and text.null_count() < len(text):
        return _categories_of_json(raw, text, findings)
    separator = next((mark for mark in ("|", ";") if bool(text.str.contains(mark, literal=True).any())), None)
    if separator is None:
        return text.to_frame().select(
            pl.when(text.is_null()).then(None).otherwise(pl.concat_list(pl.col(text.name))).alias(text.name)
        )[text.name]
    return text.str.split(separator).list.eval(pl.element().str.strip_chars()).alias(text.name)


def _categories_of_json(raw: RawTable, text: pl.Series, findings: Findings) -> pl.Series:
    lists: list[list[str] | None] = []
    n_bad = 0
    for cell in text.to_list():
        try:
            parsed = None if cell is None else json.loads(cell)
        except ValueError:
            parsed, n_bad = [cell], n_bad + 1
        lists.append(None if parsed is None else [_path(entry) for entry in parsed])
    if n_bad:
        findings.warn(
            "unreadable_categories",
            f"{raw.label}, column categories",
            f"{rows_of(n_bad, 'begins', 'begin')} with '[' but is no JSON list.",
            done="taken as one category each",
        )
    return pl.Series(text.name, lists, dtype=pl.List(pl.String))


def _path(entry: object) -> str:
    return " > ".join(str(part) for part in entry) if isinstance(entry, list) else str(entry)


def _prices(
    raw: RawTable, column: pl.Series, rows: np.ndarray[tuple[int], np.dtype[np.int64]], findings: Findings
) -> pl.Series:
    """Bring prices to float64, without signs of currency; null where there is no price."""
    if column.dtype == pl.String:
        column = column.str.strip_chars().str.replace(r"^(?:[$€£¥￥₹]|US\$|USD|EUR|CNY|RMB)\s*", "")
        column = column.str.replace(r"\s*(?:[$€£¥￥₹元]|USD|EUR|CNY|RMB)$", "")
        column = column.str.replace(r"(?i)^free$", "0").str.replace(r"^(\d{1,3}),(\d{3})\b", "$1$2")
    numbers, unreadable = read_numbers(column)
    unreadable |= numbers < 0
    if unreadable.any():
        found = np.flatnonzero(unreadable)
        findings.settle(
            "unreadable_price",
            raw,
            rows[found],
            f"{rows_of(len(found), 'holds', 'hold')} no price, as {column[int(found[0])]!r}.",
            column="price",
        )
        numbers = np.where(unreadable, np.nan, numbers)
    return pl.Series("price", numbers).fill_nan(None)
