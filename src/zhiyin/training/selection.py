"""How training chooses between settings and moments: the quality of scores on validation examples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from zhiyin.domain import BoolArray, Examples, FloatArray, Histories, LongArray, Queries

_SCORES_AT_ONCE = 2_000_000
"""Scores (queries × items) ranked at once: 8 MB of float32, and about three times that at the peak."""
_CELLS_PER_STORED = 8
"""Sparse scores are ranked as they are where at most one cell of so many is stored."""


def validation_ndcg(
    score_all: Callable[[Queries], FloatArray | sp.csr_array],
    examples: Examples,
    *,
    k: int = 10,
    chunk: int = 512,
) -> float:
    """Mean NDCG@k of scores over the whole catalogue, items of the history masked.

    With one relevant item at rank r the gain is ``1 / log2(r + 1)`` when r ≤ k (Järvelin and Kekäläinen,
    2002). Ties share their average rank. An example with several targets counts its first.

    Args:
        score_all: Queries (B) → (B, I) float32, sparse where most of a catalogue is not reached.
        examples: What to rank for.
        k: The cut.
        chunk: Queries scored at once, at most; fewer where the catalogue is large, which bounds memory.

    Returns:
        A number from 0 to 1; 0 when there are no examples.
    """
    if not len(examples):
        return 0.0
    total = 0.0
    n_items = score_all(examples.queries.take(np.arange(1))).shape[1]
    for part in examples.chunks(max(1, min(chunk, _SCORES_AT_ONCE // max(n_items, 1)))):
        has_target = part.targets.lengths > 0
        part = part.take(np.flatnonzero(has_target))  # noqa: PLW2901 - narrowed, not replaced
        if len(part):
            targets = np.asarray(part.targets.values)[part.targets.offsets[:-1]]
            ranks = _ranks(score_all(part.queries), part.queries.histories, targets)
            total += _gain(ranks, k)
    return total / len(examples)


def shared_ndcg(scores: FloatArray, examples: Examples, *, k: int = 10) -> float:
    """Return `validation_ndcg` of scores (I,) that are the same for every query, without writing them out."""
    if not len(examples):
        return 0.0
    examples_with_target = examples.take(np.flatnonzero(examples.targets.lengths > 0))
    targets = np.asarray(examples_with_target.targets.values)[examples_with_target.targets.offsets[:-1]]
    row, item = _pairs(examples_with_target.queries.histories, len(scores))
    rising, of_target = np.sort(scores), scores[targets]
    n_better = len(rising) - np.searchsorted(rising, of_target, side="right")
    n_equal = len(rising) - np.searchsorted(rising, of_target, side="left") - n_better
    ranks = _ranks_without(scores[item], row, of_target, (n_better, n_equal))
    ranks[row[item == targets[row]]] = np.inf
    return _gain(ranks, k) / len(examples)


def target_ranks(scores: FloatArray, seen: Histories, targets: np.ndarray) -> np.ndarray:
    """Rank of one target a query among all items not yet seen, 1 being the best.

    Args:
        scores: (B, I) float32; NaN and minus infinity say nothing.
        seen: B histories whose items are left out of the ranking.
        targets: (B,) int32.

    Returns:
        (B,) float64; infinite where the target has no score or was seen.
    """
    of_target = scores[np.arange(len(targets)), targets]
    seen_row, seen_item = _pairs(seen, scores.shape[1])
    counts = (_number(scores > of_target[:, None]), _number(scores == of_target[:, None]))
    ranks = _ranks_without(scores[seen_row, seen_item], seen_row, of_target, counts)
    ranks[seen_row[seen_item == targets[seen_row]]] = np.inf
    ranks[np.isnan(of_target) | np.isneginf(of_target)] = np.inf
    return ranks


def _number(marks: BoolArray) -> LongArray:
    """Return how many are marked in each row of (B, I) bool, (B,) int64."""
    # As bytes: numpy adds truth values four times slower.
    number: LongArray = marks.view(np.int8).sum(axis=1, dtype=np.int32).astype(np.int64)
    return number


def sparse_target_ranks(
    scores: sp.csr_array, seen: Histories, targets: npt.NDArray[np.integer]
) -> npt.NDArray[np.float64]:
    """Rank as `target_ranks` does, by sparse scores: what is not stored has no score.

    Args:
        scores: (B, I) float32; its rows are sorted here.
        seen: B histories whose items are left out of the ranking.
        targets: (B,) int32.
    """
    scores.sum_duplicates()
    n_items = scores.shape[1]
    row = np.repeat(np.arange(scores.shape[0], dtype=np.int64), np.diff(scores.indptr))
    stored = row * n_items + scores.indices

    def looked_up(cells: LongArray) -> FloatArray:
        place = np.minimum(np.searchsorted(stored, cells), max(len(stored) - 1, 0))
        if not len(stored):
            return np.full(len(cells), np.nan, dtype=np.float32)
        return np.where(stored[place] == cells, scores.data[place], np.float32(np.nan))

    of_target = looked_up(np.arange(len(targets), dtype=np.int64) * n_items + targets)
    n_better, n_equal = (
        np.bincount(row[is_counted], minlength=len(targets))
        for is_counted in (scores.data > of_target[row], scores.data == of_target[row])
    )
    seen_row, seen_item = _pairs(seen, n_items)
    ranks = _ranks_without(
        looked_up(seen_row * n_items + seen_item), seen_row, of_target, (n_better, n_equal)
    )
    ranks[seen_row[seen_item == targets[seen_row]]] = np.inf
    ranks[np.isnan(of_target)] = np.inf
    return ranks


def _ranks(
    scores: FloatArray | sp.csr_array, seen: Histories, targets: npt.NDArray[np.integer]
) -> npt.NDArray[np.float64]:
    if isinstance(scores, np.ndarray):
        return target_ranks(scores, seen, targets)
    if scores.nnz * _CELLS_PER_STORED <= scores.shape[0] * scores.shape[1]:
        return sparse_target_ranks(scores, seen, targets)
    return target_ranks(scores.toarray(), seen, targets)


def _ranks_without(
    seen_scores: FloatArray, row: LongArray, of_target: FloatArray, counts: tuple[LongArray, LongArray]
) -> npt.NDArray[np.float64]:
    """Take what was seen out of the numbers of better and of equal items; ties share their average rank."""
    n_better, n_equal = (
        count - np.bincount(row[is_counted], minlength=len(of_target))
        for count, is_counted in zip(
            counts, (seen_scores > of_target[row], seen_scores == of_target[row]), strict=True
        )
    )
    ranks: npt.NDArray[np.float64] = n_better + (n_equal + 1.0) / 2.0
    return ranks


def _pairs(histories: Histories, n_items: int) -> tuple[LongArray, LongArray]:
    """Return row and item of everything that stands in some histories, each pair once."""
    known = histories.item_index < n_items
    cells = np.unique(histories.row_of_event[known] * n_items + histories.item_index[known])
    return cells // n_items, cells % n_items


def _gain(ranks: npt.NDArray[np.float64], k: int) -> float:
    return float(np.where(ranks <= k, 1.0 / np.log2(ranks + 1.0), 0.0).sum())


def sample_examples(examples: Examples, n: int, *, seed: int) -> Examples:
    """Return at most ``n`` examples, drawn without replacement, in their order."""
    if len(examples) <= n:
        return examples
    drawn = np.random.default_rng(seed).choice(len(examples), size=n, replace=False)
    return examples.take(np.sort(drawn))
