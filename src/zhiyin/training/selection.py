"""How training chooses between settings and moments: the quality of scores on validation examples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from zhiyin.domain import Examples, FloatArray, Histories, Queries

_SCORES_AT_ONCE = 16_000_000
"""Scores (queries × items) ranked at once: 64 MB of float32, and about three times that at the peak."""


def validation_ndcg(
    score_all: Callable[[Queries], FloatArray], examples: Examples, *, k: int = 10, chunk: int = 512
) -> float:
    """Mean NDCG@k of dense scores over the whole catalogue, items of the history masked.

    With one relevant item at rank r the gain is ``1 / log2(r + 1)`` when r ≤ k (Järvelin and Kekäläinen,
    2002). Ties share their average rank. An example with several targets counts its first.

    Args:
        score_all: Queries (B) → (B, I) float32.
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
            ranks = target_ranks(score_all(part.queries), part.queries.histories, targets)
            total += float(np.where(ranks <= k, 1.0 / np.log2(ranks + 1.0), 0.0).sum())
    return total / len(examples)


def target_ranks(scores: FloatArray, seen: Histories, targets: np.ndarray) -> np.ndarray:
    """Rank of one target a query among all items not yet seen, 1 being the best.

    Args:
        scores: (B, I) float32; NaN ranks last.
        seen: B histories whose items are left out of the ranking.
        targets: (B,) int32.

    Returns:
        (B,) float64; infinite where the target has no score or was seen.
    """
    ranked = np.where(np.isnan(scores), np.float32(-np.inf), scores)
    known = seen.item_index < scores.shape[1]
    ranked[seen.row_of_event[known], seen.item_index[known]] = -np.inf
    of_target = ranked[np.arange(len(targets)), targets][:, None]
    n_better = (ranked > of_target).sum(axis=1)
    n_equal = (ranked == of_target).sum(axis=1)
    ranks = n_better + (n_equal + 1.0) / 2.0
    return np.where(np.isneginf(of_target[:, 0]), np.inf, ranks)


def sample_examples(examples: Examples, n: int, *, seed: int) -> Examples:
    """Return at most ``n`` examples, drawn without replacement, in their order."""
    if len(examples) <= n:
        return examples
    drawn = np.random.default_rng(seed).choice(len(examples), size=n, replace=False)
    return examples.take(np.sort(drawn))
