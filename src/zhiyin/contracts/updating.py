"""What just happened, as sources take it in between two trainings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import PositiveFloat, PositiveInt

from zhiyin.contracts.component import Config, Probability
from zhiyin.domain import NO_TIMESTAMP, PAD, BoolArray, FloatArray, Histories, IndexArray, LongArray

REACH = 50
"""Events before a step that are handed on with it, at most."""
_MOST_REPLAYED = 0.9
_MOMENT_UNKNOWN_FOR_LATER = np.iinfo(np.int64).max


@dataclass(frozen=True, eq=False)
class Steps:
    """T new events in the order in which the log took them, each with what its user did before it.

    A step says the same whichever events it is handed over with, so that processes which read the log in
    other portions end in the same state.

    Attributes:
        before: T histories, what the user did before each event, runs on one item counted once. Its newest
            event may be on the item of the step itself, as with a cart after a view.
        item_index: (T,) int32.
        event_index: (T,) int16, position among the event kinds of the bundle.
        timestamp: (T,) int64, UTC seconds, or `NO_TIMESTAMP`.
    """

    before: Histories
    item_index: IndexArray
    event_index: npt.NDArray[np.int16]
    timestamp: LongArray

    def __len__(self) -> int:
        return len(self.item_index)

    @property
    def repeats(self) -> BoolArray:
        """(T,) bool: the event before was on the same item, so that the two count as one."""
        has_before = self.before.lengths > 0
        newest = np.full(len(self), PAD, dtype=np.int32)
        newest[has_before] = self.before.item_index[self.before.offsets[1:][has_before] - 1]
        same: BoolArray = newest == self.item_index
        return same

    def slice(self, start: int, stop: int) -> Steps:
        """Return steps ``start:stop``."""
        if start <= 0 and stop >= len(self):
            return self
        part = slice(start, stop)
        before = self.before.slice(start, min(stop, len(self)))
        return Steps(before, self.item_index[part], self.event_index[part], self.timestamp[part])

    def on_items(self, n_items: int) -> Steps:
        """Return the steps, and of what was before them the events, on items below ``n_items``."""
        known = (self.item_index >= 0) & (self.item_index < n_items)
        steps = self
        if not known.all():
            rows = np.flatnonzero(known)
            steps = Steps(
                self.before.take(rows), self.item_index[rows], self.event_index[rows], self.timestamp[rows]
            )
        known = (steps.before.item_index >= 0) & (steps.before.item_index < n_items)
        if known.all():
            return steps
        before = steps.before.where(known).without_repeats()
        return Steps(before, steps.item_index, steps.event_index, steps.timestamp)

    @classmethod
    def of_histories(cls, histories: Histories, positions: LongArray, *, reach: int = REACH) -> Steps:
        """Take events out of histories that stand in the order in which the log took them.

        Events that came in earlier but happened later, which is so when one arrives late, are not before it.

        Args:
            histories: Complete histories of the users concerned, each in the order of acceptance.
            positions: (T,) int64 flat positions of the new events in them, in the order of acceptance.
            reach: Events before each that are looked at, at most.
        """
        first = histories.offsets[np.searchsorted(histories.offsets, positions, side="right") - 1]
        n_before = np.minimum(positions - first, reach)
        before = histories.runs(positions - n_before, n_before)
        moment = histories.timestamp[positions]
        until = np.where(moment == NO_TIMESTAMP, _MOMENT_UNKNOWN_FOR_LATER, moment)
        is_earlier = before.timestamp <= np.repeat(until, n_before)
        if not is_earlier.all():
            before = before.where(is_earlier)
        return cls(
            before.without_repeats(),
            histories.item_index[positions],
            histories.event_index[positions],
            moment,
        )


def weights_of(event_weights: FloatArray, event_index: npt.NDArray[np.int16]) -> FloatArray:
    """Return (T,) float32, what each event is worth; a kind that training did not know counts as the last."""
    return event_weights[np.minimum(event_index, len(event_weights) - 1)]


class Continuing(Config):
    """How a source that is trained by gradients goes on from where it stands."""

    epochs: PositiveInt = 3
    """Passes over the new events and the replayed ones, at most; fewer where validation stops rising."""
    learning_rate_share: PositiveFloat = 0.3
    """Step size, as a share of the one it was trained with."""
    replay_share: Probability = 0.5
    """Share of old events in what it learns from, against forgetting; at most nine tenths are replayed."""

    def n_replayed(self, n_new: int) -> float:
        """Return how much that is old is learned from again beside so much that is new."""
        share = min(self.replay_share, _MOST_REPLAYED)
        return n_new * share / (1.0 - share)


@dataclass(frozen=True, eq=False)
class Growth:
    """What of the training data is new since a source was trained.

    Attributes:
        is_new: (T,) bool, aligned with the flat events of the training histories.
        continuing: For sources that go on from where they stand.
    """

    is_new: BoolArray
    continuing: Continuing = Continuing()  # noqa: RUF009 - frozen
