"""From the records of a simulation to the tables and histories of a dataset."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from zhiyin.data.shop.behaviour import EVENT_KINDS, PAGES
from zhiyin.data.shop.records import Records
from zhiyin.data.shop.users import DEVICES
from zhiyin.domain import Histories, Vocabulary
from zhiyin.domain.arrays import offsets_of

INTERACTIONS: dict[str, type[np.generic]] = {
    "user": np.int32, "item": np.int32, "timestamp": np.int64, "value": np.float32,
    "device": np.int32, "page": np.int32, "visit": np.int64, "kind": np.int16,
}  # fmt: skip
IMPRESSIONS: dict[str, type[np.generic]] = {
    "user": np.int32, "item": np.int32, "timestamp": np.int64, "rank": np.int16, "propensity": np.float32,
    "clicked": np.bool_, "visit": np.int64, "device": np.int32, "version": np.int32,
}  # fmt: skip
CONTEXT = ("hour", "device", "page", "visit")


def event_columns(records: Records) -> dict[str, np.ndarray]:
    """Return the events, sorted by user and within a user by time; ties as they happened."""
    columns = _joined(records.events, INTERACTIONS)
    order = np.lexsort((columns["timestamp"], columns["user"]))
    return {name: column[order] for name, column in columns.items()}


def histories_of(events: dict[str, np.ndarray], n_users: int) -> Histories:
    """Return one history a user; users who never came have an empty one."""
    return Histories(
        offsets_of(np.bincount(events["user"], minlength=n_users)),
        events["item"],
        events["kind"],
        events["timestamp"],
        events["value"],
    )


def context_of(events: dict[str, np.ndarray]) -> dict[str, pl.Series]:
    """Return the context columns of the events: hour of the day (UTC), device, page, number of the visit."""
    columns = (
        _hour(events["timestamp"]),
        pl.Series(DEVICES)[events["device"]],
        pl.Series(PAGES)[events["page"]],
        pl.Series(events["visit"]),
    )
    return {name: column.alias(name) for name, column in zip(CONTEXT, columns, strict=True)}


def interaction_table(events: dict[str, np.ndarray], users: Vocabulary, items: Vocabulary) -> pl.DataFrame:
    """Return the events as a shop would log them, in the order of time."""
    value = pl.Series(events["value"]).fill_nan(None)
    table = pl.DataFrame(
        {
            "user_id": users.ids[events["user"]],
            "item_id": items.ids[events["item"]],
            "timestamp": events["timestamp"],
            "event": pl.Series(EVENT_KINDS)[events["kind"]],
            "value": value,
            **context_of(events),
        }
    )
    return table.sort("timestamp", maintain_order=True)


def impression_table(records: Records, users: Vocabulary, items: Vocabulary) -> pl.DataFrame:
    """Return what was shown: rank counts from 1, propensity is that of the item given those above it."""
    shown = _joined(records.impressions, IMPRESSIONS)
    table = pl.DataFrame(
        {
            "user_id": users.ids[shown["user"]],
            "item_id": items.ids[shown["item"]],
            "timestamp": shown["timestamp"],
            "rank": shown["rank"],
            "propensity": shown["propensity"],
            "policy_version": pl.Series(records.versions, dtype=pl.String)[shown["version"]],
            "clicked": shown["clicked"],
            "visit": shown["visit"],
            "hour": _hour(shown["timestamp"]),
            "device": pl.Series(DEVICES)[shown["device"]],
        }
    )
    return table.sort("timestamp", "visit", "rank", maintain_order=True)


def _joined(
    columns: dict[str, list[np.ndarray]], dtypes: Mapping[str, type[np.generic]]
) -> dict[str, np.ndarray]:
    return {
        name: np.concatenate([np.empty(0, dtype), *columns.get(name, [])]).astype(dtype, copy=False)
        for name, dtype in dtypes.items()
    }


def _hour(timestamp: np.ndarray) -> pl.Series:
    return pl.Series((timestamp // 3600 % 24).astype(np.int8))
