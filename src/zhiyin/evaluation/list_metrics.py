"""What slates are like beyond being right: how new, how different, how fairly spread over the catalogue.

All take slates as (B, k) int32 item indices with -1 as padding. Metrics of one slate return (B,) float64, NaN
for a slate they say nothing about; metrics of all slates together start from `exposure`.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse

from zhiyin.domain import PAD, FloatArray, IndexArray, LongArray, Ragged
from zhiyin.evaluation.metrics import PerQuery


def novelty(item_index: IndexArray, item_counts: LongArray) -> PerQuery:
    """Mean self-information of the items of a slate, in bits.

    mean of -log2 p(i), p(i) = (c_i + 1) / (Σ c + I), c_i being the training events that touch item i; adding
    one keeps items that nobody has touched finite. Zhou et al., *Solving the Apparent Diversity-Accuracy
    Dilemma of Recommender Systems* (2010).

    Args:
        item_index: (B, k) int32.
        item_counts: (I,) int64.
    """
    share = (item_counts + 1) / (item_counts.sum() + len(item_counts))
    return _mean_over_slate(item_index, -np.log2(share))


def average_popularity(item_index: IndexArray, item_counts: LongArray) -> PerQuery:
    """Mean number of training events that touch the items of a slate: how much the popular is preferred.

    Yin et al., *Challenging the Long Tail Recommendation* (2012).
    """
    return _mean_over_slate(item_index, item_counts.astype(np.float64))


def diversity_of_vectors(item_index: IndexArray, vectors: FloatArray) -> PerQuery:
    """Mean of 1 - cosine over all pairs of a slate: 0 for copies of one item, 2 at most.

    Ziegler et al., *Improving Recommendation Lists Through Topic Diversification* (2005). The pairs are
    summed through |Σ v|² = Σ |v|² + 2 Σ_{a<b} v_a · v_b, so that no (k, k) table is needed.

    Args:
        item_index: (B, k) int32. A slate of fewer than two items gives NaN.
        vectors: (I, D) float32, any length; a vector of length 0 is at right angles to everything.
    """
    is_item = item_index != PAD
    picked = np.where(is_item[..., None], vectors[item_index], np.float32(0)).astype(np.float64)
    length = np.linalg.norm(picked, axis=2, keepdims=True)
    picked = np.divide(picked, length, out=np.zeros_like(picked), where=length > 0)
    total = np.square(picked.sum(axis=1)).sum(axis=1)
    sum_of_cosines = (total - (length[..., 0] > 0).sum(axis=1)) / 2
    n_items = is_item.sum(axis=1)
    return 1 - _ratio(sum_of_cosines, n_items * (n_items - 1) / 2)


def diversity_of_categories(item_index: IndexArray, categories: Ragged) -> PerQuery:
    """Mean of 1 - |A ∩ B| / |A ∪ B| over all pairs of a slate, A and B being the categories of two items.

    For catalogues without vectors. Vargas and Castells, *Rank and Relevance in Novelty and Diversity Metrics
    for Recommender Systems* (2011).

    Args:
        item_index: (B, k) int32.
        categories: I rows of distinct category numbers. Pairs of two items without any are left out.
    """
    has = sparse.csr_matrix(
        (np.ones(len(categories.values), dtype=np.float32), categories.values, categories.offsets),
        shape=(len(categories), int(np.max(categories.values, initial=0)) + 1),
    )
    n_categories = categories.lengths
    distance, n_pairs = np.zeros(len(item_index)), np.zeros(len(item_index))
    longest = int(np.flatnonzero((item_index != PAD).any(axis=0)).max(initial=-1)) + 1
    # Over how far two places are apart, not over pairs: long slates have a hundred times as many of those.
    for apart in range(1, longest):
        a, b = (side.ravel() for side in (item_index[:, : longest - apart], item_index[:, apart:longest]))
        shared = np.asarray(has[a].multiply(has[b]).sum(axis=1)).ravel()
        either = n_categories[a] + n_categories[b] - shared
        counts = (a != PAD) & (b != PAD) & (either > 0)
        distances = np.where(counts, 1 - shared / np.maximum(either, 1), 0.0)
        distance += distances.reshape(len(item_index), -1).sum(axis=1)
        n_pairs += counts.reshape(len(item_index), -1).sum(axis=1)
    return _ratio(distance, n_pairs)


def exposure(item_index: IndexArray, n_items: int) -> npt.NDArray[np.float64]:
    """How often each item stands in a slate: (I,) float64."""
    shown = item_index[item_index != PAD]
    return np.bincount(shown, minlength=n_items).astype(np.float64)


def resampled_exposure(item_index: IndexArray, n_items: int, weights: FloatArray) -> npt.NDArray[np.float64]:
    """`exposure` of slates that stand for several: (R, I) float64 for weights of shape (R, B)."""
    row, column = np.nonzero(item_index != PAD)
    shape = (n_items, len(item_index))
    shown_in = sparse.csr_matrix((np.ones(len(row)), (item_index[row, column], row)), shape=shape)
    shown: npt.NDArray[np.float64] = (shown_in @ weights.T.astype(np.float64)).T
    return shown


def coverage(shown: npt.NDArray[np.float64]) -> PerQuery:
    """Share of the catalogue that stands in at least one slate.

    Ge, Delgado-Battenfeld, Jannach, *Beyond Accuracy* (2010).

    Args:
        shown: (R, I) float64, R exposures.

    Returns:
        (R,) float64.
    """
    n_items = shown.shape[1]
    return np.count_nonzero(shown, axis=1) / n_items if n_items else np.full(len(shown), np.nan)


def gini(shown: npt.NDArray[np.float64]) -> PerQuery:
    """Inequality of exposure: 0 when all items are shown equally often, 1 - 1/I when only one is ever shown.

    G = Σ_{i=1}^{I} (2 i - I - 1) x_(i) / (I Σ x), x_(i) ascending. Fleder and Hosanagar, *Blockbuster
    Culture's Next Rise or Fall* (2009). NaN when nothing was shown.

    Args:
        shown: (R, I) float64, R exposures.

    Returns:
        (R,) float64.
    """
    n_items = shown.shape[1]
    weights = 2.0 * np.arange(1, n_items + 1) - n_items - 1
    return _ratio(np.sort(shown, axis=1) @ weights, n_items * shown.sum(axis=1))


def _mean_over_slate(item_index: IndexArray, of_item: npt.NDArray[np.float64]) -> PerQuery:
    is_item = item_index != PAD
    return _ratio(np.where(is_item, of_item[item_index], 0.0).sum(axis=1), is_item.sum(axis=1))


def _ratio(total: PerQuery, count: npt.NDArray[np.number]) -> PerQuery:
    ratio: PerQuery = np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)
    return ratio
