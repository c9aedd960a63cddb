"""From a history to the vector of a user."""

from __future__ import annotations

import numpy as np

from zhiyin.domain import BoolArray, FloatArray, Histories

_LEAST = 1e-12


def user_vectors(
    histories: Histories, item_vectors: FloatArray, event_weights: FloatArray
) -> tuple[FloatArray, BoolArray]:
    """Add up the newest events of each history, as `Towers.users` does.

    Args:
        histories: B histories; events on items without a vector do not count.
        item_vectors: (I, d) float32; rows of zeros have no words.
        event_weights: (L,) float32, what events count by their age, the newest first.

    Returns:
        (B, d) float32, each row of length 1 or zeros; and (B,) bool: it has no words at all.
    """
    recent = histories.newest(len(event_weights))
    item, row, age = recent.item_index, recent.row_of_event, recent.age_of_event
    is_known = item < len(item_vectors)
    item, row, age = item[is_known], row[is_known], age[is_known]
    weight_of_row = np.zeros((len(histories), len(item)), dtype=np.float32)
    weight_of_row[row, np.arange(len(item))] = event_weights[age]
    sums = weight_of_row @ item_vectors[item]
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    users: FloatArray = (sums / np.maximum(lengths, _LEAST)).astype(np.float32)
    return users, lengths[:, 0] <= _LEAST
