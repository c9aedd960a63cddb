"""Amazon reviews, 2014 and 2023: one category at a time, users and items with five reviews at least."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from zhiyin.data.public.tables import Tables

RATINGS = {"values": {"positive": 4.0, "minimum": 1.0, "maximum": 5.0}}
ITEM_SCHEMA: dict[str, pl.DataType] = {
    "item_id": pl.String(),
    "title": pl.String(),
    "description": pl.String(),
    "categories": pl.List(pl.String()),
    "brand": pl.String(),
    "price": pl.Float64(),
    "image": pl.String(),
}
_Row = dict[str, Any]


def read_2014(files: Mapping[str, Path]) -> Tables:
    """Read ``reviews_<Category>_5.json`` (JSON lines) and ``meta_<Category>.json`` (Python literals)."""
    reviews, meta = _two(files, "reviews_")
    schema = {"reviewerID": pl.String, "asin": pl.String, "overall": pl.Float32, "unixReviewTime": pl.Int64}
    interactions = pl.read_ndjson(reviews, schema=schema).select(
        pl.col("reviewerID").alias("user_id"),
        pl.col("asin").alias("item_id"),
        pl.col("unixReviewTime").alias("timestamp"),
        pl.lit("rating").alias("event"),
        pl.col("overall").alias("value"),
    )
    items = _items(
        meta, interactions["item_id"], re.compile(r"'asin': '([^']+)'"), ast.literal_eval, _item_2014
    )
    return Tables(interactions, items, None, RATINGS)


def read_2023(files: Mapping[str, Path]) -> Tables:
    """Read ``<Category>.csv`` (ratings, times in milliseconds) and ``meta_<Category>.jsonl``."""
    ratings, meta = _two(files, "")
    interactions = pl.read_csv(ratings, schema_overrides={"rating": pl.Float32}).select(
        "user_id",
        pl.col("parent_asin").cast(pl.String).alias("item_id"),
        pl.col("timestamp").cast(pl.Int64) // 1000,
        pl.lit("rating").alias("event"),
        pl.col("rating").alias("value"),
    )
    key = re.compile(r'"parent_asin":\s*"([^"]+)"')
    items = _items(meta, interactions["item_id"], key, json.loads, _item_2023)
    return Tables(interactions, items, None, RATINGS)


def _two(files: Mapping[str, Path], prefix: str) -> tuple[Path, Path]:
    """Return the file of ratings and the file of items."""
    meta = next(name for name in files if name.startswith("meta_"))
    ratings = next(name for name in files if name.startswith(prefix) and name != meta)
    return files[ratings], files[meta]


def _items(
    path: Path,
    wanted: pl.Series,
    key: re.Pattern[str],
    parse: Callable[[str], Any],
    read: Callable[[_Row], _Row],
) -> pl.DataFrame:
    """Read the items that have ratings; others are skipped before their line is parsed, which is slow."""
    left = set(wanted.to_list())
    rows = [read(record) for record in _records(path, left, key, parse)]
    described = pl.DataFrame(rows, schema=ITEM_SCHEMA, orient="row")
    bare = pl.DataFrame({"item_id": sorted(left)}, schema={"item_id": pl.String})
    return pl.concat([described, bare], how="diagonal")


def _records(path: Path, left: set[str], key: re.Pattern[str], parse: Callable[[str], Any]) -> Iterator[_Row]:
    """Yield each wanted record once and take it off the list; a line that cannot be parsed is skipped."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            # The key may also stand inside a text, so every occurrence counts as a candidate.
            if left.isdisjoint(key.findall(line)):
                continue
            try:
                record = parse(line)
            except (ValueError, SyntaxError):
                continue
            identifier = record.get("asin") or record.get("parent_asin")
            if identifier in left:
                left.discard(identifier)
                yield {**record, "item_id": identifier}


def _item_2014(record: _Row) -> _Row:
    paths = [" > ".join(path) for path in record.get("categories") or []]
    return {
        "item_id": record["item_id"],
        "title": _text(record.get("title")),
        "description": _text(record.get("description")),
        "categories": paths or None,
        "brand": _text(record.get("brand")),
        "price": _price(record.get("price")),
        "image": _text(record.get("imUrl")),
    }


def _item_2023(record: _Row) -> _Row:
    path = " > ".join(record.get("categories") or [])
    images = record.get("images") or [{}]
    texts = [*(record.get("features") or []), *(record.get("description") or [])]
    return {
        "item_id": record["item_id"],
        "title": _text(record.get("title")),
        "description": _text(" ".join(texts)),
        "categories": [path] if path else None,
        "brand": _text(record.get("store")),
        "price": _price(record.get("price")),
        "image": _text(images[0].get("large")),
    }


def _text(value: object) -> str | None:
    return value.strip() or None if isinstance(value, str) else None


def _price(value: object) -> float | None:
    """Return a price that is a number or a text such as ``$1,299.00``; None for anything else."""
    found = re.search(r"\d[\d,]*(?:\.\d+)?", str(value)) if value is not None else None
    return float(found.group().replace(",", "")) if found else None
