"""The border between the shop's string ids and the int32 indices used inside."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np
import polars as pl

from zhiyin.domain.arrays import PAD, IndexArray


class Vocabulary:
    """An immutable list of distinct ids; an id's place in it is its index.

    Args:
        ids: Distinct strings, index 0 first.
    """

    def __init__(self, ids: pl.Series | Sequence[str]) -> None:
        series = ids if isinstance(ids, pl.Series) else pl.Series(list(ids), dtype=pl.String)
        self.ids: pl.Series = series.cast(pl.String).alias("id")

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, identifier: str) -> bool:
        return identifier in self._index

    @cached_property
    def _index(self) -> dict[str, int]:
        return {identifier: index for index, identifier in enumerate(self.ids.to_list())}

    def index(self, identifier: str) -> int:
        """Return the index of one id, -1 when it is unknown."""
        return self._index.get(identifier, PAD)

    def indices(self, identifiers: pl.Series | Sequence[str]) -> IndexArray:
        """Return the int32 indices of many ids, -1 where one is unknown."""
        series = (
            identifiers
            if isinstance(identifiers, pl.Series)
            else pl.Series(list(identifiers), dtype=pl.String)
        )
        known = pl.DataFrame({"id": self.ids, "index": np.arange(len(self), dtype=np.int32)})
        asked = pl.DataFrame({"id": series.cast(pl.String)})
        joined = asked.join(known, on="id", how="left", maintain_order="left")
        return joined["index"].fill_null(PAD).to_numpy().astype(np.int32, copy=False)

    def id(self, index: int) -> str:
        """Return the id at one index."""
        identifier: str = self.ids[int(index)]
        return identifier

    def extended(self, identifiers: Iterable[str]) -> Vocabulary:
        """Return a vocabulary with the ids that are new appended; existing indices stay as they are."""
        new = [identifier for identifier in dict.fromkeys(identifiers) if identifier not in self]
        return Vocabulary(pl.concat([self.ids, pl.Series("id", new, dtype=pl.String)]))
