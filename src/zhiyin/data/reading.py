"""The way in: a folder, a file or a database becomes a `Dataset`."""

from __future__ import annotations

from pathlib import Path

from zhiyin.data.checking import inspect
from zhiyin.data.dataset import Dataset
from zhiyin.data.report import CheckReport
from zhiyin.domain import Progress, Silent

_SILENT = Silent()


def read_dataset(location: str | Path, *, progress: Progress = _SILENT) -> Dataset:
    """Read, check, clean and index data.

    Args:
        location: A folder that holds ``interactions.{parquet,csv,jsonl}`` and, if there are, ``items``,
            ``users``, ``facts``, ``impressions`` and ``dataset.toml``; a single file of interactions; or a
            database URL such as ``sqlite:///shop.db``.
        progress: Who listens.

    Raises:
        DataError: with everything that is wrong, when the data cannot be used.
    """
    return read_checked(location, progress=progress)[0]


def read_checked(location: str | Path, *, progress: Progress = _SILENT) -> tuple[Dataset, CheckReport]:
    """Do the same as `read_dataset`, and return what was cleaned as well.

    Raises:
        DataError: with everything that is wrong, when the data cannot be used.
    """
    dataset, report = inspect(location, progress=progress)
    if dataset is None:
        raise report.as_error()
    return dataset, report
