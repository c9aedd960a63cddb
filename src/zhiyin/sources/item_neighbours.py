"""What people who took this also took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from pydantic import NonNegativeFloat, PositiveInt

from zhiyin.contracts import (
    AnyOf,
    Between,
    CandidateSource,
    ComponentState,
    Config,
    Edges,
    Opinion,
    Probability,
    SearchRange,
    Steps,
    TrainingData,
)
from zhiyin.domain import FloatArray, Histories, Queries
from zhiyin.sources.recent_pairs import RecentPairs
from zhiyin.training.recent_counts import Doubles, RecentCounts
from zhiyin.training.selection import sample_examples, validation_ndcg

DECAYS_TRIED = (1.0, 0.9, 0.75, 0.6, 0.4)
"""What ``auto`` chooses from."""
_EXAMPLES_TO_CHOOSE_ON = 2000
_ITEMS_AT_ONCE = 1024
"""Rows of the co-occurrence matrix that are in memory at once before they are pruned."""


class ItemNeighboursConfig(Config):
    """Settings of `ItemNeighbours`."""

    similarity: Literal["cosine", "jaccard", "conditional"] = "cosine"
    """How co-occurrence becomes likeness; see `ItemNeighbours`."""
    shrinkage: NonNegativeFloat = 5.0
    """Co-occurrences that count as none: a pair seen c times keeps c / (c + shrinkage) of its likeness."""
    user_damping: Probability = 0.0
    """How much less a pair counts in a long history: n items weigh it by n ** -damping."""
    n_neighbours: PositiveInt = 200
    """Neighbours kept of each item."""
    history_length: PositiveInt = 50
    """Newest events of a history that are looked at, when training and when asked."""
    history_decay: Probability | Literal["auto"] = "auto"
    """What each step back in the history is multiplied by; ``auto`` is chosen on validation."""

    search_space: ClassVar[Mapping[str, SearchRange]] = {
        "similarity": AnyOf(("cosine", "jaccard", "conditional")),
        "shrinkage": Between(0.5, 100.0, by_ratio=True),
        "user_damping": Between(0.0, 1.0),
        "n_neighbours": Between(20, 500, by_ratio=True),
        "history_length": Between(5, 200, by_ratio=True),
    }


class ItemNeighbours(CandidateSource[ItemNeighboursConfig]):
    """Item-based collaborative filtering over whole histories, their order aside.

    With c(a, b) the weighted number of users who have both and c(a) those who have a, the likeness of b to
    a is one of::

        cosine       c(a, b) / sqrt(c(a) c(b))         Sarwar et al. 2001
        jaccard      c(a, b) / (c(a) + c(b) - c(a, b))
        conditional  c(a, b) / c(a)                    Deshpande and Karypis 2004

    times c(a, b) / (c(a, b) + shrinkage), the ``n_neighbours`` largest of each a being kept. The score of b
    is ``Σ over the history of decay**age × likeness(item, b)``; no opinion (NaN) where no item leads to b.
    """

    name = "item_neighbours"
    config_class = ItemNeighboursConfig
    absorbs_events: ClassVar[bool] = True

    _likeness: sp.csr_array | None = None
    _since: RecentPairs | None = None
    _decay: float = 1.0

    @property
    def chosen(self) -> ItemNeighboursConfig:
        """The settings in force, the decay as it was chosen."""
        return self.config.model_copy(update={"history_decay": self._decay})

    def fit(self, training: TrainingData) -> None:
        """Count who has what together, prune, and choose the decay."""
        taken = _taken(training.dataset.histories, training.dataset.n_items, self.config)
        with training.progress.stage("item neighbours: counting pairs"):
            self._likeness, counts = _likeness(taken, self.config)
            self._since = RecentPairs(counts, np.asarray(taken.weighted.sum(axis=0)).astype(np.float32))
        self._decay = self._choose_decay(training, self._likeness)

    def score_all(self, queries: Queries) -> FloatArray:
        """Return (B, I) float32 > 0; NaN where no item of the history leads to another."""
        self._require(self._likeness)
        assert self._likeness is not None
        scores = self._walk(queries, self._likeness, self._decay)
        recent, weights = self._recent(queries)
        since = self._edges_since(recent, weights, self._likeness)
        np.add.at(scores, (since.row, since.item), since.weight)
        return np.where(scores > 0, scores, np.float32(np.nan))

    def ask(self, queries: Queries) -> Opinion:
        """Walk from the history to its neighbours, without looking at the rest of the catalogue."""
        self._require(self._likeness)
        assert self._likeness is not None
        recent, weights = self._recent(queries)
        edges = Edges.walked(recent, weights, self._likeness)
        edges = edges.joined(self._edges_since(recent, weights, self._likeness))
        return edges.opinion(len(recent), self._likeness.shape[1])

    @property
    def is_dense(self) -> bool:
        """Only what is reached from the history has a score."""
        return False

    def absorb(self, steps: Steps) -> None:
        """Count pairs of new events; see `RecentPairs` for what waits until the next training."""
        self._require(self._since)
        assert self._since is not None
        steps = steps.on_items(len(self._since.of_items))
        if len(steps):
            reach, damping = self.config.history_length, self.config.user_damping
            self._since = self._since.plus(steps, reach=reach, damping=damping)

    def state(self) -> ComponentState:
        """Return the pruned likenesses, their counts and the decay."""
        self._require(self._likeness)
        assert self._likeness is not None
        assert self._since is not None
        arrays: dict[str, npt.NDArray[np.generic]] = {
            "data": self._likeness.data,
            "indices": self._likeness.indices,
            "indptr": self._likeness.indptr,
            "counts": self._since.counts.data,
            "of_items": self._since.of_items,
        }
        for name, counts in (("pairs", self._since.pairs), ("takers", self._since.takers)):
            arrays[f"{name}.keys"], arrays[f"{name}.units"] = counts.merged()
        return ComponentState(arrays, {"history_decay": self._decay})

    def restore(self, state: ComponentState) -> None:
        """Take over saved likenesses."""
        arrays = state.arrays
        n_items = len(arrays["indptr"]) - 1
        parts = (arrays["data"].astype(np.float32), arrays["indices"], arrays["indptr"])
        self._likeness = sp.csr_array(parts, shape=(n_items, n_items))
        counts = sp.csr_array((arrays["counts"].astype(np.float32), *parts[1:]), shape=(n_items, n_items))
        pairs, takers = (
            RecentCounts.of_run(arrays[f"{name}.keys"], arrays[f"{name}.units"])
            for name in ("pairs", "takers")
        )
        self._since = RecentPairs(counts, arrays["of_items"].astype(np.float32), pairs, takers)
        self._decay = float(state.facts["history_decay"])

    def _recent(self, queries: Queries) -> tuple[Histories, FloatArray]:
        recent = queries.histories.newest(self.config.history_length)
        return recent, np.float32(self._decay) ** recent.age_of_event.astype(np.float32)

    def _edges_since(self, recent: Histories, weights: FloatArray, likeness: sp.csr_array) -> Edges:
        assert self._since is not None
        config = self.config

        def alike(together: Doubles, of_row: Doubles, of_column: Doubles) -> Doubles:
            return _alike(together, of_row, of_column, config).astype(np.float64)

        return self._since.edges(recent, weights, likeness, alike)

    def _choose_decay(self, training: TrainingData, likeness: sp.csr_array) -> float:
        if self.config.history_decay != "auto":
            return self.config.history_decay
        if training.validation is None:
            return DECAYS_TRIED[2]
        examples = sample_examples(training.validation, _EXAMPLES_TO_CHOOSE_ON, seed=training.seed)

        def ndcg(decay: float) -> float:
            return validation_ndcg(lambda queries: self._walk(queries, likeness, decay), examples)

        return max(DECAYS_TRIED, key=ndcg)

    def _walk(self, queries: Queries, likeness: sp.csr_array, decay: float) -> FloatArray:
        recent = queries.histories.newest(self.config.history_length)
        weights = np.float32(decay) ** recent.age_of_event.astype(np.float32)
        known = recent.item_index < likeness.shape[0]
        places = (recent.row_of_event[known], recent.item_index[known])
        start = sp.csr_array((weights[known], places), shape=(len(recent), likeness.shape[0]))
        scores: FloatArray = (start @ likeness).toarray().astype(np.float32, copy=False)
        return scores


@dataclass(frozen=True)
class _Taken:
    """Who has what.

    Attributes:
        weighted: (U, I) sparse float32, the weight of the user at each item they have.
        plain: (U, I) sparse float32, 1 at each item they have.
    """

    weighted: sp.csr_array
    plain: sp.csr_array


def _taken(histories: Histories, n_items: int, config: ItemNeighboursConfig) -> _Taken:
    recent = histories.newest(config.history_length)
    places = (recent.row_of_event, recent.item_index)
    plain = sp.csr_array((np.ones(recent.n_events, np.float32), places), shape=(len(recent), n_items))
    plain.sum_duplicates()
    plain.data[:] = 1.0
    n_of_user = np.diff(plain.indptr)
    weighted = plain.copy()
    user_weights = np.maximum(n_of_user, 1).astype(np.float32) ** np.float32(-config.user_damping)
    weighted.data = np.repeat(user_weights, n_of_user)
    return _Taken(weighted, plain)


def _likeness(taken: _Taken, config: ItemNeighboursConfig) -> tuple[sp.csr_array, sp.csr_array]:
    """Return likenesses and the counts behind them, (I, I) sparse float32 of the same cells."""
    n_items = taken.plain.shape[1]
    n_of_item = np.asarray(taken.weighted.sum(axis=0)).astype(np.float32)
    by_item = sp.csr_array(taken.weighted.T)
    blocks = [
        _pruned(by_item[start : start + _ITEMS_AT_ONCE] @ taken.plain, start, n_of_item, config)
        for start in range(0, n_items, _ITEMS_AT_ONCE)
    ]
    likeness, counts = (
        sp.csr_array(sp.vstack(part, format="csr"), dtype=np.float32) for part in zip(*blocks, strict=True)
    )
    return likeness, counts


def _pruned(
    together: sp.csr_array, first_item: int, n_of_item: FloatArray, config: ItemNeighboursConfig
) -> tuple[sp.csr_array, sp.csr_array]:
    """Turn counts of a few rows into likenesses, and keep the largest of each row.

    Args:
        together: (M, I) sparse, counts of pairs for items ``first_item`` to ``first_item + M``.
        first_item: The item of the first row.
        n_of_item: (I,) float32, how many have each item.
        config: Similarity, shrinkage, neighbours.
    """
    pairs = sp.coo_array(together)
    apart = pairs.row + first_item != pairs.col
    row, column, count = pairs.row[apart], pairs.col[apart], pairs.data[apart]
    of_row, of_column = n_of_item[row + first_item], n_of_item[column]
    alike = _alike(count, of_row, of_column, config)
    order = np.lexsort((column, -alike, row))
    row = row[order]
    starts = np.searchsorted(row, np.arange(together.shape[0]))
    place = np.arange(len(row)) - starts[row]
    kept = order[place < config.n_neighbours]
    cells = (pairs.row[apart][kept], column[kept])
    matrices = (
        sp.csr_array((values[kept].astype(np.float32), cells), shape=together.shape)
        for values in (alike, count)
    )
    likeness, counts = matrices
    likeness.sort_indices()
    counts.sort_indices()
    return likeness, counts


def _alike(
    count: npt.NDArray[np.floating],
    of_row: npt.NDArray[np.floating],
    of_column: npt.NDArray[np.floating],
    config: ItemNeighboursConfig,
) -> npt.NDArray[np.floating]:
    """Return (n,) likenesses of pairs from how often both, the first and the second were taken."""
    if config.similarity == "cosine":
        alike = count / np.sqrt(of_row * of_column)
    elif config.similarity == "jaccard":
        alike = count / (of_row + of_column - count)
    else:
        alike = count / of_row
    return alike * (count / (count + np.float32(config.shrinkage)))
