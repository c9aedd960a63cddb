"""From clean tables to the indexed dataset."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import polars as pl

from zhiyin.data.checks.interactions import Events
from zhiyin.data.dataset import Dataset
from zhiyin.data.description import Description
from zhiyin.data.order import history_offsets, joined_to, time_order
from zhiyin.domain import NO_TIMESTAMP, Catalogue, Histories, IndexArray, Vocabulary


def dataset_of(
    name: str, events: Events, tables: Mapping[str, pl.DataFrame], description: Description
) -> Dataset:
    """Index clean tables.

    Args:
        name: What reports call the dataset.
        events: Clean interactions, in the order of the file.
        tables: Clean ``items``, ``users``, ``facts`` and ``impressions``, those that are there.
        description: Weights of events, and which value is positive.

    Returns:
        Users in the order of their first event, then those that are only described; items in the order of
        the items file, then those that only interactions name.
    """
    catalogue, item_of = _catalogue(tables.get("items"), events.items.distinct)
    users = Vocabulary(events.users.distinct)
    if "users" in tables:
        users, _ = joined_to(users, tables["users"]["user_id"])
    user_index = events.users.place
    order = time_order(user_index, None if events.moments is None else events.moments.order)
    at: slice | npt.NDArray[np.intp] = slice(None) if order is None else order
    n_events = len(events)
    seconds = np.full(n_events, NO_TIMESTAMP) if events.moments is None else events.moments.seconds[at]
    value = np.full(n_events, np.nan, dtype=np.float32) if events.value is None else events.value[at]
    context = {
        name: column if order is None else column.gather(order) for name, column in events.context.items()
    }
    weights = [description.event_weights.get(kind, 1.0) for kind in events.kinds]
    return Dataset(
        name=name,
        catalogue=catalogue,
        users=users,
        histories=Histories(
            history_offsets(user_index, len(users)),
            item_of[events.items.place[at]],
            events.kind[at],
            seconds,
            value,
        ),
        event_kinds=events.kinds,
        event_weights=np.array(weights, dtype=np.float32),
        positive_value=description.positive,
        context=context,
        user_table=tables.get("users"),
        facts=tables.get("facts"),
        impressions=tables.get("impressions"),
    )


def _catalogue(items: pl.DataFrame | None, touched: pl.Series) -> tuple[Catalogue, IndexArray]:
    if items is None:
        vocabulary = Vocabulary(touched)
        index = np.arange(len(vocabulary), dtype=np.int32)
        return Catalogue(vocabulary, pl.DataFrame({"item_id": vocabulary.ids})), index
    vocabulary, index = joined_to(Vocabulary(items["item_id"]), touched)
    added = pl.DataFrame({"item_id": vocabulary.ids[items.height :]})
    table = pl.concat([items, added], how="diagonal") if added.height else items
    return Catalogue(vocabulary, table), index
