"""What an evaluation must know before it starts: its settings, and facts of the training data."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from pydantic import Field, PositiveInt

from zhiyin.contracts import Config
from zhiyin.data.dataset import Dataset
from zhiyin.domain import BoolArray, Catalogue, FloatArray, LongArray, Ragged
from zhiyin.domain.arrays import offsets_of
from zhiyin.domain.errors import ShapeMismatch

MAX_LEVELS = 6
"""Levels of a category path that are told apart."""


class EvaluationSettings(Config):
    """How slates are judged. The whole catalogue is always ranked; sampled negatives are not offered."""

    at: tuple[PositiveInt, ...] = Field(default=(5, 10), min_length=1)
    """Lengths at which slates are cut."""
    repeat: bool = False
    """Whether items that the user already has may be recommended; if not, one that is stops everything."""
    credit_unseen: bool = False
    """Whether a target that no training event touches can be a hit; only cold-item protocols say so."""
    chunk_size: PositiveInt = 512
    """Queries asked at once; bounds the memory."""
    n_resamples: int = Field(default=1000, ge=100)
    """Bootstrap resamples behind every interval."""
    seed: int = 0
    """Of the bootstrap."""

    @property
    def longest(self) -> int:
        """The largest cut."""
        return max(self.at)


@dataclass(frozen=True, eq=False)
class CatalogueFacts:
    """What is known of the I items of the catalogue.

    Attributes:
        item_counts: (I,) int64, training events that touch each item; one with none is cold.
        vectors: (I, D) float32, what diversity is measured on, or None.
        categories: I rows of category numbers, what diversity is measured on without vectors, or None.
    """

    item_counts: LongArray
    vectors: FloatArray | None = None
    categories: Ragged | None = None

    def __post_init__(self) -> None:
        for name, facts in (("vectors", self.vectors), ("rows of categories", self.categories)):
            if facts is not None and len(facts) != len(self.item_counts):
                raise ShapeMismatch(f"{len(self.item_counts)} items, but {len(facts)} {name}.")

    @property
    def n_items(self) -> int:
        """I."""
        return len(self.item_counts)

    @property
    def seen_in_training(self) -> BoolArray:
        """(I,) bool: whether any training event touches the item."""
        seen: BoolArray = self.item_counts > 0
        return seen

    @cached_property
    def by_popularity(self) -> LongArray:
        """(I,) int64: item indices, most training events first; of equals, the one that comes first."""
        return np.argsort(-self.item_counts, kind="stable")

    def most_popular(self, n: int) -> BoolArray:
        """(I,) bool: the ``n`` items with the most training events."""
        popular = np.zeros(self.n_items, dtype=bool)
        popular[self.by_popularity[:n]] = True
        return popular

    @classmethod
    def of_training(cls, training: Dataset, vectors: FloatArray | None = None) -> CatalogueFacts:
        """Take the facts from the training part of a dataset."""
        return cls(training.item_counts, vectors, categories_of(training.catalogue))


def categories_of(catalogue: Catalogue) -> Ragged | None:
    """Number the categories of each item; a path ``A > B > C`` counts as A, A > B and A > B > C.

    Returns:
        I rows of distinct int32, or None when the catalogue has no column ``categories`` of words.
    """
    dtype = catalogue.table.schema.get("categories")
    if dtype not in (pl.String, pl.List(pl.String)):
        return None
    named = catalogue.table.select(pl.col("categories").alias("path")).with_row_index("item")
    if dtype == pl.List(pl.String):
        named = named.explode("path")
    levels = pl.col("path").str.split(">").list.eval(pl.element().str.strip_chars())
    parts = pl.concat(
        [
            named.drop_nulls().select("item", levels.list.head(depth).list.join(" > ").alias("name"))
            for depth in range(1, MAX_LEVELS + 1)
        ]
    )
    parts = parts.unique(["item", "name"]).sort("item", "name")
    numbers = parts["name"].rank("dense").to_numpy().astype(np.int32) - 1
    lengths = np.bincount(parts["item"].to_numpy(), minlength=len(catalogue))
    return Ragged(offsets_of(lengths), numbers)
