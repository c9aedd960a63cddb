"""Weighted numbers of events that fade with time, kept so that one more event costs one addition."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from zhiyin.domain import NO_TIMESTAMP, FloatArray, IndexArray, LongArray

_HALVINGS_A_BLOCK = 256
"""Half-lives after which all sums are divided by 2 to their number, long before a float overflows."""
_STEPS_A_HALF_LIFE = 64
"""The moment that sums are read at moves in steps of this part of a half-life, about 1 %."""

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class DecayedSums:
    """Sums over events of weight · 2 ** ((t - origin) / half life), which need no change as time passes.

    They follow from the events alone, bit by bit, in whatever portions these come: sums are added up one
    after the other, and faded by powers of two, which is exact.

    Attributes:
        sums: (I,) float64, times ``2 ** (256 · block)``.
        half_life: Seconds; infinite where nothing fades.
        origin: Moment (UTC seconds) at which an event counts its weight; None before any moment is known.
        newest: Latest moment seen.
        block: How many times all sums were divided.
    """

    sums: Doubles
    half_life: float
    origin: int | None = None
    newest: int | None = None
    block: int = 0

    @property
    def fades(self) -> bool:
        """Whether the age of an event matters."""
        return bool(np.isfinite(self.half_life))

    def plus(self, items: IndexArray, weights: FloatArray, timestamp: LongArray) -> DecayedSums:
        """Return these sums with (T,) events; one without a time counts as new at its place in the order."""
        worth = weights.astype(np.float64)
        if not self.fades:
            return replace(self, sums=_added(self.sums, items, worth))
        started = self._started(timestamp)
        if started.origin is None or started.newest is None:
            return replace(started, sums=_added(self.sums, items, worth))
        newest = np.maximum.accumulate(np.append(started.newest, timestamp))[1:]
        since = np.where(timestamp == NO_TIMESTAMP, newest, timestamp) - started.origin
        blocks = (newest - started.origin) // (_HALVINGS_A_BLOCK * self.half_life)
        sums = started
        for block in np.unique(blocks):
            inside = blocks == block
            sums = sums._in_block(int(block))
            halvings = since[inside] / self.half_life - _HALVINGS_A_BLOCK * block
            added = _added(sums.sums, items[inside], worth[inside] * np.exp2(halvings))
            sums = replace(sums, sums=added, newest=int(newest[inside][-1]))
        return sums

    def extended(self, n: int) -> DecayedSums:
        """Return these sums with ``n`` further items without events."""
        return replace(self, sums=np.append(self.sums, np.zeros(n)))

    def scores(self, moment: int | None = None) -> FloatArray:
        """Return (I,) float32: log(1 + sum as of a moment, the one of the newest event unless told)."""
        now = self.sums
        moment = self.newest if moment is None else moment
        if self.fades and self.origin is not None and moment is not None:
            step = self.half_life / _STEPS_A_HALF_LIFE
            halvings = np.floor((moment - self.origin) / step) / _STEPS_A_HALF_LIFE
            now = now * np.exp2(_HALVINGS_A_BLOCK * self.block - halvings)
        return np.log1p(np.maximum(now, 0.0)).astype(np.float32)

    def _started(self, timestamp: LongArray) -> DecayedSums:
        known = timestamp != NO_TIMESTAMP
        if self.origin is not None or not known.any():
            return self
        first = int(timestamp[known.argmax()])
        return replace(self, origin=first, newest=first)

    def _in_block(self, block: int) -> DecayedSums:
        if block == self.block:
            return self
        halvings = min(_HALVINGS_A_BLOCK * (block - self.block), 2_000)
        return replace(self, sums=self.sums * 0.5**halvings, block=block)


def _added(sums: Doubles, items: IndexArray, worth: Doubles) -> Doubles:
    """Add one after the other, so that portions make no difference."""
    added = sums.copy()
    np.add.at(added, items, worth)
    return added
