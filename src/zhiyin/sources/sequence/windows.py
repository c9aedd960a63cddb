"""Histories cut into the sequences that a transformer is trained on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from zhiyin.domain import FloatArray, Histories, LongArray
from zhiyin.domain.arrays import flat_positions
from zhiyin.sources.sequence.gaps import GapArray, gaps_of_events, some_hidden
from zhiyin.training.batches import LengthBuckets

SHORTEST_LIMIT = 50
LONGEST_LIMIT = 200
MOST_KNOWN = 1_000
"""Events of a history that are looked through for items which cannot come again: it bounds the cost."""


@dataclass(frozen=True, eq=False)
class Windows:
    """Sequences of at most ``max_length`` events, each event but the last followed by its target.

    Attributes:
        items: (T,) int64, all events of all histories.
        weights: (T,) float32, how much an event counts as a target.
        gaps: (T,) int8, how much time lies between an event and the next; see `gap_kinds`.
        firsts: (S,) int64, position of the oldest event of the history that a window is cut from.
        starts: (S,) int64, position of the first event of a window.
        lengths: (S,) int64, events of a window that have a target, its last event left out.
    """

    items: npt.NDArray[np.int64]
    weights: FloatArray
    gaps: GapArray
    firsts: LongArray
    starts: LongArray
    lengths: LongArray

    def positions(self, rows: npt.NDArray[np.int64]) -> LongArray:
        """Return the flat positions of the input events of some windows; targets stand one further."""
        return flat_positions(self.starts[rows], self.lengths[rows])

    def known(self, rows: npt.NDArray[np.int64]) -> tuple[LongArray, LongArray]:
        """Return what is known at each of `positions`: the flat positions of the events, and how many.

        They are those of the history up to the event itself, at most the newest `MOST_KNOWN`; before the
        beginning of the window as well, as far as the histories that were cut reach back.
        """
        positions = self.positions(rows)
        firsts = np.repeat(self.firsts[rows], self.lengths[rows])
        n_known = np.minimum(positions + 1 - firsts, MOST_KNOWN)
        return flat_positions(positions + 1 - n_known, n_known), n_known


def cut(
    histories: Histories, weights: FloatArray, max_length: int, newest_length: LongArray | None = None
) -> Windows:
    """Cut each history into windows, from its newest event backwards.

    A window begins with the event that was the last target of the window before, so every event but the
    first of a history is a target exactly once.

    Args:
        histories: To learn from.
        weights: (T,) float32, how much each event counts as a target.
        max_length: Input events of a window at most.
        newest_length: (B,) int64 from 1 to ``max_length``, input events of the newest window of each history
            that does not fit into one window; full windows when None.
    """
    n_inputs = np.maximum(histories.lengths - 1, 0)
    newest = np.minimum(n_inputs, max_length)
    if newest_length is not None:
        newest = np.where(n_inputs > max_length, newest_length, newest)
    n_windows = np.where(n_inputs > 0, 1 - (newest - n_inputs) // max_length, 0)
    age = flat_positions(np.zeros(len(n_windows), dtype=np.int64), n_windows)
    begins = np.repeat(n_inputs - newest, n_windows) - age * max_length
    ends = np.where(age == 0, np.repeat(n_inputs, n_windows), begins + max_length)
    begins = np.maximum(begins, 0)
    firsts = np.repeat(histories.offsets[:-1], n_windows)
    items, gaps = histories.item_index.astype(np.int64), gaps_of_events(histories)
    return Windows(items, weights, gaps, firsts, firsts + begins, ends - begins)


@dataclass(frozen=True, eq=False)
class ShiftingWindows:
    """Windows that fall elsewhere in each epoch, so that an event is foretold from ever other contexts.

    Attributes:
        histories: To learn from.
        weights: (T,) float32, how much each event counts as a target.
        max_length: Input events of a window at most.
        tokens_per_batch: Input events of a batch at most.
        seed: Of the cuts and of the order.
    """

    histories: Histories
    weights: FloatArray
    max_length: int
    tokens_per_batch: int
    seed: int

    def epoch(self, epoch: int) -> list[tuple[Windows, npt.NDArray[np.int64]]]:
        """Return the batches of an epoch: windows, and which of them."""
        random = np.random.default_rng([self.seed, epoch])
        newest = random.integers(1, self.max_length + 1, len(self.histories))
        windows = cut(self.histories, self.weights, self.max_length, newest)
        if not len(windows.lengths):
            return []
        windows = replace(windows, gaps=some_hidden(windows.gaps, random))
        buckets = LengthBuckets(windows.lengths, self.tokens_per_batch, self.seed)
        return [(windows, rows) for rows in buckets.epoch(epoch)]


def length_limit(histories: Histories) -> int:
    """Choose how many events a sequence may have: nineteen of twenty histories fit, within 50 to 200.

    Never more than the longest sequence has, because no network learns places it has not seen.
    """
    lengths = histories.lengths[histories.lengths > 1]
    if not len(lengths):
        return 1
    fitting = int(np.clip(np.percentile(lengths, 95), SHORTEST_LIMIT, LONGEST_LIMIT))
    return min(fitting, int(lengths.max()) - 1)
