"""How much an item was in demand just before a request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt

from zhiyin.contracts import ComponentState, Steps
from zhiyin.data.dataset import Dataset
from zhiyin.domain import NO_TIMESTAMP, FloatArray, IndexArray, LongArray
from zhiyin.domain.arrays import offsets_of
from zhiyin.sources.clocks import not_ahead
from zhiyin.sources.decayed_sums import DecayedSums
from zhiyin.sources.preferences import relative_weights
from zhiyin.sources.waiting_steps import SECONDS_PER_DAY, WaitingSteps, columns_of

_STEP_OF_NOW = 3_600
"""Seconds by which the moment moves at which a request of now is answered, so that its sums are kept."""


_LOOKED_UP_AT_ONCE = 65_536
"""Pairs of an item and a moment: the numbers on the way take 100 bytes each, and stay near the processor."""
_CELLS_OF_PERIODS, _MOST_PERIODS, _MOST_STEPS = 1_000_000, 64, 3
"""Places that are known beforehand, 4 MB, at most so many an item; and single steps on from there."""


@dataclass(frozen=True, eq=False)
class _Past:
    """What happened to each item until the end of training.

    Attributes:
        first: UTC seconds of the oldest event.
        span: Seconds from the oldest event to one after the newest.
        keys: (T,) int64 rising, ``item × span + seconds since first`` of every event.
        sums: (T, H) float32, the faded sum of an item just after each event.
    """

    first: int
    span: int
    keys: LongArray
    sums: FloatArray

    @property
    def newest(self) -> int:
        """UTC seconds of the newest event."""
        return self.first + self.span - 1

    @classmethod
    def of(
        cls, items: IndexArray, timestamp: LongArray, weights: FloatArray, half_lives: FloatArray
    ) -> _Past:
        """Order T events and add them up, item by item."""
        first = int(timestamp.min())
        span = int(timestamp.max()) - first + 1
        keys = items.astype(np.int64) * span + (timestamp - first)
        order = np.argsort(keys, kind="stable")
        keys, moment = keys[order], (timestamp[order] - first) / SECONDS_PER_DAY
        sums = weights[order, None].repeat(len(half_lives), axis=1).astype(np.float64)
        counts = np.bincount(items)
        starts = offsets_of(counts)[:-1]
        by_count = np.argsort(-counts, kind="stable")
        # The k-th events of all items that have so many, one k after the other.
        n_with_more = np.cumsum(np.bincount(counts)[::-1])[::-1]
        for k in range(1, len(n_with_more) - 1):
            at = starts[by_count[: n_with_more[k + 1]]] + k
            age = (moment[at] - moment[at - 1])[:, None] / half_lives
            sums[at] += sums[at - 1] * np.exp2(-age)
        return cls(first, span, keys, sums.astype(np.float32))

    def before(self, item_index: IndexArray, moments: LongArray, half_lives: FloatArray) -> FloatArray:
        """Return (B, N, H) sums of (B, N) items as of (B,) moments, events of that very second left out.

        What has no event by then has 0, and so has padding.
        """
        offset = np.clip(moments - self.first, 0, self.span)
        start = item_index.astype(np.int64) * self.span
        asked = start + offset[:, None]
        place = self._n_before(item_index, offset, asked) - 1
        np.maximum(place, 0, out=place)
        last = self.keys.take(place)
        is_of_item = (last >= start) & (last < asked)
        age = np.maximum(asked - last, 1).astype(np.float32)
        with np.errstate(divide="ignore"):
            age /= is_of_item  # nothing happened: infinitely long ago
        sums: FloatArray = np.multiply.outer(age, np.float32(-1 / SECONDS_PER_DAY) / half_lives)
        np.exp2(sums, out=sums)
        sums *= self.sums.take(place, axis=0)
        return sums

    def _n_before(self, item_index: IndexArray, offset: LongArray, asked: LongArray) -> LongArray:
        """Return (B, N) int64, how many keys are less than those asked for; a search alone takes longer.

        A table tells how many there are where the period of a moment begins; a few steps lead on from there
        in most cases, and only the others are searched for.
        """
        edges, begun = self._periods
        period = np.searchsorted(edges, offset, side="right") - 1
        cell = item_index.astype(np.int64) * len(edges) + period[:, None]
        place = begun.take(cell, mode="clip").astype(np.int64).ravel()
        wanted = asked.ravel()
        for _ in range(_MOST_STEPS):
            place += self.keys.take(place, mode="clip") < wanted
        rest = np.flatnonzero(self.keys.take(place, mode="clip") < wanted)
        # The search for rising keys takes less than half the time, which leaves enough for ordering them.
        rest = rest[np.argsort(wanted[rest])]
        place[rest] = np.searchsorted(self.keys, wanted[rest])
        return place.reshape(asked.shape)

    @cached_property
    def _periods(self) -> tuple[LongArray, IndexArray]:
        """Where periods with equally many events begin, and how many keys are less, item by item."""
        n_items = int(self.keys[-1] // self.span) + 1
        n_periods = min(max(1, _CELLS_OF_PERIODS // n_items), _MOST_PERIODS)
        shares = np.arange(n_periods) / n_periods
        edges = np.quantile(self.keys % self.span, shares, method="inverted_cdf").astype(np.int64)
        edges[0] = 0
        asked = np.arange(n_items)[:, None] * self.span + edges
        return edges, np.searchsorted(self.keys, asked.ravel()).astype(np.int32)


@dataclass(frozen=True, eq=False)
class _Now:
    """Sums as they stand after all events, those absorbed included.

    Attributes:
        sums: One for each horizon, over I items.
    """

    sums: tuple[DecayedSums, ...]

    @property
    def newest(self) -> int:
        """UTC seconds of the newest event."""
        return self.sums[0].newest or 0

    def __len__(self) -> int:
        """Return I."""
        return len(self.sums[0].sums)

    def plus(self, items: IndexArray, weights: FloatArray, timestamp: LongArray) -> _Now:
        """Return the sums with (T,) events, in their order."""
        n_more = int(items.max(initial=-1)) + 1 - len(self)
        grown = (sums.extended(n_more) if n_more > 0 else sums for sums in self.sums)
        return _Now(tuple(sums.plus(items, weights, timestamp) for sums in grown))

    def demand(self, moment: int) -> FloatArray:
        """Return (I + 1, H) float32, ``log(1 + sum)`` as of a moment; the last row is of an unknown item."""
        table = np.stack([sums.scores(max(moment, self.newest)) for sums in self.sums], axis=-1)
        return np.vstack([table, np.zeros((1, len(self.sums)), dtype=np.float32)])


class Trends:
    """What the events of everybody say about each item at the moment of a request, on several horizons.

    With weights w of the event kinds relative to the strongest, from 0 to 1, and half-lives h, for an item
    and a request at time t::

        demand[h] = log(1 + Σ_{events e of the item before t} w_e · 2^(-(t - t_e) / h))

    Only what happened before the request counts, so an evaluation that asks about the past sees no more than
    a service would have seen. An item that nobody had touched by then has 0 throughout: weights on several
    horizons can tell what rises, what is long known and what is new.
    """

    def __init__(self, past: _Past, now: _Now, event_weights: FloatArray) -> None:
        self._past, self._now, self._event_weights = past, now, event_weights
        self._waiting = WaitingSteps()
        self._table: tuple[_Now, int, FloatArray] | None = None

    @classmethod
    def of(cls, dataset: Dataset, half_lives: Sequence[float], *, clock: float | None = None) -> Self | None:
        """Add up the events of a dataset; None where there is nothing to tell them by.

        Args:
            dataset: Events without a moment are left out; one that lies ahead of the clock counts as of now.
            half_lives: Days; none means that trends do not matter.
            clock: UTC seconds; that of the machine when not given.
        """
        histories = dataset.histories
        known = np.flatnonzero(histories.timestamp != NO_TIMESTAMP)
        if not len(half_lives) or not len(known):
            return None
        known = known[np.argsort(histories.timestamp[known], kind="stable")]
        event_weights = relative_weights(dataset)
        items, timestamp = histories.item_index[known], not_ahead(histories.timestamp[known], clock)
        weights = event_weights[histories.event_index[known]]
        zeros = np.zeros(dataset.n_items)
        empty = _Now(tuple(DecayedSums(zeros, days * SECONDS_PER_DAY) for days in half_lives))
        now = empty.plus(items, weights, timestamp)
        past = _Past.of(items, timestamp, weights, np.asarray(half_lives, dtype=np.float32))
        return cls(past, now, event_weights)

    @property
    def half_lives(self) -> FloatArray:
        """(H,) float32, days."""
        return np.array([sums.half_life / SECONDS_PER_DAY for sums in self._now.sums], dtype=np.float32)

    def __len__(self) -> int:
        """Return the number of horizons."""
        return len(self._now.sums)

    def at(self, item_index: IndexArray, timestamp: LongArray) -> FloatArray:
        """Return the demand of candidates.

        Args:
            item_index: (B, N) int32, -1 pads; items that nobody has touched may be unknown here.
            timestamp: (B,) int64, when the requests are made; `NO_TIMESTAMP` means now.

        Returns:
            (B, N, H) float32 ≥ 0.
        """
        now = self._now  # read once: another thread may absorb
        moments = np.where(timestamp == NO_TIMESTAMP, now.newest, timestamp)
        # Clocks differ: what was absorbed may seem to lie ahead of a request that is made now.
        is_now = moments >= self._past.newest
        if is_now.all():
            return self._as_of_now(now, item_index, moments)
        if not is_now.any():
            return self._as_of_then(item_index, moments)
        demand = np.empty((*item_index.shape, len(self)), dtype=np.float32)
        demand[is_now] = self._as_of_now(now, item_index[is_now], moments[is_now])
        demand[~is_now] = self._as_of_then(item_index[~is_now], moments[~is_now])
        return demand

    def absorb(self, steps: Steps) -> None:
        """Count events that just happened; sums of now are renewed at every thousandth of I of them."""
        due, self._waiting = self._waiting.plus(steps, n_items=len(self._now))
        if due:
            self._now = self._now.plus(*columns_of(due, self._event_weights))

    def state(self) -> ComponentState:
        """Return all sums."""
        if self._waiting.portions:
            self._now = self._now.plus(*columns_of(self._waiting.portions, self._event_weights))
            self._waiting = self._waiting.emptied()
        past, now = self._past, self._now
        arrays: dict[str, npt.NDArray[np.generic]] = {
            "event_weights": self._event_weights,
            "keys": past.keys,
            "sums": past.sums,
            "now": np.stack([sums.sums for sums in now.sums]),
        }
        moments = [(sums.half_life, sums.origin, sums.newest, sums.block) for sums in now.sums]
        facts = {
            "first": past.first,
            "span": past.span,
            "moments": moments,
            "n_absorbed": self._waiting.n_absorbed,
        }
        return ComponentState(arrays, facts)

    @classmethod
    def from_state(cls, state: ComponentState) -> Self:
        """Read what `state` returned."""
        arrays, facts = state.arrays, state.facts
        keys = np.asarray(arrays["keys"], dtype=np.int64)
        past = _Past(int(facts["first"]), int(facts["span"]), keys, np.asarray(arrays["sums"], np.float32))
        sums = np.asarray(arrays["now"], dtype=np.float64)
        rows = zip(sums, facts["moments"], strict=True)
        now = _Now(tuple(DecayedSums(row, *moments) for row, moments in rows))
        trends = cls(past, now, np.asarray(arrays["event_weights"], dtype=np.float32))
        trends._waiting = WaitingSteps(int(facts["n_absorbed"]))
        return trends

    def _as_of_then(self, item_index: IndexArray, moments: LongArray) -> FloatArray:
        """(B, N, H) demand at (B,) moments of the training data."""
        demand = np.empty((*item_index.shape, len(self)), dtype=np.float32)
        at_once = max(1, _LOOKED_UP_AT_ONCE // max(item_index.shape[1], 1))
        for start in range(0, len(item_index), at_once):
            part = item_index[start : start + at_once]
            sums = self._past.before(part, moments[start : start + at_once], self.half_lives)
            np.log1p(sums, out=demand[start : start + at_once])
        return demand

    def _as_of_now(self, now: _Now, item_index: IndexArray, moments: LongArray) -> FloatArray:
        """(B, N, H) demand at (B,) moments after training, those before the newest event taken for its."""
        rounded = moments // _STEP_OF_NOW
        if not len(rounded):
            return np.empty((*item_index.shape, len(self)), dtype=np.float32)
        hour = int(rounded[0])
        if (rounded == hour).all():  # what is asked in one hour is looked up in one table
            return self._looked_up(now, hour * _STEP_OF_NOW, item_index)
        demand = self._looked_up(now, now.newest, item_index)
        age = np.maximum(moments - now.newest, 0)[:, None] / SECONDS_PER_DAY / self.half_lives
        faded: FloatArray = np.log1p(np.expm1(demand) * np.exp2(-age)[:, None, :]).astype(np.float32)
        return faded

    def _looked_up(self, now: _Now, moment: int, item_index: IndexArray) -> FloatArray:
        kept = self._table
        if kept is None or kept[0] is not now or kept[1] != moment:
            kept = self._table = (now, moment, now.demand(moment))
        table = kept[2]
        # Padding, read without its sign, lies beyond all items, and unknown items do anyway: the last row.
        return table.take(np.minimum(item_index.view(np.uint32), len(table) - 1), axis=0)
