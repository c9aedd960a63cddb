"""The tables of a public data set, and writing them as a data folder."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import tomli_w

from zhiyin.domain.errors import DataError


@dataclass(frozen=True)
class Tables:
    """What a data folder will hold; columns are called as in the architecture of data folders.

    Attributes:
        interactions: In the order of the source's file.
        items: One row an item.
        users: One row a user, or None where the source says nothing about them.
        description: What ``dataset.toml`` says.
    """

    interactions: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame | None = None
    description: dict[str, Any] = field(default_factory=dict)


def write_tables(tables: Tables, folder: Path, readme: str) -> None:
    """Write a data folder: all of it, or, when something fails, nothing.

    Raises:
        DataError: when it cannot be written.
    """
    partial = folder.with_name(f"{folder.name}.part-{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        for name in ("interactions", "items", "users"):
            table = getattr(tables, name)
            if table is not None:
                table.write_parquet(partial / f"{name}.parquet")
        (partial / "dataset.toml").write_text(tomli_w.dumps(tables.description), encoding="utf-8")
        (partial / "README.txt").write_text(readme, encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        partial.replace(folder)
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error.strerror or error}.") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
