"""What people who took this also took."""

from __future__ import annotations

from collections.abc import Mapping
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
from zhiyin.domain import FloatArray, Histories, IndexArray, Queries
from zhiyin.sources.item_walk import strongest_event, walked
from zhiyin.sources.likeness import Likeness, Similarity, likeness_of
from zhiyin.sources.preferences import NO_WEIGHTS, Preferences, relative_weights
from zhiyin.sources.recent_pairs import RecentPairs
from zhiyin.training.recent_counts import Doubles, RecentCounts
from zhiyin.training.selection import sample_examples, validation_ndcg

DECAYS_TRIED = (1.0, 0.9, 0.75, 0.6, 0.4)
"""What ``auto`` chooses from."""
_EXAMPLES_TO_CHOOSE_ON = 2000


class ItemNeighboursConfig(Config):
    """Settings of `ItemNeighbours`."""

    similarity: Similarity = "cosine"
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
        "similarity": AnyOf(("cosine", "jaccard", "conditional", "lift")),
        "shrinkage": Between(0.5, 100.0, by_ratio=True),
        "user_damping": Between(0.0, 1.0),
        "n_neighbours": Between(20, 500, by_ratio=True),
        "history_length": Between(5, 200, by_ratio=True),
    }


class ItemNeighbours(CandidateSource[ItemNeighboursConfig]):
    """Item-based collaborative filtering over whole histories, their order aside.

    With r(u, a) the relative weight of the strongest event of user u on item a, from 0 to 1, and c(a, b) =
    ``Σ_u r(u, a) r(u, b)``, the likeness of b to a is one of::

        cosine       c(a, b) / sqrt(c(a, a) c(b, b))             Sarwar et al. 2001
        jaccard      c(a, b) / (c(a, a) + c(b, b) - c(a, b))     Tanimoto 1958
        conditional  c(a, b) / Σ_u r(u, a)                       Deshpande and Karypis 2004
        lift         c(a, b) n_users / (Σ_u r(u, a) Σ_u r(u, b)) Brin et al. 1997

    times c(a, b) / (c(a, b) + shrinkage), the ``n_neighbours`` largest of each a being kept. Where all events
    weigh alike, c(a, b) is the number of users who have both. The score of b is ``Σ over the history of
    weight × decay**age × likeness(item, b)``; no opinion (NaN) where no item leads to b.
    """

    name = "item_neighbours"
    config_class = ItemNeighboursConfig
    absorbs_events: ClassVar[bool] = True

    _likeness: sp.csr_array | None = None
    _since: RecentPairs | None = None
    _event_weights: FloatArray = NO_WEIGHTS
    _n_users: int = 1
    _decay: float = 1.0

    @property
    def chosen(self) -> ItemNeighboursConfig:
        """The settings in force, the decay as it was chosen."""
        return self.config.model_copy(update={"history_decay": self._decay})

    def fit(self, training: TrainingData) -> None:
        """Count who has what together, prune, and choose the decay."""
        dataset, config = training.dataset, self.config
        self._event_weights = relative_weights(dataset)
        read = Preferences.of(dataset.histories, self._event_weights, length=config.history_length)
        had = read.strongest(dataset.n_items)
        self._n_users = max(1, int((np.diff(had.indptr) > 0).sum()))
        with training.progress.stage("item neighbours: counting pairs"):
            self._likeness, counts, of_items = likeness_of(
                had, self._measure, damping=config.user_damping, n_neighbours=config.n_neighbours
            )
            self._since = RecentPairs(counts, of_items)
        self._decay = self._choose_decay(training, self._likeness)

    def score_all(self, queries: Queries) -> FloatArray:
        """Return (B, I) float32 > 0; NaN where no item of the history leads to another."""
        self._require(self._likeness)
        assert self._likeness is not None
        recent, weights = self._recent(queries, self._decay)
        scores = walked(recent, weights, self._likeness)
        since = self._edges_since(recent, weights, self._likeness)
        np.add.at(scores, (since.row, since.item), since.weight)
        return np.where(scores > 0, scores, np.float32(np.nan))

    def ask(self, queries: Queries) -> Opinion:
        """Walk from the history to its neighbours, without looking at the rest of the catalogue."""
        self._require(self._likeness)
        assert self._likeness is not None
        recent, weights = self._recent(queries, self._decay)
        edges = Edges.walked(recent, weights, self._likeness)
        edges = edges.joined(self._edges_since(recent, weights, self._likeness))
        return edges.opinion(len(recent), self._likeness.shape[1])

    @property
    def is_dense(self) -> bool:
        """Only what is reached from the history has a score."""
        return False

    def because(self, queries: Queries, item_index: IndexArray) -> IndexArray:
        """Name the item of the history with the largest trained likeness, aged, to each item."""
        self._require(self._likeness)
        assert self._likeness is not None
        return strongest_event(*self._recent(queries, self._decay), self._likeness, item_index)

    def absorb(self, steps: Steps) -> None:
        """Count pairs of new events; see `RecentPairs` for what waits until the next training."""
        self._require(self._since)
        assert self._since is not None
        steps = steps.on_items(len(self._since.of_items))
        if len(steps):
            self._since = self._since.plus(
                steps,
                self._event_weights,
                reach=self.config.history_length,
                damping=self.config.user_damping,
                power=self._measure.power,
            )

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
            "event_weights": self._event_weights,
        }
        for name, counts in (("pairs", self._since.pairs), ("takers", self._since.takers)):
            arrays[f"{name}.keys"], arrays[f"{name}.units"] = counts.merged()
        return ComponentState(arrays, {"history_decay": self._decay, "n_users": self._n_users})

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
        self._event_weights = np.asarray(arrays.get("event_weights", NO_WEIGHTS), dtype=np.float32)
        self._n_users = int(state.facts.get("n_users", 1))
        self._decay = float(state.facts["history_decay"])

    @property
    def _measure(self) -> Likeness:
        return Likeness(self.config.similarity, self.config.shrinkage, self._n_users)

    def _recent(self, queries: Queries, decay: float) -> tuple[Histories, FloatArray]:
        """Return the newest events of the queries, and what each counts."""
        length = self.config.history_length
        read = Preferences.of(queries.histories, self._event_weights, length=length)
        return read.events, read.aged(decay)

    def _edges_since(self, recent: Histories, weights: FloatArray, likeness: sp.csr_array) -> Edges:
        assert self._since is not None
        measure = self._measure

        def alike(together: Doubles, of_row: Doubles, of_column: Doubles) -> Doubles:
            return measure.of(together, of_row, of_column).astype(np.float64)

        return self._since.edges(recent, weights, likeness, alike)

    def _choose_decay(self, training: TrainingData, likeness: sp.csr_array) -> float:
        if self.config.history_decay != "auto":
            return self.config.history_decay
        if training.validation is None:
            return DECAYS_TRIED[2]
        examples = sample_examples(training.validation, _EXAMPLES_TO_CHOOSE_ON, seed=training.seed)

        def ndcg(decay: float) -> float:
            return validation_ndcg(lambda queries: walked(*self._recent(queries, decay), likeness), examples)

        return max(DECAYS_TRIED, key=ndcg)
