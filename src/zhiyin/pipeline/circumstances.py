"""What the worth of an opinion may depend on, beside who gave it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zhiyin.domain import BoolArray, Candidates, FloatArray, LongArray, Queries
from zhiyin.policy.item_counts import N_EVENTS

CORNERS = 4
"""Kinds of circumstances that weights are known for: items known or new, after long or short histories."""


@dataclass(frozen=True, eq=False)
class Circumstances:
    """Of B queries with N candidates each.

    Attributes:
        newness: (B, N) float32, ``1 / √(1 + n)`` of an item with n events: 1 for one that nobody has touched;
            0 for padding.
        shortness: (B,) float32, the same of the number of events in a history.
        demand: (B, N, H) float32 on H horizons, see `zhiyin.pipeline.trends`; None where there are none.
    """

    newness: FloatArray
    shortness: FloatArray
    demand: FloatArray | None = None

    @classmethod
    def of(cls, queries: Queries, candidates: Candidates, demand: FloatArray | None = None) -> Circumstances:
        """Tell the circumstances of (B,) queries and (B, N) candidates with `N_EVENTS`."""
        newness = np.where(candidates.is_item, _fading(candidates.column(N_EVENTS)), np.float32(0))
        return cls(newness, _fading(queries.histories.lengths), demand)

    def of_queries(self, rows: BoolArray | slice) -> Circumstances:
        """Return those of some of the queries."""
        demand = None if self.demand is None else self.demand[rows]
        return Circumstances(self.newness[rows], self.shortness[rows], demand)

    def corners(self) -> FloatArray:
        """Return (B, N, 4) float32, how near each candidate is to each corner; they sum to 1.

        An item known well after a long history, the same after none, an item untouched after a long
        history, and after none.
        """
        is_short = self.shortness[:, None]
        near = [
            old * length for old in (1 - self.newness, self.newness) for length in (1 - is_short, is_short)
        ]
        return np.stack(near, axis=-1)


def _fading(n_events: FloatArray | LongArray) -> FloatArray:
    fading: FloatArray = np.reciprocal(np.sqrt(1.0 + n_events)).astype(np.float32)
    return fading
