"""What is known of users now: what a bundle was trained with, changed by the attributes put since."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from zhiyin.domain import Vocabulary
from zhiyin.pipeline.moments import readable
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.ranking.context import as_words
from zhiyin.stores.events import EventStore

Put = Mapping[str, Mapping[str, object]]
"""User id → attributes."""


def attributes_put(store: EventStore, names: frozenset[str]) -> Put:
    """Return those of the named attributes that users of a store have; no others are read.

    Raises:
        StoreError: when the store cannot be read.
    """
    if not names:
        return {}
    put = {}
    for page in store.user_batches():
        for user in page:
            read = readable(user.attributes, names)
            if read:
                put[user.user_id] = read
    return put


def people_now(pipeline: Pipeline, users: Vocabulary, put: Put) -> pl.DataFrame | None:
    """Join what the parts of a bundle know of users with what was put.

    A value that does not fit the type that a bundle was trained with is passed over, as when it serves.

    Args:
        pipeline: Of the bundle.
        users: Of whom something may be said.
        put: As `attributes_put` returned it.

    Returns:
        One row a user, ``user_id`` first; None where nothing is read of users.
    """
    names = sorted(pipeline.reads_of_users)
    if not names:
        return None
    known = pl.DataFrame({"user_id": pipeline.users.ids})
    for part in (pipeline.ranker, pipeline.reranking):
        if part is not None:
            known = known.hstack([column for column in part.people if column.name not in known.columns])
    said = pl.DataFrame(
        {
            "user_id": pl.Series(list(put), dtype=pl.String),
            **{name: _column([of_user.get(name) for of_user in put.values()], known, name) for name in names},
        }
    )
    table = pl.DataFrame({"user_id": users.ids})
    for told in (known, said.rename({name: _put(name) for name in names})):
        table = table.join(told, on="user_id", how="left", maintain_order="left")
    newest = [pl.coalesce(_put(name), *({name} & {*known.columns})).alias(name) for name in names]
    return table.select("user_id", *newest)


def _put(name: str) -> str:
    return f"{name}:put"


def _column(values: Sequence[object], known: pl.DataFrame, name: str) -> pl.Series:
    """Return values of any kinds in the type that a bundle knows; null where one does not fit."""
    column = pl.Series(name, values, strict=False)
    if name not in known.columns:
        return column.cast(pl.String) if column.dtype == pl.Null else column
    dtype = known.schema[name]
    if dtype == pl.Boolean:
        return pl.Series(name, [value if isinstance(value, bool) else None for value in values], dtype)
    words = as_words(column)  # among words a number is one, too
    if dtype.is_numeric():
        words = words.cast(pl.Float64, strict=False)
    return words.cast(dtype, strict=False)
