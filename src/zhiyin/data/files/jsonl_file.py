"""Files with one JSON object a line, whole and damaged ones."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from zhiyin.data.description import Description
from zhiyin.data.files.encoding import is_plain_utf8, text_of
from zhiyin.data.files.raw import TextTable
from zhiyin.data.files.values import column_of, stacked
from zhiyin.domain.errors import DataError

_CHUNK = 100_000
"""Lines that are read together; only a run with a broken line in it is read line by line."""


def read_jsonl(path: Path, description: Description) -> TextTable:
    """Read a jsonl file, also compressed.

    Raises:
        DataError: when it is empty, in another encoding, or one JSON array instead of one object a line.
    """
    try:
        if is_plain_utf8(path, description):
            return TextTable(pl.read_ndjson(path, infer_schema_length=None))
    except (pl.exceptions.PolarsError, OSError):
        pass
    return _by_runs(text_of(path, description))


def _by_runs(text: str) -> TextTable:
    lines = pl.read_lines(io.BytesIO(text.encode())).to_series()
    lines = lines.filter(lines.str.contains(r"\S"))
    if not len(lines):
        raise DataError("The file is empty.", remedy="It needs one JSON object a line.")
    if lines[0].lstrip().startswith("["):
        raise DataError(
            "The file is one JSON array; it should hold one JSON object a line.",
            remedy="Turn it into lines:  jq -c '.[]' old.json > new.jsonl",
        )
    runs = [_run(lines[start : start + _CHUNK]) for start in range(0, len(lines), _CHUNK)]
    frame = stacked([found for found, _ in runs])
    is_good = np.concatenate([good for _, good in runs])
    if is_good.all():
        return TextTable(frame)
    numbers, bad = np.flatnonzero(is_good) + 1, np.flatnonzero(~is_good) + 1
    return TextTable(frame, numbers.astype(np.int64), tuple(bad.tolist()), "no JSON object")


def _run(lines: pl.Series) -> tuple[pl.DataFrame, npt.NDArray[np.bool_]]:
    """Read some lines; (n,) bool says which of them hold an object."""
    try:
        whole = pl.read_ndjson(lines.str.join("\n")[0].encode(), infer_schema_length=None)
        if whole.height == len(lines):
            return whole, np.ones(len(lines), dtype=np.bool_)
    except pl.exceptions.PolarsError:
        pass
    parsed = [_object(line) for line in lines.to_list()]
    objects = [entry for entry in parsed if entry is not None]
    names = list(dict.fromkeys(name for entry in objects for name in entry))
    frame = pl.DataFrame([column_of(name, [entry.get(name) for entry in objects]) for name in names])
    return frame, np.array([entry is not None for entry in parsed], dtype=np.bool_)


def _object(line: str) -> dict[str, Any] | None:
    try:
        parsed = json.loads(line)
    except (ValueError, RecursionError):  # the latter when it is nested without end
        return None
    return parsed if isinstance(parsed, dict) else None
