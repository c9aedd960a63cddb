"""What the users of the simulated shop remember."""

from __future__ import annotations

import numpy as np

from zhiyin.domain import PAD, BoolArray, FloatArray, IndexArray

_FIRST_ROOM = 32


class Memory:
    """Which items each user has touched, and the shelf of items they would search for.

    Memory grows with what people touch, never with users × items.

    Args:
        n_users: U.
        shelves: (U, S) int32 items and their (U, S) float32 affinities.
    """

    def __init__(self, n_users: int, shelves: tuple[IndexArray, FloatArray]) -> None:
        self.shelf, self.shelf_affinity = shelves
        self.on_shelf: BoolArray = np.ones(self.shelf.shape, dtype=bool)
        self.last: IndexArray = np.full(n_users, PAD, dtype=np.int32)
        self.bought_last: BoolArray = np.zeros(n_users, dtype=bool)
        self._n_touched = np.zeros(n_users, dtype=np.int64)
        self._touched = np.full((n_users, _FIRST_ROOM), PAD, dtype=np.int32)

    def knows(self, user: IndexArray, item: IndexArray) -> BoolArray:
        """Say which of (B, N) items each of (B,) users has touched, as (B, N) bool; False for padding."""
        room = int(self._n_touched[user].max(initial=0))
        touched = self._touched[user, :room]
        known: BoolArray = (touched[:, None, :] == item[:, :, None]).any(axis=2) & (item != PAD)
        return known

    def learn(self, user: IndexArray, item: IndexArray) -> None:
        """Remember one (B,) item for each of (B,) different users."""
        n = self._n_touched[user]
        if n.max(initial=0) >= self._touched.shape[1]:
            self._touched = np.concatenate([self._touched, np.full_like(self._touched, PAD)], axis=1)
        self._touched[user, n] = item
        self._n_touched[user] += 1
        self.on_shelf[user] &= self.shelf[user] != item[:, None]
