"""Queries as the rows that a fine-tuned language model reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from zhiyin.data.dataset import Dataset
from zhiyin.data.labelled import LabelledExamples
from zhiyin.domain import NO_TIMESTAMP, PAD, IndexArray, Queries, Vocabulary
from zhiyin.ranking.context import as_words

FROM_THE_CLOCK = ("hour", "weekday", "month")
"""Columns that a model reads off the moment of a row."""


def readable(attributes: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return those of the named attributes of a user that can be read: words, numbers, yes and no."""
    return {
        name: value
        for name in names
        if isinstance(value := attributes.get(name), (str, int, float))  # bool is one of them
    }


def people_of(dataset: Dataset, columns: Sequence[str]) -> pl.DataFrame:
    """Return those of the columns that describe users, row ``u`` for user index ``u``."""
    table = dataset.user_table
    return pl.DataFrame() if table is None else people_in(table, dataset.users, columns)


def people_in(table: pl.DataFrame, users: Vocabulary, columns: Sequence[str]) -> pl.DataFrame:
    """Return those of the columns that a table of users has, row ``u`` for user index ``u``."""
    wanted = [name for name in columns if name in table.columns and name != "user_id"]
    if not wanted:
        return pl.DataFrame()
    described = table.select("user_id", *wanted)
    everybody = pl.DataFrame({"user_id": users.ids})
    return everybody.join(described, on="user_id", how="left", maintain_order="left").drop("user_id")


def people_at(people: pl.DataFrame, who: IndexArray) -> pl.DataFrame:
    """Return the rows of (U,) users named by their place, -1 for one of whom nothing is known."""
    if not people.width:
        return people
    return people.select(pl.all().gather(pl.Series(who).replace(PAD, None)))


def moments_of(queries: Queries, columns: Sequence[str], people: pl.DataFrame) -> LabelledExamples:
    """Make one row of every query, without an item.

    What neither the request nor the users say is null: a model then reads nothing there.

    Args:
        queries: B queries.
        columns: Of moment and user, that the model reads.
        people: As `people_of` returned it.
    """
    n = len(queries)
    return LabelledExamples(
        tasks=(),
        labels=np.empty((n, 0), dtype=np.float32),
        user_index=np.arange(n, dtype=np.int32),
        item_index=np.zeros(n, dtype=np.int32),
        timestamp=queries.timestamp,
        context=context_of(queries, columns, people),
        events=queries.histories,
        n_known=queries.histories.lengths,
    )


def context_of(queries: Queries, columns: Sequence[str], people: pl.DataFrame) -> pl.DataFrame:
    """Return what requests and users say in these columns, one row a query; null where neither says it.

    Each query says for itself what it says: requests that are answered together name different things.
    """
    n = len(queries)
    has_moments = bool((queries.timestamp != NO_TIMESTAMP).any())
    is_known = (queries.user_index >= 0) & (queries.user_index < people.height)
    user = pl.Series(np.where(is_known, queries.user_index, -1)).replace(-1, None)
    context = {"query": pl.Series(np.arange(n))}  # A table without columns would have no rows.
    for name in columns:
        described = people[name].gather(user) if name in people.columns else None
        if name in queries.context:
            said = pl.Series(queries.context[name].tolist(), strict=False)
            context[name] = said if described is None else filled(said, described)
        elif described is not None:
            context[name] = described
        elif name not in FROM_THE_CLOCK or not has_moments:
            context[name] = pl.Series([None] * n, dtype=pl.String)
    return pl.DataFrame(context)


def filled(said: pl.Series, otherwise: pl.Series) -> pl.Series:
    """Return what was said, and elsewhere the other; as words where the two are of different types."""
    if not said.null_count():
        return said
    if said.null_count() == len(said):
        return otherwise
    if said.dtype == otherwise.dtype:
        return said.fill_null(otherwise)
    return as_words(said).fill_null(as_words(otherwise))
