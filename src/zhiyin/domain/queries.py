"""Requests, and requests whose right answer is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from zhiyin.domain.arrays import PAD, IndexArray, LongArray, Ragged
from zhiyin.domain.errors import ShapeMismatch
from zhiyin.domain.histories import NO_TIMESTAMP, Histories


@dataclass(frozen=True, eq=False)
class Queries:
    """B requests at once; online B is 1.

    Attributes:
        user_index: (B,) int32, -1 for somebody the training data does not hold.
        histories: B histories, up to the moment of the request.
        timestamp: (B,) int64, when the request is made, UTC seconds or `NO_TIMESTAMP`.
        context: named columns of length B (hour, device, …).
    """

    user_index: IndexArray
    histories: Histories
    timestamp: LongArray
    context: Mapping[str, npt.NDArray[np.generic]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not len(self.user_index) == len(self.histories) == len(self.timestamp):
            raise ShapeMismatch("Users, histories and timestamps of queries must be equally many.")

    def __len__(self) -> int:
        return len(self.user_index)

    def take(self, rows: npt.NDArray[np.integer]) -> Queries:
        """Return the given queries, in the given order."""
        context = {name: column[rows] for name, column in self.context.items()}
        return Queries(self.user_index[rows], self.histories.take(rows), self.timestamp[rows], context)

    def chunks(self, size: int) -> Iterator[Queries]:
        """Yield the queries in runs of at most ``size``, so that memory stays bounded."""
        for start in range(0, len(self), size):
            yield self.take(np.arange(start, min(start + size, len(self))))

    @classmethod
    def of_histories(cls, histories: Histories) -> Queries:
        """Queries of unknown users at an unknown time."""
        n = len(histories)
        return cls(np.full(n, PAD, dtype=np.int32), histories, np.full(n, NO_TIMESTAMP, dtype=np.int64))


@dataclass(frozen=True, eq=False)
class Examples:
    """Queries with what happened next.

    Attributes:
        queries: B queries.
        targets: B rows of int32 item indices; one item a row under leave-last-out.
    """

    queries: Queries
    targets: Ragged

    def __post_init__(self) -> None:
        if len(self.queries) != len(self.targets):
            raise ShapeMismatch(f"{len(self.queries)} queries, but {len(self.targets)} rows of targets.")

    def __len__(self) -> int:
        return len(self.queries)

    def take(self, rows: npt.NDArray[np.integer]) -> Examples:
        """Return the given examples, in the given order."""
        return Examples(self.queries.take(rows), self.targets.take(rows))

    def chunks(self, size: int) -> Iterator[Examples]:
        """Yield the examples in runs of at most ``size``."""
        for start in range(0, len(self), size):
            yield self.take(np.arange(start, min(start + size, len(self))))
