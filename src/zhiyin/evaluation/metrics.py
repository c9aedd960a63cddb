"""How far up a slate the right items stand.

Every accuracy metric is a function of one thing: the ranks of the targets. `rank_targets` finds them once;
the metrics are then a few sums.

**Ties.** Items of equal score next to each other in a slate form a block, and the order inside a block means
nothing. Let a block hold n items on the ranks a … a + n - 1, m of them targets. Its j-th target gets the rank
it has on average over all orders of the block (the expectation of the j-th of m order statistics):

    r_j = a - 1 + j (n + 1) / (m + 1)

For a single target this is the average rank of the block, a + (n - 1) / 2; a block of targets only keeps the
ranks a, a + 1, …. A rank may thus lie between two places; it counts at a cut k when it is at most k.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from zhiyin.domain import PAD, BoolArray, FloatArray, IndexArray, LongArray, Ragged
from zhiyin.domain.arrays import offsets_of
from zhiyin.domain.errors import ShapeMismatch

PerQuery = npt.NDArray[np.float64]
"""(B,) float64, one value a query; NaN where the metric says nothing about a query."""


@dataclass(frozen=True, eq=False)
class RankedTargets:
    """The distinct targets of B queries and where each of them stands.

    Attributes:
        offsets: (B + 1,) int64.
        item_index: (M,) int32, the targets; -1 is a target that no slate can hold.
        rank: (M,) float64, 1 for the first place, infinite for a target that is not in the slate.
    """

    offsets: LongArray
    item_index: IndexArray
    rank: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def n_targets(self) -> LongArray:
        """(B,) int64: distinct targets per query."""
        return np.diff(self.offsets)

    @cached_property
    def row(self) -> LongArray:
        """(M,) int64: the query each target belongs to."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.n_targets)

    @cached_property
    def place(self) -> LongArray:
        """(M,) int64: 1 for the target of a query that stands highest, 2 for the next, and so on."""
        order = np.lexsort((self.rank, self.row))
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order)) - self.offsets[self.row] + 1
        return place

    def missing_unless(self, credited: BoolArray) -> RankedTargets:
        """Count targets not marked in (M,) bool as misses; they stay in every denominator."""
        return RankedTargets(self.offsets, self.item_index, np.where(credited, self.rank, np.inf))

    def only(self, kept: BoolArray) -> RankedTargets:
        """Forget targets not marked in (M,) bool; queries may be left without any."""
        n_targets = np.bincount(self.row[kept], minlength=len(self))
        return RankedTargets(offsets_of(n_targets), self.item_index[kept], self.rank[kept])

    @classmethod
    def joined(cls, parts: list[RankedTargets]) -> RankedTargets:
        """Put chunks of queries one after the other."""
        n_targets = np.concatenate([part.n_targets for part in parts])
        items = np.concatenate([part.item_index for part in parts])
        return cls(offsets_of(n_targets), items, np.concatenate([part.rank for part in parts]))


def rank_targets(item_index: IndexArray, scores: FloatArray, targets: Ragged) -> RankedTargets:
    """Find the targets in the slates; equal scores share their ranks as the module says.

    Args:
        item_index: (B, N) int32, each row a slate, best first, without duplicates; -1 pads and takes no rank.
        scores: (B, N) float32; only whether neighbours are equal matters, and NaN equals nothing.
        targets: B rows of int32 item indices. A target named twice in a row counts once.

    Raises:
        ShapeMismatch: when the three are not about the same queries.
    """
    if item_index.shape != scores.shape or len(item_index) != len(targets):
        raise ShapeMismatch(
            f"Slates {item_index.shape}, scores {scores.shape} and {len(targets)} rows of targets "
            "do not match."
        )
    wanted = _distinct(targets)
    row, column = np.nonzero(item_index != PAD)
    offered = item_index[row, column]
    blocks = _Blocks.of(row, scores[row, column])
    stride = 1 + max(offered.max(initial=0), wanted.item_index.max(initial=0))
    position = _positions_in(row * stride + offered, wanted.row * stride + wanted.item_index)
    found = np.flatnonzero((position >= 0) & (wanted.item_index != PAD))
    rank = np.full(len(wanted.item_index), np.inf)
    rank[found] = blocks.expected_ranks(position[found])
    return RankedTargets(wanted.offsets, wanted.item_index, rank)


@dataclass(frozen=True, eq=False)
class _Blocks:
    """Runs of equal scores among P offered items, which stand row by row and best first."""

    block: LongArray  # (P,) the run each offered item belongs to
    first_rank: LongArray  # (runs,) the rank where it begins
    size: LongArray  # (runs,)

    @classmethod
    def of(cls, row: LongArray, scores: FloatArray) -> _Blocks:
        new_row = np.ones(len(row), dtype=bool)
        new_row[1:] = row[1:] != row[:-1]
        begins = new_row.copy()
        begins[1:] |= scores[1:] != scores[:-1]
        rows_before = np.cumsum(new_row) - 1
        rank = np.arange(len(row)) - np.flatnonzero(new_row)[rows_before] + 1
        block = np.cumsum(begins) - 1
        return cls(block, rank[begins], np.bincount(block))

    def expected_ranks(self, position: LongArray) -> npt.NDArray[np.float64]:
        """Ranks of the targets that stand at these distinct positions."""
        order = np.argsort(position, kind="stable")
        block = self.block[position[order]]
        _, first, n_in_block = np.unique(block, return_index=True, return_counts=True)
        which = np.arange(len(block)) - np.repeat(first, n_in_block) + 1
        spread = (self.size[block] + 1) / (np.repeat(n_in_block, n_in_block) + 1)
        ranks = np.empty(len(position))
        ranks[order] = self.first_rank[block] - 1 + which * spread
        return ranks


def _distinct(targets: Ragged) -> RankedTargets:
    """Drop a target's second mention in its row; unknown targets (-1) are all different."""
    items = targets.values.astype(np.int32)
    row = targets.row_of_value
    _, first = np.unique(row * (items.max(initial=0) + 2) + items + 1, return_index=True)
    kept = items == PAD
    kept[first] = True
    return RankedTargets(targets.offsets, items, np.full(len(items), np.inf)).only(kept)


def _positions_in(keys: LongArray, asked: LongArray) -> LongArray:
    """Where each asked key first stands among the keys, -1 when it does not."""
    if len(keys) == 0:
        return np.full(len(asked), -1, dtype=np.int64)
    order = np.argsort(keys, kind="stable")
    nearest = np.minimum(np.searchsorted(keys[order], asked), len(keys) - 1)
    return np.where(keys[order[nearest]] == asked, order[nearest], -1)


def recall(ranked: RankedTargets, k: int) -> PerQuery:
    """Share of a query's targets T that stand at rank k or above: |{t : r_t ≤ k}| / |T|.

    Manning, Raghavan, Schütze, *Introduction to Information Retrieval* (2008), chapter 8.
    """
    return _gained(ranked, k, np.ones(len(ranked.rank))) / _or_nan(ranked.n_targets)


def precision(ranked: RankedTargets, k: int) -> PerQuery:
    """Share of the k places that hold a target: |{t : r_t ≤ k}| / k. Same source as `recall`."""
    return _where_asked(ranked, _gained(ranked, k, np.ones(len(ranked.rank))) / k)


def hit_rate(ranked: RankedTargets, k: int) -> PerQuery:
    """1 when at least one target stands at rank k or above, else 0.

    With one target it is the recall. Deshpande and Karypis, *Item-Based Top-N Recommendation Algorithms*
    (2004).
    """
    return _where_asked(ranked, _gained(ranked, k, (ranked.place == 1).astype(np.float64)))


def mrr(ranked: RankedTargets, k: int) -> PerQuery:
    """Return 1 / r of the highest target, 0 when it stands below k.

    Voorhees, *The TREC-8 Question Answering Track Report* (1999).
    """
    return _where_asked(ranked, _gained(ranked, k, (ranked.place == 1) / ranked.rank))


def average_precision(ranked: RankedTargets, k: int) -> PerQuery:
    """Precision at each target found, summed and divided by what could have been found.

    AP@k = (Σ_{j : r_j ≤ k} j / r_j) / min(|T|, k), the targets counted from the highest, j = 1, 2, ….
    Buckley and Voorhees, *Evaluating Evaluation Measure Stability* (2000), cut at k; the minimum makes a
    perfect slate worth 1 when there are more targets than places.
    """
    gained = _gained(ranked, k, ranked.place / ranked.rank)
    return gained / _or_nan(np.minimum(ranked.n_targets, k))


def ndcg(ranked: RankedTargets, k: int) -> PerQuery:
    """Discounted gain of the targets found, divided by that of a perfect slate.

    NDCG@k = Σ_{t : r_t ≤ k} 1 / log2(1 + r_t)  /  Σ_{j = 1}^{min(|T|, k)} 1 / log2(1 + j). Järvelin and
    Kekäläinen, *Cumulated Gain-Based Evaluation of IR Techniques* (2002), every target worth 1.
    """
    discounts = 1 / np.log2(1 + np.arange(1, k + 1))
    best_possible = np.concatenate([[0.0], np.cumsum(discounts)])
    gained = _gained(ranked, k, 1 / np.log2(1 + ranked.rank))
    return gained / _or_nan(best_possible[np.minimum(ranked.n_targets, k)])


def serendipity(ranked: RankedTargets, k: int, expected: BoolArray) -> PerQuery:
    """Share of a query's targets that stand at rank k or above and that nobody needed help to find.

    |{t : r_t ≤ k, t not expected}| / |T|. Ge, Delgado-Battenfeld, Jannach, *Beyond Accuracy* (2010), who
    divide by k.

    Args:
        ranked: The targets.
        k: The cut.
        expected: (I,) bool, items that a primitive method would show anyway, such as the k most popular.
    """
    known = np.flatnonzero((ranked.item_index != PAD) & (ranked.item_index < len(expected)))
    surprising = np.ones(len(ranked.item_index), dtype=bool)
    surprising[known] = ~expected[ranked.item_index[known]]
    return _gained(ranked, k, surprising.astype(np.float64)) / _or_nan(ranked.n_targets)


ACCURACY_METRICS: Mapping[str, Callable[[RankedTargets, int], PerQuery]] = {
    "recall": recall,
    "ndcg": ndcg,
    "mrr": mrr,
    "hit_rate": hit_rate,
    "map": average_precision,
    "precision": precision,
}
"""Name in reports → function of the ranks and the cut k."""


def _gained(ranked: RankedTargets, k: int, gains: npt.NDArray[np.float64]) -> PerQuery:
    """Sum the gains of the targets at rank k or above, per query."""
    counted = np.where(ranked.rank <= k, gains, 0.0)
    return np.bincount(ranked.row, weights=counted, minlength=len(ranked)).astype(np.float64)


def _where_asked(ranked: RankedTargets, values: PerQuery) -> PerQuery:
    """NaN for queries without targets."""
    return np.where(ranked.n_targets > 0, values, np.nan)


def _or_nan(possible: npt.NDArray[np.number]) -> PerQuery:
    """What could have been gained; NaN where that is nothing, so that the ratio is NaN too."""
    return np.where(possible > 0, possible, np.nan).astype(np.float64)
