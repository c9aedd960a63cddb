"""What to say when a folder holds no interactions."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from zhiyin.data.description import FILE_NAME, Description
from zhiyin.data.files.locate import Found, format_of
from zhiyin.data.files.tables import read_table
from zhiyin.data.known import REQUIRED, column_for, plain
from zhiyin.data.problems import Findings
from zhiyin.domain.errors import DataError

_DONE = ("click", "isclick", "clicked", "purchase", "ispurchase", "buy", "isbuy", "like", "islike", "label")
"""Columns of impressions that usually say whether the user did something."""
_WHAT_THEY_ARE = "Interactions are rows of user_id and item_id, one for each thing a user did with an item."


def no_interactions(folder: Path, found: Found, description: Description) -> DataError:
    """Return an error that names the file that probably holds them, and the lines to write."""
    start = "There is no interactions.csv, .parquet or .jsonl"
    if "impressions" in found.tables:
        return _only_impressions(f"{start}, only impressions: what was shown.", found, description)
    likely = [path for path in found.others if _looks_like_interactions(path, description)]
    there = [path.name for paths in found.tables.values() for path in paths]
    there += [path.name for path in found.others]
    if likely:
        names = "  or  ".join(f'"{path.name}"' for path in likely)
        return DataError(
            f"{start}. {' and '.join(path.name for path in likely)} could hold interactions.",
            possible=f"There are {', '.join(there)}.",
            remedy=f"Name the file in {FILE_NAME}:  [files]  interactions = {names}",
        )
    return DataError(
        f"{start}, and no other table with a user and an item in each row.",
        possible=f"There are {', '.join(there)}."
        if there
        else f"No file in {folder} can be read as a table.",
        remedy=_WHAT_THEY_ARE,
    )


def _looks_like_interactions(path: Path, description: Description) -> bool:
    columns = schema_of(path, description)
    return all(column_for(name, columns) for name in REQUIRED["interactions"])


def _only_impressions(start: str, found: Found, description: Description) -> DataError:
    path = found.tables["impressions"][0]
    schema = schema_of(path, description)
    missing = [name for name in REQUIRED["interactions"] if name not in schema]
    done = [name for name, dtype in schema.items() if plain(name) in _DONE and not dtype.is_nested()]
    columns = ", ".join(list(schema)[:12]) + (", …" if len(schema) > 12 else "")
    if missing or not done:
        lacking = " and ".join(f"no column '{name}'" for name in missing) or "no column such as 'click'"
        return DataError(
            f"{start} They cannot stand in for interactions: {path.name} has {lacking}.",
            possible=f"Its columns are {columns}.",
            remedy=_WHAT_THEY_ARE,
        )
    others = f" (or {', '.join(done[1:])})" if done[1:] else ""
    lines = (
        "[files]",
        f'interactions = "{path.name}"',
        "[columns.interactions]",
        f'value = "{done[0]}"',
        "[values]",
        "minimum = 1",
        "[cleaning]",
        'value_out_of_range = "drop"',
    )
    return DataError(
        f"{start} The column '{done[0]}' of {path.name} says what was done.",
        possible=f"To learn from the rows where it is 1{others}, write in {FILE_NAME}:",
        remedy="\n".join(f"  {line}" for line in lines),
    )


def schema_of(path: Path, description: Description) -> dict[str, pl.DataType]:
    """Return the columns of a file; none where it cannot be read."""
    try:
        if format_of(path) == "parquet":
            return dict(pl.read_parquet_schema(path))
    except (pl.exceptions.PolarsError, OSError):
        return {}
    raw = read_table("interactions", (path,), Findings(description))
    return {} if raw is None else dict(raw.frame.schema)
