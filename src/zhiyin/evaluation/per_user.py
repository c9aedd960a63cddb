"""What was measured of every user, in a file, so that two runs can be compared later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from zhiyin.domain import Examples, FloatArray, LongArray, Vocabulary
from zhiyin.domain.errors import RequestError
from zhiyin.evaluation.evaluation import Evaluation

USER, HISTORY = "user_id", "history_length"


@dataclass(frozen=True, eq=False)
class PerUser:
    """The values of one run, a row a query.

    Attributes:
        users: B ids; None for a user that training holds nothing of.
        history_length: (B,) int64, events of each query.
        values: Metric such as ``ndcg_at_10`` → (B,) float32, NaN where it says nothing about a query.
    """

    users: tuple[str | None, ...]
    history_length: LongArray
    values: Mapping[str, FloatArray]

    @classmethod
    def of(cls, evaluation: Evaluation, examples: Examples, users: Vocabulary) -> PerUser:
        """Take the values of an evaluation.

        Args:
            evaluation: What was measured.
            examples: What was asked, in the same order.
            users: Ids of the user indices of the examples.
        """
        known = users.ids.to_list()
        asked = examples.queries.user_index.tolist()
        ids = tuple(known[user] if user >= 0 else None for user in asked)
        return cls(ids, evaluation.history_length, evaluation.values)

    def __len__(self) -> int:
        return len(self.users)

    def write(self, path: Path) -> None:
        """Write a parquet file: ``user_id``, ``history_length``, and a column a metric."""
        columns: dict[str, pl.Series] = {
            USER: pl.Series(self.users, dtype=pl.String),
            HISTORY: pl.Series(self.history_length),
        }
        columns |= {name: pl.Series(values.astype(np.float32)) for name, values in self.values.items()}
        pl.DataFrame(columns).write_parquet(path)

    @classmethod
    def read(cls, path: Path) -> PerUser:
        """Read what `write` wrote.

        Raises:
            RequestError: when there is no such file, or it is another kind of file.
        """
        try:
            table = pl.read_parquet(path)
            users, lengths = table[USER].to_list(), table[HISTORY].to_numpy().astype(np.int64)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise RequestError(
                f"The values of single users {path} cannot be read: {error}",
                remedy="Write them again:  zhiyin evaluate … --json FILE --per-user FILE",
            ) from None
        metrics = [name for name in table.columns if name not in (USER, HISTORY)]
        return cls(tuple(users), lengths, {name: _floats(table[name]) for name in metrics})

    def where(self, kept: npt.NDArray[np.bool_]) -> PerUser:
        """Return the rows marked in (B,) bool."""
        users = tuple(user for user, is_kept in zip(self.users, kept, strict=True) if is_kept)
        values = {name: values[kept] for name, values in self.values.items()}
        return PerUser(users, self.history_length[kept], values)


def _floats(column: pl.Series) -> FloatArray:
    floats: FloatArray = column.to_numpy().astype(np.float32)
    return floats
