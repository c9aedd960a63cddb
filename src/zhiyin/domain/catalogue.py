"""What can be recommended."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from zhiyin.domain.errors import ShapeMismatch
from zhiyin.domain.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class Catalogue:
    """The items, row ``i`` of the table being item index ``i``.

    Attributes:
        items: The item ids.
        table: One row an item, column ``item_id`` first; then the known columns that are there
            (``title``, ``description``, ``categories``, ``brand``, ``price``, ``domain``, ``image``,
            ``audio``) and attributes under their own names. Null where an item lacks one.
    """

    items: Vocabulary
    table: pl.DataFrame

    def __post_init__(self) -> None:
        if len(self.items) != self.table.height:
            raise ShapeMismatch(f"{len(self.items)} item ids, but {self.table.height} rows of items.")

    def __len__(self) -> int:
        return len(self.items)

    def rows(self, item_index: np.ndarray[tuple[int, ...], np.dtype[np.integer]]) -> Catalogue:
        """Return the catalogue of the given items only, in the given order."""
        table = self.table[np.asarray(item_index, dtype=np.int64)]
        return Catalogue(Vocabulary(table["item_id"]), table)

    def extended(self, new: Catalogue) -> Catalogue:
        """Return this catalogue followed by new items; columns that one side lacks are null there."""
        table = pl.concat([self.table, new.table], how="diagonal_relaxed")
        return Catalogue(self.items.extended(new.items.ids), table)

    def changed(
        self, item_index: np.ndarray[tuple[int, ...], np.dtype[np.integer]], items: Catalogue
    ) -> Catalogue:
        """Return this catalogue with the rows of some items replaced; what is not given becomes null."""
        place = np.arange(len(self), dtype=np.int64)
        place[item_index] = len(self) + np.arange(len(items))
        both = pl.concat([self.table, items.table], how="diagonal_relaxed")
        return Catalogue(self.items, both[place])

    @classmethod
    def from_table(cls, table: pl.DataFrame) -> Catalogue:
        """Take the ids from the column ``item_id``."""
        return cls(Vocabulary(table["item_id"]), table)
