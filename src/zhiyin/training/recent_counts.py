"""Counts of pairs since the last training: added to all the time, exact, and cheap to read row by row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zhiyin.domain import LongArray
from zhiyin.domain.arrays import flat_positions

UNITS = 1 << 20
"""Weights are counted in whole millionths, so that sums do not depend on the order of adding."""
_SHIFT = 32
_GROWTH = 4
"""A run is merged with the one before it unless that one is this many times longer."""

Doubles = npt.NDArray[np.float64]
_Run = tuple[LongArray, LongArray]


@dataclass(frozen=True)
class RecentCounts:
    """Sparse sums over pairs (head, tail), a value: adding returns another one, so readers see no half.

    Sorted runs of which each is at least four times as long as the next: adding one pair costs
    O(log n) amortised, reading the tails of a head O(log n + tails). A pair may stand in several runs.

    Attributes:
        runs: Per run (n,) int64 rising keys ``head · 2**32 + tail`` and (n,) int64 sums in `UNITS`.
    """

    runs: tuple[_Run, ...] = ()

    def __len__(self) -> int:
        return sum(len(keys) for keys, _ in self.runs)

    def plus(
        self,
        heads: npt.NDArray[np.integer],
        tails: npt.NDArray[np.integer],
        weights: npt.NDArray[np.floating],
    ) -> RecentCounts:
        """Return these counts with (n,) weights added to (n,) pairs; pairs may repeat."""
        keys = (heads.astype(np.int64) << _SHIFT) | tails.astype(np.int64)
        run = _summed(keys, np.rint(weights.astype(np.float64) * UNITS).astype(np.int64))
        if not len(run[0]):
            return self
        runs = [*self.runs, run]
        while len(runs) > 1 and len(runs[-2][0]) < _GROWTH * len(runs[-1][0]):
            last, before = runs.pop(), runs.pop()
            merged = _summed(np.concatenate([before[0], last[0]]), np.concatenate([before[1], last[1]]))
            if len(merged[0]):
                runs.append(merged)
        return RecentCounts(tuple(runs))

    def of_heads(self, heads: npt.NDArray[np.integer]) -> tuple[LongArray, LongArray, Doubles]:
        """List the pairs of (M,) heads.

        Returns:
            For each entry found: its place in ``heads``, its tail, its sum; the parts of one pair may come
            apart.
        """
        low = heads.astype(np.int64) << _SHIFT
        places, tails, sums = [], [], []
        for keys, units in self.runs:
            start = np.searchsorted(keys, low)
            lengths = np.searchsorted(keys, low + (1 << _SHIFT)) - start
            at = flat_positions(start, lengths)
            places.append(np.repeat(np.arange(len(heads), dtype=np.int64), lengths))
            tails.append(keys[at] & ((1 << _SHIFT) - 1))
            sums.append(units[at])
        if not places:
            nothing = np.empty(0, dtype=np.int64)
            return nothing, nothing, np.empty(0)
        return np.concatenate(places), np.concatenate(tails), np.concatenate(sums) / UNITS

    def at(self, heads: npt.NDArray[np.integer], tails: npt.NDArray[np.integer]) -> Doubles:
        """Return the (n,) sums of (n,) pairs, 0 where there is none."""
        asked = (heads.astype(np.int64) << _SHIFT) | tails.astype(np.int64)
        total = np.zeros(len(asked), dtype=np.int64)
        for keys, units in self.runs:
            place = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
            total += np.where(keys[place] == asked, units[place], 0)
        return np.asarray(total / UNITS)

    def merged(self) -> _Run:
        """Return all of it as one run."""
        if not self.runs:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        return _summed(*(np.concatenate(parts) for parts in zip(*self.runs, strict=True)))

    def pairs(self) -> tuple[LongArray, LongArray, Doubles]:
        """Return heads, tails and sums of all pairs, each pair once."""
        keys, units = self.merged()
        return keys >> _SHIFT, keys & ((1 << _SHIFT) - 1), units / UNITS

    @classmethod
    def of_run(cls, keys: npt.NDArray[np.generic], units: npt.NDArray[np.generic]) -> RecentCounts:
        """Take over what `merged` returned."""
        run = np.asarray(keys, dtype=np.int64), np.asarray(units, dtype=np.int64)
        return cls((run,) if len(run[0]) else ())


def _summed(keys: LongArray, units: LongArray) -> _Run:
    """Sort by key and add up; sums of nothing are left out."""
    if not len(keys):
        return keys, units
    order = np.argsort(keys, kind="stable")
    keys, units = keys[order], units[order]
    is_first = np.empty(len(keys), dtype=np.bool_)
    is_first[0] = True
    np.not_equal(keys[1:], keys[:-1], out=is_first[1:])
    if not is_first.all():
        first = np.flatnonzero(is_first)
        keys, units = keys[first], np.add.reduceat(units, first)
    if (units == 0).any():
        keys, units = keys[units != 0], units[units != 0]
    return keys, units
