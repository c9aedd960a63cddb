"""What is said about rows and events in numbers that are not learned."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from zhiyin.contracts import ComponentState
from zhiyin.data.labelled import LabelledExamples
from zhiyin.domain import NO_TIMESTAMP, FloatArray, Histories, LongArray
from zhiyin.domain.arrays import flat_positions
from zhiyin.ranking.runs import Runs

WINDOWS = (3, 10, 30)
"""Events before the row, and after it where they are known, whose values are compared with all others."""
_WINDOW_OF_KINDS = 10
_WEIGHT_OF_ITEM_MEAN = 10.0
"""Events at the general mean that each item is given before its own count."""
_WEIGHT_OF_USER_MEAN = 5.0
_WEIGHT_OF_WINDOW = 2.0
_FURTHEST = 10.0
"""Deviations from the mean to which values are cut: one wrong price would speak for all who met the item."""
_SECONDS_A_DAY = 86_400
_N_MOMENTS = 3
"""Signals that say something about the moment; the last ones."""


@dataclass(frozen=True, eq=False)
class Signals:
    """Reads values, kinds and moments of events; fitted to what the rows to learn from knew.

    Attributes:
        mean: Of all values; 0 where there are none.
        deviation: Of all values; 1 where there are none.
        item_mean: (I,) float32, how far the values of an item lie above the mean, shrunk.
        log_count: (I,) float32, logarithm of one plus the events of an item.
        kind_share: (K,) float32, share of each kind of event.
        row_mean: (F,) float32 of the signals of rows.
        row_deviation: (F,) float32.
    """

    mean: float
    deviation: float
    item_mean: FloatArray
    log_count: FloatArray
    kind_share: FloatArray
    row_mean: FloatArray
    row_deviation: FloatArray

    @classmethod
    def fit(cls, examples: LabelledExamples, runs: Runs, n_items: int) -> Signals:
        """Learn means from the events that some row to learn from knew, and from no other."""
        events = _known(examples)
        value = events.value[~np.isnan(events.value)].astype(np.float64)
        mean = float(value.mean()) if len(value) else 0.0
        deviation = (float(value.std()) if len(value) else 0.0) or 1.0
        n_kinds = int(examples.events.event_index.max(initial=0)) + 1
        kinds = np.bincount(events.event_index, minlength=n_kinds) + 1.0
        raw = cls(
            mean,
            deviation,
            *_counted(events, mean, n_items),
            (kinds / kinds.sum()).astype(np.float32),
            np.zeros(1, dtype=np.float32),
            np.ones(1, dtype=np.float32),
        )
        signals = raw.of_rows(examples, runs)
        spread = signals.std(axis=0)
        row_deviation = np.where(spread > 1e-6, spread, 1.0).astype(np.float32)
        return replace(raw, row_mean=signals.mean(axis=0), row_deviation=row_deviation)

    @property
    def n_kinds(self) -> int:
        """K, the kinds of events that are told apart; others count as the first."""
        return len(self.kind_share)

    def kinds_of(self, events: Histories) -> npt.NDArray[np.int64]:
        """Return the (T,) int64 kinds of events."""
        kinds = events.event_index.astype(np.int64)
        return np.where(kinds < self.n_kinds, kinds, 0)

    def values_of(self, events: Histories) -> FloatArray:
        """Return (T,) float32: how far a value lies above what its item usually gets; 0 for none."""
        value = _cut(events.value, self.mean, self.deviation)
        above = (value - self.mean - _looked_up(self.item_mean, events.item_index)) / self.deviation
        values: FloatArray = np.nan_to_num(above).astype(np.float32)
        return values

    def of_rows(self, examples: LabelledExamples, runs: Runs) -> FloatArray:
        """Return (N, F) float32 about the user at the moment of each row, of mean 0 and deviation 1."""
        events = examples.events
        values = self.values_of(events).astype(np.float64)
        kinds = np.eye(self.n_kinds)[self.kinds_of(events)]
        lengths = runs.lengths
        level = runs.sums(values) / (lengths + _WEIGHT_OF_USER_MEAN)
        columns = [np.log1p(lengths), level, np.sqrt(runs.sums(values**2) / (lengths + 1.0))]
        for width in WINDOWS:
            near = runs.around(width)
            n_near = near.lengths
            columns.append(near.sums(values) / (n_near + _WEIGHT_OF_WINDOW) - level * (n_near > 0))
        near = runs.around(_WINDOW_OF_KINDS)
        for kind in range(self.n_kinds if self.n_kinds > 1 else 0):  # kinds are few
            expected = self.kind_share[kind] * _WEIGHT_OF_USER_MEAN
            columns.append((runs.sums(kinds[:, kind]) + expected) / (lengths + _WEIGHT_OF_USER_MEAN))
            columns.append((near.sums(kinds[:, kind]) + expected) / (near.lengths + _WEIGHT_OF_USER_MEAN))
        columns += [
            (runs.place - runs.start) / np.maximum(runs.stop - runs.start, 1),
            np.log1p(runs.n_same(events.item_index, examples.item_index)),
            _looked_up(self.log_count, examples.item_index),
            *_moments(examples, runs),
        ]
        raw = np.stack(columns, axis=1)
        standard: FloatArray = ((raw - self.row_mean) / self.row_deviation).astype(np.float32)
        # What is not known is as usual, not as at midnight a second after the last event.
        standard[examples.timestamp == NO_TIMESTAMP, -_N_MOMENTS:] = 0.0
        return standard

    def recounted(self, examples: LabelledExamples) -> Signals:
        """Return the same with the items counted anew, from what these rows knew.

        What numbers are measured by stays, so that a network which reads them still understands them.
        """
        events = _known(examples)
        events = replace(events, value=_cut(events.value, self.mean, self.deviation))
        item_mean, log_count = _counted(events, self.mean, len(self.item_mean))
        return replace(self, item_mean=item_mean, log_count=log_count)

    def with_items(self, n_new: int) -> Signals:
        """Return the same with items about which nothing is known yet."""
        more = np.zeros(n_new, dtype=np.float32)
        item_mean = np.concatenate([self.item_mean, more])
        return replace(self, item_mean=item_mean, log_count=np.concatenate([self.log_count, more]))

    def state(self) -> ComponentState:
        """Return everything as arrays and facts."""
        names = ("item_mean", "log_count", "kind_share", "row_mean", "row_deviation")
        arrays = {name: getattr(self, name) for name in names}
        return ComponentState(arrays, {"mean": self.mean, "deviation": self.deviation})

    @classmethod
    def restore(cls, state: ComponentState) -> Signals:
        """Take over a saved state."""
        arrays = {name: array.astype(np.float32) for name, array in state.arrays.items()}
        return cls(float(state.facts["mean"]), float(state.facts["deviation"]), **arrays)


def _known(examples: LabelledExamples) -> Histories:
    """Return the events that at least one of the rows knew, each once."""
    events = examples.events
    n_known = np.zeros(len(events), dtype=np.int64)
    np.maximum.at(n_known, examples.user_index, examples.n_known)
    is_known = np.zeros(events.n_events, dtype=np.bool_)
    is_known[flat_positions(events.offsets[:-1], n_known)] = True
    return events.where(is_known)


def _cut(value: FloatArray, mean: float, deviation: float) -> FloatArray:
    """Return values that lie no further out than is believed."""
    return np.clip(value, mean - _FURTHEST * deviation, mean + _FURTHEST * deviation)


def _counted(events: Histories, mean: float, n_items: int) -> tuple[FloatArray, FloatArray]:
    """Return (I,) how far values of items lie above the mean, shrunk, and (I,) the logarithms of counts."""
    items = events.item_index
    is_inside = items < n_items
    has_value = ~np.isnan(events.value) & is_inside
    above = np.bincount(
        items[has_value], events.value[has_value].astype(np.float64) - mean, minlength=n_items
    )
    n_values = np.bincount(items[has_value], minlength=n_items)
    item_mean = (above / (n_values + _WEIGHT_OF_ITEM_MEAN)).astype(np.float32)
    return item_mean, np.log1p(np.bincount(items[is_inside], minlength=n_items)).astype(np.float32)


def _looked_up(of_items: FloatArray, item_index: npt.NDArray[np.integer]) -> FloatArray:
    inside = item_index < len(of_items)
    if not len(of_items):
        return np.zeros(len(item_index), dtype=np.float32)
    found: FloatArray = np.where(inside, of_items[np.where(inside, item_index, 0)], np.float32(0.0))
    return found


def _moments(examples: LabelledExamples, runs: Runs) -> tuple[np.ndarray, ...]:
    """Hour of the day as two coordinates, and the logarithm of the seconds since the last event."""
    seconds = examples.timestamp
    has_time = seconds != NO_TIMESTAMP
    angle = np.where(has_time, seconds % _SECONDS_A_DAY, 0) * (2 * np.pi / _SECONDS_A_DAY)
    last = _last_moment(examples, runs)
    waited = np.where(has_time & (last != NO_TIMESTAMP), seconds - np.where(has_time, last, 0), 0)
    return np.sin(angle) * has_time, np.cos(angle) * has_time, np.log1p(np.maximum(waited, 0))


def _last_moment(examples: LabelledExamples, runs: Runs) -> LongArray:
    has_last = runs.place > runs.start
    moments = examples.events.timestamp
    last = np.full(len(has_last), NO_TIMESTAMP)
    last[has_last] = moments[runs.place[has_last] - 1]
    return last
