"""The way in: a folder of files becomes a `Dataset`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from zhiyin.data.dataset import Dataset
from zhiyin.data.indexing import history_offsets, indices_in, time_order
from zhiyin.domain import NO_TIMESTAMP, Catalogue, Histories, Progress, Silent, Vocabulary
from zhiyin.domain.errors import DataError

_SILENT = Silent()
_KNOWN = ("user_id", "item_id", "timestamp", "event", "value")


def read_dataset(location: str | Path, *, progress: Progress = _SILENT) -> Dataset:
    """Read a data folder.

    Raises:
        DataError: when it cannot be read as a dataset.
    """
    with progress.stage("Reading the data"):
        folder = Path(location)
        events = _table(folder, "interactions")
        if events is None:
            raise DataError(f"{folder} holds no interactions.")
        items = _table(folder, "items")
        users = _table(folder, "users")
        return _index(folder, events, items, users)


def _index(
    folder: Path, events: pl.DataFrame, items: pl.DataFrame | None, users: pl.DataFrame | None
) -> Dataset:
    if items is None:
        items = pl.DataFrame({"item_id": pl.Series([], dtype=pl.String)})
    vocabulary, item_index = indices_in(Vocabulary(items["item_id"]), events["item_id"].cast(pl.String))
    extra = pl.DataFrame({"item_id": vocabulary.ids[items.height :]})
    table = pl.concat([items.with_columns(pl.col("item_id").cast(pl.String)), extra], how="diagonal")
    user_ids, user_index = indices_in(Vocabulary([]), events["user_id"].cast(pl.String))
    if users is not None:
        user_ids = user_ids.extended(users["user_id"].cast(pl.String).to_list())
    moment = events["timestamp"].to_numpy() if "timestamp" in events else None
    order = time_order(user_index, moment)
    kinds, event = ("interaction",), np.zeros(events.height, dtype=np.int16)
    if "event" in events:
        vocabulary_of_kinds, indices = indices_in(Vocabulary([]), events["event"])
        kinds, event = tuple(vocabulary_of_kinds.ids), indices.astype(np.int16)
    value = events["value"].to_numpy() if "value" in events else np.full(events.height, np.nan)
    at = slice(None) if order is None else order
    context = {name: events[name] for name in events.columns if name not in _KNOWN}
    if order is not None:
        context = {name: column.gather(order) for name, column in context.items()}
    return Dataset(
        name=folder.resolve().name,
        catalogue=Catalogue(vocabulary, table.select("item_id", pl.exclude("item_id"))),
        users=user_ids,
        histories=Histories(
            history_offsets(user_index, len(user_ids)),
            item_index[at],
            event[at],
            np.full(events.height, NO_TIMESTAMP) if moment is None else moment.astype(np.int64)[at],
            value.astype(np.float32)[at],
        ),
        event_kinds=kinds,
        event_weights=np.ones(len(kinds), dtype=np.float32),
        context=context,
        user_table=users,
        facts=_table(folder, "facts"),
        impressions=_table(folder, "impressions"),
    )


def _table(folder: Path, name: str) -> pl.DataFrame | None:
    path = folder / f"{name}.parquet"
    return pl.read_parquet(path) if path.exists() else None
