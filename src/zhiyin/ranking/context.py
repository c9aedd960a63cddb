"""Columns of rows as numbers of words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from zhiyin.domain import LongArray
from zhiyin.domain.errors import DataError, did_you_mean

_MOST_WORDS = 10_000
"""Words of a column that are told apart, the most frequent."""
_FEWEST_USERS = 2
"""Users who must share a word before it is learned."""
_FROM_NUMBERS_ON = 64
"""Different numbers from which on a column is cut into ranges."""
_N_RANGES = 32


@dataclass(frozen=True)
class ContextColumn:
    """How one column is read: as words, or as ranges of numbers.

    Attributes:
        name: Of the column.
        words: In alphabetical order; empty where it is read as numbers.
        edges: Where one range ends and the next begins.
    """

    name: str
    words: tuple[str, ...]
    edges: tuple[float, ...]

    @classmethod
    def fit(cls, column: pl.Series, users: npt.NDArray[np.integer]) -> ContextColumn:
        """Learn which words or ranges there are.

        A word that one user alone has is not learned: it would say who it is, and stay when they are erased.

        Args:
            column: N values.
            users: (N,) whose row each is.
        """
        if column.dtype.is_numeric() and column.n_unique() > _FROM_NUMBERS_ON:
            numbers = column.cast(pl.Float64).fill_nan(None).drop_nulls().to_numpy()
            edges = np.unique(np.quantile(numbers, np.linspace(0, 1, _N_RANGES + 1)[1:-1]))
            return cls(column.name, (), tuple(map(float, edges)))
        counts = (
            pl.DataFrame({"word": as_words(column), "user": users})
            .drop_nulls()
            .group_by("word")
            .agg(pl.len().alias("n"), pl.col("user").n_unique().alias("users"))
            .filter(pl.col("users") >= _FEWEST_USERS)
            .sort(["n", "word"], descending=[True, False])
        )
        words = counts["word"].head(_MOST_WORDS)
        return cls(column.name, tuple(sorted(words)), ())

    @property
    def n_words(self) -> int:
        """Different answers, "not known" included."""
        return 2 + (len(self.words) or len(self.edges))

    def read(self, column: pl.Series) -> LongArray:
        """Return (N,) int64 from 0, which is "not known", to ``n_words`` - 1."""
        if self.edges:
            numbers = column.cast(pl.Float64, strict=False).to_numpy()
            return np.where(np.isnan(numbers), 0, 1 + np.searchsorted(self.edges, numbers, side="right"))
        known = np.array(self.words, dtype=object)
        words = as_words(column).fill_null("").to_numpy().astype(object)
        place = np.minimum(np.searchsorted(known, words), max(len(known) - 1, 0))
        if not len(known):
            return np.zeros(len(words), dtype=np.int64)
        return np.where(known[place] == words, place + 1, 0).astype(np.int64)


@dataclass(frozen=True)
class ContextReader:
    """Reads all columns, each word with a number of its own."""

    columns: tuple[ContextColumn, ...]

    @classmethod
    def fit(
        cls, context: pl.DataFrame, names: Sequence[str], users: npt.NDArray[np.integer]
    ) -> ContextReader:
        """Learn the columns of these names, of rows whose users (N,) are.

        Raises:
            DataError: when there is no such column.
        """
        _require(context, names)
        return cls(tuple(ContextColumn.fit(context[name], users) for name in names))

    @property
    def n_words(self) -> int:
        """Words of all columns together."""
        return sum(column.n_words for column in self.columns)

    def read(self, context: pl.DataFrame) -> LongArray:
        """Return (N, C) int64 numbers of words.

        Raises:
            DataError: when a column is missing.
        """
        _require(context, [column.name for column in self.columns])
        read = np.empty((context.height, len(self.columns)), dtype=np.int64)
        first = 0
        for place, column in enumerate(self.columns):
            read[:, place] = first + column.read(context[column.name])
            first += column.n_words
        return read

    def facts(self) -> list[dict[str, Any]]:
        """Return the columns as JSON can hold them."""
        return [{"name": each.name, "words": each.words, "edges": each.edges} for each in self.columns]

    @classmethod
    def from_facts(cls, facts: Sequence[dict[str, Any]]) -> ContextReader:
        """Read what `facts` wrote."""
        return cls(
            tuple(ContextColumn(each["name"], tuple(each["words"]), tuple(each["edges"])) for each in facts)
        )


def as_words(column: pl.Series) -> pl.Series:
    """Write whole numbers alike, whether they came as 3 or as 3.0."""
    words = column.cast(pl.String)
    return words.str.strip_suffix(".0") if column.dtype.is_float() else words


def _require(context: pl.DataFrame, names: Sequence[str]) -> None:
    for name in names:
        if name not in context.columns:
            raise DataError(
                f"The rows have no column '{name}', which the ranker reads."
                + did_you_mean(name, context.columns),
                possible=f"Columns: {', '.join(context.columns) or 'none'}.",
            )
