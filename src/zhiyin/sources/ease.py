"""A linear model of every item by all others, solved in one step."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import scipy.sparse as sp
from pydantic import PositiveFloat, PositiveInt
from scipy.linalg import lapack

from zhiyin.contracts import (
    Between,
    CandidateSource,
    ComponentState,
    Config,
    Edges,
    Opinion,
    Probability,
    SearchRange,
    TrainingData,
)
from zhiyin.domain import Examples, FloatArray, Histories, IndexArray, LongArray, Queries
from zhiyin.domain.errors import TrainingError, ZhiyinWarning
from zhiyin.language.lexical import sparse_from_parts, sparse_parts
from zhiyin.sources.item_walk import strongest_event, walked
from zhiyin.sources.preferences import NO_WEIGHTS, Preferences, relative_weights
from zhiyin.training.selection import sample_examples, validation_ndcg

DECAYS_TRIED = (0.8, 0.6, 0.4, 0.9, 1.0)
"""What ``auto`` chooses ``history_decay`` from; the first where there is no validation."""
L2_TRIED = (100.0, 30.0, 300.0, 1000.0)
"""What ``auto`` chooses ``l2`` from; the first where there is no validation."""
_ITEMS_TO_CHOOSE_ON = 3000
_EXAMPLES_TO_CHOOSE_ON = 2000
_BYTES_A_CELL = 4
_ROWS_AT_ONCE = 512


class EaseConfig(Config):
    """Settings of `Ease`."""

    l2: PositiveFloat | Literal["auto"] = "auto"
    """Penalty on squared weights; ``auto`` is chosen on validation, with the 3,000 most frequent items."""
    history_decay: Probability | Literal["auto"] = "auto"
    """What each step back in the history is multiplied by when asked; ``auto`` is chosen on validation."""
    history_length: PositiveInt = 200
    """Newest events of a history that are looked at, when training and when asked."""
    n_neighbours: PositiveInt = 500
    """Weights kept of each item, the largest by their amount."""
    memory_mb: PositiveInt = 1000
    """Largest matrix that training may hold; 4 bytes a pair of items, so 1,000 MB are 15,811 items.

    Of a larger catalogue the most frequent items are kept, and a warning says so."""

    search_space: ClassVar[Mapping[str, SearchRange]] = {
        "l2": Between(10.0, 3000.0, by_ratio=True),
        "history_decay": Between(0.3, 1.0),
        "n_neighbours": Between(50, 2000, by_ratio=True),
    }


class Ease(CandidateSource[EaseConfig]):
    """Predicts whether a user has an item from all other items they have, by a linear model.

    With X (users × items) what users did, B minimises ``|X - XB|² + l2 |B|²`` under a zero diagonal. With
    ``P = (XᵀX + l2 I)⁻¹`` it is ``B[j, i] = -P[j, i] / P[i, i]``. Steck, "Embarrassingly shallow
    autoencoders for sparse data" (2019). The score of i is ``Σ over the history of weight × decay**age ×
    B[item, i]``; only what is pushed above 0 is an opinion.

    X holds the relative weight of the strongest event of a user on an item. Training takes time with the
    cube of the number of items, 20 to 50 s of one core for 12,000.
    """

    name = "ease"
    config_class = EaseConfig

    _weights: sp.csr_array | None = None
    _event_weights: FloatArray = NO_WEIGHTS
    _chosen: EaseConfig | None = None

    @property
    def chosen(self) -> EaseConfig:
        """The settings in force, penalty and decay as they were chosen."""
        return self._chosen or self.config

    def fit(self, training: TrainingData) -> None:
        """Choose the penalty, solve, keep the largest weights, choose the decay."""
        dataset, config = training.dataset, self.config
        self._event_weights = relative_weights(dataset)
        read = Preferences.of(dataset.histories, self._event_weights, length=config.history_length)
        had = read.strongest(dataset.n_items)
        examples = None
        if training.validation is not None and len(training.validation):
            examples = sample_examples(training.validation, _EXAMPLES_TO_CHOOSE_ON, seed=training.seed)
        l2 = self._choose_l2(had, examples, training)
        with training.progress.stage("ease: solving for the weights of items"):
            self._weights = self._solved(had, self._kept(had), l2)
        decay = self._choose_decay(self._weights, examples)
        self._chosen = config.model_copy(update={"l2": l2, "history_decay": decay})

    def score_all(self, queries: Queries) -> FloatArray:
        """Return (B, I) float32 > 0; NaN where the history does not speak for an item."""
        self._require(self._weights)
        assert self._weights is not None
        scores = walked(*self._history(queries), self._weights)
        return np.where(scores > 0, scores, np.float32(np.nan))

    def ask(self, queries: Queries) -> Opinion:
        """Add up the kept weights of the items of the history."""
        self._require(self._weights)
        assert self._weights is not None
        edges = Edges.walked(*self._history(queries), self._weights)
        return edges.opinion(len(queries), self._weights.shape[1])

    @property
    def is_dense(self) -> bool:
        """Only what the history leads to has a score."""
        return False

    def because(self, queries: Queries, item_index: IndexArray) -> IndexArray:
        """Name the item of the history with the largest share in the score."""
        self._require(self._weights)
        assert self._weights is not None
        return strongest_event(*self._history(queries), self._weights, item_index)

    def state(self) -> ComponentState:
        """Return the kept weights and the settings that were chosen."""
        self._require(self._weights)
        arrays = {"event_weights": self._event_weights, **sparse_parts(self._weights)}
        return ComponentState(arrays, {"chosen": self.chosen.model_dump()})

    def restore(self, state: ComponentState) -> None:
        """Take over saved weights."""
        self._weights = sparse_from_parts(state.arrays, "")
        self._event_weights = np.asarray(state.arrays["event_weights"], dtype=np.float32)
        self._chosen = EaseConfig.parse(state.facts["chosen"], where=self.name)

    def _history(self, queries: Queries) -> tuple[Histories, FloatArray]:
        """Return what the queries did and what each event counts."""
        decay = self.chosen.history_decay
        return self._aged(queries, DECAYS_TRIED[0] if decay == "auto" else decay)

    def _aged(self, queries: Queries, decay: float) -> tuple[Histories, FloatArray]:
        length = self.config.history_length
        read = Preferences.of(queries.histories, self._event_weights, length=length)
        return read.events, read.aged(decay)

    def _kept(self, had: sp.csr_array, n_most: int | None = None) -> LongArray:
        """Return the items to learn about, rising: those somebody has, or the most frequent of them."""
        counts = np.bincount(had.indices, minlength=had.shape[1])
        n_held = math.isqrt(self.config.memory_mb * 1_000_000 // _BYTES_A_CELL)
        n_touched = int((counts > 0).sum())
        if n_most is None and n_touched > n_held:
            warnings.warn(
                f"ease: {n_touched} items need {n_touched**2 * _BYTES_A_CELL // 1_000_000} MB; the "
                f"{n_held} most frequent are kept within memory_mb = {self.config.memory_mb}, of the others "
                "it has no opinion. Raise sources.ease.memory_mb, or take `als`, which grows with the "
                "catalogue.",
                ZhiyinWarning,
                stacklevel=3,
            )
        n_kept = min(n_touched, n_held, n_most or n_touched)
        return np.sort(np.argsort(-counts, kind="stable")[:n_kept])

    def _solved(self, had: sp.csr_array, kept: LongArray, l2: float) -> sp.csr_array:
        """Return the (I, I) largest weights from the (U, I) matrix, learned on the kept items."""
        n_items = had.shape[1]
        if not len(kept):
            return sp.csr_array((n_items, n_items), dtype=np.float32)
        narrow = item_weights(sp.csr_array(had[:, kept]), l2, n_neighbours=self.config.n_neighbours)
        cells = sp.coo_array(narrow)
        return sp.csr_array((cells.data, (kept[cells.row], kept[cells.col])), shape=(n_items, n_items))

    def _choose_l2(self, had: sp.csr_array, examples: Examples | None, training: TrainingData) -> float:
        if self.config.l2 != "auto":
            return self.config.l2
        if examples is None:
            return L2_TRIED[0]
        kept = self._kept(had, _ITEMS_TO_CHOOSE_ON)
        decay, best = 0.0, (-1.0, L2_TRIED[0])
        for l2 in training.progress.track(L2_TRIED, "ease: choosing the penalty"):
            weights = self._solved(had, kept, l2)
            decay = decay or self._choose_decay(weights, examples)
            best = max(best, (self._quality(weights, decay, examples), l2), key=lambda pair: pair[0])
        return best[1]

    def _choose_decay(self, weights: sp.csr_array, examples: Examples | None) -> float:
        if self.config.history_decay != "auto":
            return self.config.history_decay
        if examples is None:
            return DECAYS_TRIED[0]
        return max(DECAYS_TRIED, key=lambda decay: self._quality(weights, decay, examples))

    def _quality(self, weights: sp.csr_array, decay: float, examples: Examples) -> float:
        return validation_ndcg(lambda queries: walked(*self._aged(queries, decay), weights), examples)


def item_weights(had: sp.csr_array, l2: float, *, n_neighbours: int) -> sp.csr_array:
    """Solve for the weights that predict each item from the others.

    Only one dense matrix of I × I float32 is held: the products of the items are inverted in place, by
    their Cholesky factor.

    Args:
        had: (U, I) sparse float32, what each user has.
        l2: Above 0.
        n_neighbours: Weights kept in each row, the largest by their amount.

    Returns:
        (I, I) sparse float32, row j holding what item j says about the others.

    Raises:
        TrainingError: when the products cannot be inverted in single precision.
    """
    inverse = _inverse(had, l2)
    diagonal = inverse.diagonal().copy()
    n_items = len(diagonal)
    blocks = []
    for start in range(0, n_items, _ROWS_AT_ONCE):
        rows = np.arange(start, min(start + _ROWS_AT_ONCE, n_items))
        stop = start + len(rows)
        # Only the lower triangle is there: what is missing of a row stands in a column.
        weights = np.hstack([inverse[start:stop, :start], inverse[start:, start:stop].T])
        inside = np.tril(weights[:, start:stop].T)
        weights[:, start:stop] = inside + np.tril(inside, -1).T
        weights /= -diagonal
        weights[np.arange(len(rows)), rows] = 0.0
        blocks.append(_largest(weights, n_neighbours))
    return sp.csr_array(sp.vstack(blocks, format="csr"), dtype=np.float32)


def _inverse(had: sp.csr_array, l2: float) -> FloatArray:
    """Return the (I, I) inverse of XᵀX + l2 in its lower triangle; what stands above is of no use."""
    n_items = had.shape[1]
    by_item = sp.csr_array(had.T)
    products = np.empty((n_items, n_items), dtype=np.float32, order="F")
    for start in range(0, n_items, _ROWS_AT_ONCE):
        some = slice(start, min(start + _ROWS_AT_ONCE, n_items))
        products[:, some] = (by_item[some] @ had).toarray().T
    products[np.diag_indices(n_items)] += np.float32(l2)
    factor, failed = lapack.spotrf(products, lower=1, clean=0, overwrite_a=1)
    if failed:
        raise TrainingError(
            f"ease: the items cannot be told apart with an l2 of {l2:g}.",
            remedy="Set sources.ease.l2 to a larger number, or to auto.",
        )
    inverse: FloatArray = lapack.spotri(factor, lower=1, overwrite_c=1)[0]
    return inverse


def _largest(weights: FloatArray, n: int) -> sp.csr_array:
    """Return the ``n`` largest by amount of each row, those that are 0 left out."""
    amounts = np.abs(weights)
    if n < weights.shape[1]:
        bound = -np.partition(-amounts, n - 1, axis=1)[:, n - 1 : n]
        weights = np.where(amounts >= bound, weights, np.float32(0))
    return sp.csr_array(weights)
