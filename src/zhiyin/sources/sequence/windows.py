"""Histories cut into the sequences that a transformer is trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zhiyin.domain import FloatArray, Histories, LongArray
from zhiyin.domain.arrays import flat_positions

SHORTEST_LIMIT = 50
LONGEST_LIMIT = 200


@dataclass(frozen=True, eq=False)
class Windows:
    """Sequences of at most ``max_length`` events, each event but the last followed by its target.

    Attributes:
        items: (T,) int64, all events of all histories.
        weights: (T,) float32, how much an event counts as a target.
        starts: (S,) int64, position of the first event of a window.
        lengths: (S,) int64, events of a window that have a target, its last event left out.
    """

    items: npt.NDArray[np.int64]
    weights: FloatArray
    starts: LongArray
    lengths: LongArray

    def positions(self, rows: npt.NDArray[np.int64]) -> LongArray:
        """Return the flat positions of the input events of some windows; targets stand one further."""
        return flat_positions(self.starts[rows], self.lengths[rows])


def cut(histories: Histories, weights: FloatArray, max_length: int) -> Windows:
    """Cut each history into windows, from its newest event backwards.

    A window begins with the event that was the last target of the window before, so every event but the
    first of a history is a target exactly once.

    Args:
        histories: To learn from.
        weights: (T,) float32, how much each event counts as a target.
        max_length: Input events of a window at most.
    """
    n_inputs = np.maximum(histories.lengths - 1, 0)
    n_windows = -(-n_inputs // max_length)
    age = flat_positions(np.zeros(len(n_windows), dtype=np.int64), n_windows)
    per_window = np.repeat(n_inputs, n_windows)
    ends = np.repeat(histories.offsets[:-1], n_windows) + per_window - age * max_length
    lengths = np.minimum(max_length, per_window - age * max_length)
    return Windows(histories.item_index.astype(np.int64), weights, ends - lengths, lengths)


def length_limit(histories: Histories) -> int:
    """Choose how many events a sequence may have: nineteen of twenty histories fit, within 50 to 200.

    Never more than the longest sequence has, because no network learns places it has not seen.
    """
    lengths = histories.lengths[histories.lengths > 1]
    if not len(lengths):
        return 1
    fitting = int(np.clip(np.percentile(lengths, 95), SHORTEST_LIMIT, LONGEST_LIMIT))
    return min(fitting, int(lengths.max()) - 1)
