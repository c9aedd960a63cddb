"""The immutable, indexed whole: catalogue, users, histories, facts, impressions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl

from zhiyin.data.kinds import NO_KINDS
from zhiyin.data.shown import first_hidden, shown_before
from zhiyin.domain import Catalogue, Histories, LongArray, Vocabulary


@dataclass(frozen=True, eq=False)
class Dataset:
    """Everything a pipeline may learn from.

    Attributes:
        name: What reports call it.
        catalogue: The items, those that nobody has touched included.
        users: The user ids; row ``u`` of ``histories`` is user index ``u``.
        histories: What each user did, oldest first; ties keep file order.
        event_kinds: Names of the event kinds that ``histories.event_index`` counts through.
        event_weights: (number of kinds,) float32, what one event of a kind is worth; 1 unless configured.
        positive_value: Values at or above it count as liked; None when the data has no such threshold.
        context: Interaction columns beyond the known ones, aligned with the flat arrays of ``histories``.
        user_table: One row a user (column ``user_id`` first), or None.
        facts: Columns ``head``, ``relation``, ``tail``, or None.
        impressions: Shown items, as read, or None.
        first_hidden: (U,) int64, the moment of each user's first event that was taken out, the largest number
            where none was: from there on one does not know what a user did. None where nothing was taken out.
    """

    name: str
    catalogue: Catalogue
    users: Vocabulary
    histories: Histories
    event_kinds: tuple[str, ...] = NO_KINDS
    event_weights: npt.NDArray[np.float32] = field(default_factory=lambda: np.ones(1, dtype=np.float32))
    positive_value: float | None = None
    context: Mapping[str, pl.Series] = field(default_factory=dict)
    user_table: pl.DataFrame | None = None
    facts: pl.DataFrame | None = None
    impressions: pl.DataFrame | None = None
    first_hidden: LongArray | None = None

    @property
    def n_users(self) -> int:
        """Users, those without any event included."""
        return len(self.users)

    @property
    def n_items(self) -> int:
        """Items of the catalogue."""
        return len(self.catalogue)

    @property
    def n_interactions(self) -> int:
        """Events of all users together."""
        return self.histories.n_events

    @property
    def has_timestamps(self) -> bool:
        """Whether any event says when it happened."""
        return bool(self.n_interactions) and bool((self.histories.timestamp != np.iinfo(np.int64).min).any())

    @cached_property
    def item_counts(self) -> LongArray:
        """(I,) int64: how many events touch each item."""
        return np.bincount(self.histories.item_index, minlength=self.n_items).astype(np.int64)

    def with_events(self, keep: npt.NDArray[np.bool_]) -> Dataset:
        """Return the dataset with only the events marked in (T,) bool, and the impressions that tell nothing
        of the others; users and items keep their index.
        """
        context = {name: column.filter(pl.Series(keep)) for name, column in self.context.items()}
        hidden, shown = first_hidden(self.histories, keep), self.impressions
        if shown is not None:
            shown = shown_before(shown, self.users, self.catalogue.items, self.histories, keep, hidden)
        if self.first_hidden is not None:
            hidden = np.minimum(hidden, self.first_hidden)
        histories = self.histories.where(keep)
        return replace(self, histories=histories, context=context, impressions=shown, first_hidden=hidden)
