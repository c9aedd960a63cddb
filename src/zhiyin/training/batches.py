"""Batches of sequences of similar length, so that little or nothing is padded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zhiyin.domain import LongArray

BATCHES_PER_POOL = 40
FEWEST_BATCHES = 32
"""Batches of an epoch at least: a small shop gets smaller batches."""


def size_of_batch(most: int, n_inputs: int, *, fewest: int = FEWEST_BATCHES) -> int:
    """Return how much a batch holds: as much as may be, but little enough for so many batches an epoch.

    Args:
        most: Tokens, or whatever is counted, of a batch.
        n_inputs: As many an epoch reads.
        fewest: Batches.
    """
    return max(1, min(most, -(-n_inputs // fewest)))


def round_size(n: int) -> int:
    """Return the next of the sizes 16, 32, …, 128, then eight to each power of two, for n ≥ 1.

    For each size of a product in bfloat16 oneDNN makes code and keeps it. Sizes that hardly ever come again
    cost 70 MB an epoch on amazon-beauty, until a thousand pieces of code are kept.
    """
    step = 1 << max(4, (n - 1).bit_length() - 4)
    return -(-n // step) * step


@dataclass(frozen=True)
class LengthBuckets:
    """Deals sequences into batches of about equally many events.

    The sequences are shuffled, sorted by length inside pools of some forty batches, cut where a batch is
    full, and the batches shuffled. The order of epoch ``e`` depends on the seed and ``e`` alone; a run that
    was killed therefore finds it again without having stored anything.

    Attributes:
        lengths: (S,) int64, events of each sequence.
        tokens_per_batch: Events a batch may hold; a longer sequence is a batch of its own.
        seed: Of the order.
    """

    lengths: LongArray
    tokens_per_batch: int
    seed: int

    def epoch(self, epoch: int) -> list[npt.NDArray[np.int64]]:
        """Return the batches of an epoch, each the rows of its sequences."""
        random = np.random.default_rng([self.seed, epoch])
        order = random.permutation(len(self.lengths))
        per_pool = max(1, int(BATCHES_PER_POOL * self.tokens_per_batch / max(self.lengths.mean(), 1.0)))
        batches: list[npt.NDArray[np.int64]] = []
        for start in range(0, len(order), per_pool):
            pool = order[start : start + per_pool]
            pool = pool[np.argsort(self.lengths[pool], kind="stable")]
            batches += self._cut(pool)
        return [batches[place] for place in random.permutation(len(batches))]

    def _cut(self, pool: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
        ends = np.cumsum(self.lengths[pool])
        cuts: list[int] = []
        start, total = 0, 0
        while start < len(pool):  # over batches, not over sequences
            start = max(start + 1, int(np.searchsorted(ends, total + self.tokens_per_batch, side="right")))
            total = int(ends[start - 1])
            cuts.append(start)
        return np.split(pool, cuts[:-1])
