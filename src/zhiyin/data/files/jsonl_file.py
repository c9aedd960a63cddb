"""Files with one JSON object a line, whole and damaged ones."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from zhiyin.data.description import Description
from zhiyin.data.files.csv_file import TextTable, text_of
from zhiyin.data.files.values import column_of
from zhiyin.domain.errors import DataError


def read_jsonl(path: Path, description: Description) -> TextTable:
    """Read a jsonl file, also compressed.

    Raises:
        DataError: when it is empty, in another encoding, or one JSON array instead of one object a line.
    """
    try:
        return TextTable(pl.read_ndjson(path, infer_schema_length=None))
    except (pl.exceptions.PolarsError, OSError):
        return _tolerant(text_of(path, description))


def _tolerant(text: str) -> TextTable:
    """Read line by line; slow, and only for files that are not as they should be."""
    if not text.strip():
        raise DataError("The file is empty.", remedy="It needs one JSON object a line.")
    if text.lstrip().startswith("["):
        raise DataError(
            "The file is one JSON array; it should hold one JSON object a line.",
            remedy="Turn it into lines:  jq -c '.[]' old.json > new.jsonl",
        )
    objects: list[dict[str, Any]] = []
    numbers: list[int] = []
    bad: list[int] = []
    lines = (line for line in io.StringIO(text) if line.strip())
    for number, line in enumerate(lines, start=1):
        parsed = _object(line)
        if parsed is None:
            bad.append(number)
        else:
            objects.append(parsed)
            numbers.append(number)
    names = list(dict.fromkeys(name for entry in objects for name in entry))
    frame = pl.DataFrame([column_of(name, [entry.get(name) for entry in objects]) for name in names])
    return TextTable(
        frame,
        np.array(numbers, dtype=np.int64) if bad else None,
        tuple(bad),
        "no JSON object" if bad else "",
    )


def _object(line: str) -> dict[str, Any] | None:
    try:
        parsed = json.loads(line)
    except ValueError:
        return None
    return parsed if isinstance(parsed, dict) else None
