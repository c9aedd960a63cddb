"""The training data of a bundle, grown by everything the log took in since."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from zhiyin.data.attributes import rows_of
from zhiyin.data.dataset import Dataset
from zhiyin.data.kinds import NO_KINDS, EventKinds, distinct_kinds
from zhiyin.data.order import carried_forward, history_offsets, joined_to, time_order
from zhiyin.domain import PAD, BoolArray, Catalogue, Histories, LongArray, Vocabulary
from zhiyin.experiments.refreshing.people import Put, people_now
from zhiyin.pipeline.absorbing import MOST_EARLY
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.stores.events import BATCH_SCHEMA, EventStore
from zhiyin.stores.records import StoredItem

_TYPES: Any = dict(BATCH_SCHEMA)

_MOST_NEW_WORDS = 100
"""Words of a log, the commonest, that become kinds of events where there were none."""


@dataclass(frozen=True, eq=False)
class News:
    """What one tenant's log says after a position.

    Attributes:
        position: Up to where it was read.
        forgotten: Users that were removed.
        items: Newest word on every item that changed.
        events: Columns as in `zhiyin.stores.events.BATCH_SCHEMA`, without those of removed users.
    """

    position: int
    forgotten: frozenset[str]
    items: tuple[StoredItem, ...]
    events: pl.DataFrame


@dataclass(frozen=True, eq=False)
class Grown:
    """What there is to learn from now.

    Attributes:
        dataset: Histories and catalogue of the bundle and everything since, without removed users.
        is_new: (T,) bool, aligned with the flat events: whether the bundle has not been trained on it.
        position: Of the log, up to which it reaches.
        pipeline: The bundle's, knowing every item there is now; nothing of it is trained anew.
        n_unknown: New events on items that the catalogue does not hold.
        early: Those and older ones; the next bundle keeps them until their items come.
    """

    dataset: Dataset
    is_new: BoolArray
    position: int
    pipeline: Pipeline
    n_unknown: int
    early: pl.DataFrame

    @property
    def n_new(self) -> int:
        """Events that the bundle has not been trained on."""
        return int(self.is_new.sum())

    @property
    def moments(self) -> LongArray:
        """(T,) int64, when each event happened; one without a time counts as the one before it."""
        histories = self.dataset.histories
        return carried_forward(histories.row_of_event.astype(np.int32), histories.timestamp)


def read_news(store: EventStore, since: int) -> News:
    """Read the change log from a position on, to its end at this moment.

    Raises:
        StoreError: when it cannot be read.
    """
    until, position = store.position(), since
    forgotten: set[str] = set()
    items: dict[str, StoredItem] = {}
    parts = [pl.DataFrame(schema=BATCH_SCHEMA)]
    while position < until:
        changes = store.changes_after(position)
        if changes.forgotten:
            parts = [_without(part, changes.forgotten) for part in parts]
            forgotten |= set(changes.forgotten)
        items |= {item.item_id: item for item in changes.items}
        parts.append(changes.events.select(BATCH_SCHEMA.names()).cast(_TYPES))
        position = changes.position
    return News(position, frozenset(forgotten), tuple(items.values()), pl.concat(parts))


def grow(pipeline: Pipeline, training: Mapping[str, Any], news: News, put: Put | None = None) -> Grown:
    """Join what a bundle remembers with what happened since.

    Args:
        pipeline: Loaded from the bundle.
        training: The table ``training`` of the bundle's card.
        news: From the position of the bundle on.
        put: Attributes of users that the bundle reads; they go before what it was trained with.
    """
    twin = with_items(pipeline, news.items)
    catalogue = twin.catalogue_or_raise()
    users, base = _remembered(pipeline, news.forgotten)
    told = pl.concat([_without(pipeline.early, news.forgotten), news.events])
    known = catalogue.items.indices(told["item_id"])
    events, early = told.filter(pl.Series(known != PAD)), told.filter(pl.Series(known == PAD))
    users, row = _rows_of_users(users, events["user_id"])
    kinds = _kinds_of(pipeline, events["event"])
    columns = (
        (base.row_of_event.astype(np.int32), row),
        (base.item_index, known[known != PAD]),
        (base.event_index, _kind_of(events["event"], kinds)),
        (base.timestamp, events["timestamp"].to_numpy()),
        (base.value, events["value"].fill_null(np.nan).to_numpy().astype(np.float32)),
        (np.zeros(base.n_events, dtype=np.bool_), np.ones(events.height, dtype=np.bool_)),
    )
    user, item, kind, moment, value, is_new = (np.concatenate(pair) for pair in columns)
    order = time_order(user, moment)
    at: Any = slice(None) if order is None else order
    histories = Histories(
        history_offsets(user, len(users)),
        item[at].astype(np.int32),
        kind[at].astype(np.int16),
        moment[at].astype(np.int64),
        value[at],
    )
    dataset = Dataset(
        name=str(training.get("dataset", "log")),
        catalogue=catalogue,
        users=users,
        histories=histories,
        event_kinds=kinds.known,
        event_weights=_event_weights(training, len(kinds.known)),
        positive_value=training.get("positive_value"),
        user_table=people_now(pipeline, users, put or {}),
    )
    n_unknown = int((known[-news.events.height :] == PAD).sum()) if news.events.height else 0
    return Grown(dataset, is_new[at], news.position, twin, n_unknown, early.tail(MOST_EARLY))


def with_items(pipeline: Pipeline, items: Sequence[StoredItem]) -> Pipeline:
    """Return a twin of a pipeline that knows what was put and deleted; the pipeline stays as it was."""
    twin = copy(pipeline)
    catalogue = pipeline.catalogue_or_raise()
    # A mark of deletion alone says nothing about an item that the catalogue does not hold.
    described = [item for item in items if item.attributes or not item.deleted]
    if described:
        rows = [_whole(item, catalogue) for item in described]
        twin.add_items(rows_of(rows, catalogue.table.schema))
    deleted = twin.catalogue_or_raise().items.indices([item.item_id for item in items if item.deleted])
    twin.remove_items(deleted[deleted != PAD])
    return twin


def _whole(item: StoredItem, catalogue: Catalogue) -> dict[str, Any]:
    index = catalogue.items.index(item.item_id)
    known = {} if index == PAD else catalogue.table.row(index, named=True)
    return {**known, **item.attributes, "item_id": item.item_id}


def _without(events: pl.DataFrame, user_ids: Collection[str]) -> pl.DataFrame:
    """Return the events of all others."""
    gone = pl.Series(list(user_ids), dtype=pl.String)
    return events.filter(~pl.col("user_id").is_in(gone.implode()))


def _remembered(pipeline: Pipeline, forgotten: frozenset[str]) -> tuple[Vocabulary, Histories]:
    """Users and histories of the bundle, without those who were removed."""
    if not forgotten:
        return pipeline.users, pipeline.histories
    kept = ~pipeline.users.ids.is_in(pl.Series(sorted(forgotten), dtype=pl.String).implode())
    rows = np.flatnonzero(kept.to_numpy())
    return Vocabulary(pipeline.users.ids.filter(kept)), pipeline.histories.take(rows)


def _rows_of_users(users: Vocabulary, ids: pl.Series) -> tuple[Vocabulary, np.ndarray[Any, Any]]:
    distinct = ids.unique(maintain_order=True)
    users, index = joined_to(users, distinct)
    places = ids.replace_strict(distinct, pl.Series(index), return_dtype=pl.Int32) if len(ids) else ids
    return users, places.cast(pl.Int32).to_numpy()


def _kinds_of(pipeline: Pipeline, words: pl.Series) -> EventKinds:
    """Return the kinds of the bundle; those of the log where it was trained before anybody did anything."""
    if pipeline.event_kinds != NO_KINDS or pipeline.histories.n_events:
        return EventKinds(pipeline.event_kinds, pipeline.histories)
    commonest = words.value_counts().sort("count", words.name, descending=[True, False])[words.name]
    return EventKinds(distinct_kinds(commonest.head(_MOST_NEW_WORDS).to_list()), pipeline.histories)


def _kind_of(words: pl.Series, kinds: EventKinds) -> np.ndarray[Any, Any]:
    distinct = words.unique()
    index = pl.Series([kinds.index(word) for word in distinct.to_list()], dtype=pl.Int16)
    found = words.replace_strict(distinct, index, return_dtype=pl.Int16) if len(words) else words
    return found.cast(pl.Int16).to_numpy()


def _event_weights(training: Mapping[str, Any], n_kinds: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    weights = training.get("event_weights", [])
    return np.array(weights if len(weights) == n_kinds else [1.0] * n_kinds, dtype=np.float32)
