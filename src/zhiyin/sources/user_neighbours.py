"""What people with a like history took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import scipy.sparse as sp
from pydantic import NonNegativeFloat, PositiveInt

from zhiyin.contracts import (
    AnyOf,
    Between,
    CandidateSource,
    ComponentState,
    Config,
    Opinion,
    Probability,
    SearchRange,
    SparseOpinion,
    TrainingData,
    best_positions,
)
from zhiyin.domain import PAD, FloatArray, IndexArray, Queries
from zhiyin.language.lexical import sparse_from_parts, sparse_parts
from zhiyin.sources.item_walk import strongest_of_rows
from zhiyin.sources.preferences import NO_WEIGHTS, Preferences, relative_weights
from zhiyin.training.selection import sample_examples, validation_ndcg

DECAYS_TRIED = (0.8, 0.6, 0.4, 0.9, 1.0)
"""What ``auto`` chooses ``history_decay`` from; the first where there is no validation."""
_EXAMPLES_TO_CHOOSE_ON = 1000


class UserNeighboursConfig(Config):
    """Settings of `UserNeighbours`."""

    similarity: Literal["cosine", "jaccard", "conditional"] = "cosine"
    """How what two people share becomes likeness; see `UserNeighbours`."""
    shrinkage: NonNegativeFloat = 0.0
    """Shared items that count as none: who shares c items keeps c / (c + shrinkage) of the likeness."""
    item_damping: Probability = 0.0
    """How much less it says to share an item that many have: one with n takers weighs n ** -damping."""
    n_neighbours: PositiveInt = 200
    """Most like people whose items are proposed."""
    users_per_item: PositiveInt = 2000
    """People looked up for each item of the history, those to whom it matters most; bounds the time."""
    history_length: PositiveInt = 100
    """Newest events of a history that are looked at, when training and when asked."""
    history_decay: Probability | Literal["auto"] = "auto"
    """What each step back in the asked history is multiplied by; ``auto`` is chosen on validation."""

    search_space: ClassVar[Mapping[str, SearchRange]] = {
        "similarity": AnyOf(("cosine", "jaccard", "conditional")),
        "shrinkage": Between(0.0, 20.0),
        "item_damping": Between(0.0, 1.0),
        "n_neighbours": Between(20, 1000, by_ratio=True),
        "history_decay": Between(0.3, 1.0),
    }


class UserNeighbours(CandidateSource[UserNeighboursConfig]):
    """User-based collaborative filtering: finds the people whose histories are most like the one asked with.

    With q the asked history and x that of another person, as weights of items (relative event weights, q
    times ``history_decay ** age``), and ``q·x = Σ_i q_i x_i n_i ** -item_damping``, they are alike by::

        cosine       q·x / sqrt(q·q x·x)          Breese et al. 1998
        jaccard      q·x / (q·q + x·x - q·x)      Tanimoto 1958
        conditional  q·x / q·q

    times c / (c + shrinkage) for c shared items. The score of an item is the sum, over the ``n_neighbours``
    most like people, of likeness × the weight it has with them. People are found through a list of takers of
    each item; who is asked for is never their own neighbour. No two people are compared that share nothing.

    People are compared by the history of the request: a new one, and an event of a moment ago, count at
    once. What neighbours do counts from the next training on.
    """

    name = "user_neighbours"
    config_class = UserNeighboursConfig

    _people: _People | None = None
    _event_weights: FloatArray = NO_WEIGHTS
    _decay: float = DECAYS_TRIED[0]

    @property
    def chosen(self) -> UserNeighboursConfig:
        """The settings in force, the decay as it was chosen."""
        return self.config.model_copy(update={"history_decay": self._decay})

    def fit(self, training: TrainingData) -> None:
        """Read who has what, make the lists of takers, and choose the decay."""
        dataset, config = training.dataset, self.config
        self._event_weights = relative_weights(dataset)
        with training.progress.stage("user neighbours: listing who has what"):
            read = Preferences.of(dataset.histories, self._event_weights, length=config.history_length)
            self._people = _People.of(read.strongest(dataset.n_items), config)
        self._decay = self._choose_decay(training)

    def score_all(self, queries: Queries) -> FloatArray:
        """Return (B, I) float32 > 0; NaN for what no neighbour has."""
        self._require(self._people)
        scores = self._votes(queries, self._decay).toarray()
        return np.where(scores > 0, scores, np.float32(np.nan))

    def ask(self, queries: Queries) -> Opinion:
        """Add up what the neighbours have, without looking at the rest of the catalogue."""
        self._require(self._people)
        votes = self._votes(queries, self._decay)
        votes.sort_indices()
        n_queries, n_items = votes.shape
        row = np.repeat(np.arange(n_queries, dtype=np.int64), np.diff(votes.indptr))
        heard = votes.data > 0
        cell = row[heard] * n_items + votes.indices[heard]
        return SparseOpinion(n_queries, n_items, cell, votes.data[heard])

    @property
    def is_dense(self) -> bool:
        """Only what neighbours have has a score."""
        return False

    def because(self, queries: Queries, item_index: IndexArray) -> IndexArray:
        """Name the event that brought most of the neighbours who have the item."""
        self._require(self._people)
        assert self._people is not None
        people = self._people
        asked = self._asked(queries, self._decay)
        neighbours = people.nearest(asked, queries.user_index, self.config)
        row = np.repeat(np.arange(len(queries), dtype=np.int64), np.diff(asked.indptr))
        parts = np.zeros((len(row), item_index.shape[1]), dtype=np.float32)
        inside = np.clip(item_index, 0, asked.shape[1] - 1)
        for query in range(len(queries)):  # explanations are asked for one user at a time
            mine = slice(int(asked.indptr[query]), int(asked.indptr[query + 1]))
            who = slice(int(neighbours.indptr[query]), int(neighbours.indptr[query + 1]))
            theirs = people.had[neighbours.indices[who]]
            items = asked.indices[mine]
            shared = theirs[:, items].toarray() * (asked.data[mine] * people.item_weights[items])
            parts[mine] = shared.T @ (theirs[:, inside[query]].toarray() * neighbours.data[who][:, None])
        parts[(item_index != inside)[row]] = 0.0
        return strongest_of_rows(parts, row, asked.indices, len(queries))

    def state(self) -> ComponentState:
        """Return who has what, and the decay."""
        self._require(self._people)
        assert self._people is not None
        arrays = {"event_weights": self._event_weights, **sparse_parts(self._people.had)}
        return ComponentState(arrays, {"history_decay": self._decay})

    def restore(self, state: ComponentState) -> None:
        """Take over who has what; the lists of takers follow from it."""
        self._people = _People.of(sparse_from_parts(state.arrays, ""), self.config)
        self._event_weights = np.asarray(state.arrays["event_weights"], dtype=np.float32)
        self._decay = float(state.facts["history_decay"])

    def _votes(self, queries: Queries, decay: float) -> sp.csr_array:
        assert self._people is not None
        asked = self._asked(queries, decay)
        neighbours = self._people.nearest(asked, queries.user_index, self.config)
        return sp.csr_array(neighbours @ self._people.had, dtype=np.float32)

    def _asked(self, queries: Queries, decay: float) -> sp.csr_array:
        assert self._people is not None
        length = self.config.history_length
        read = Preferences.of(queries.histories, self._event_weights, length=length)
        return read.strongest(self._people.had.shape[1], decay=decay)

    def _choose_decay(self, training: TrainingData) -> float:
        if self.config.history_decay != "auto":
            return self.config.history_decay
        if training.validation is None:
            return DECAYS_TRIED[0]
        examples = sample_examples(training.validation, _EXAMPLES_TO_CHOOSE_ON, seed=training.seed)

        def ndcg(decay: float) -> float:
            return validation_ndcg(lambda queries: self._votes(queries, decay).toarray(), examples)

        return max(DECAYS_TRIED, key=ndcg)


@dataclass(frozen=True, eq=False)
class _People:
    """Who has what, and for each item who has it.

    Attributes:
        had: (U, I) sparse float32 > 0.
        takers: (I, U) sparse float32: weight of the item with the person, times ``item_weights``.
        item_weights: (I,) float32, what it says to share an item.
        lengths: (U,) float32, x·x.
    """

    had: sp.csr_array
    takers: sp.csr_array
    item_weights: FloatArray
    lengths: FloatArray

    @classmethod
    def of(cls, had: sp.csr_array, config: UserNeighboursConfig) -> _People:
        """List the takers of each item, the ``users_per_item`` to whom it matters most."""
        n_takers = np.bincount(had.indices, minlength=had.shape[1])
        item_weights = np.maximum(n_takers, 1).astype(np.float32) ** np.float32(-config.item_damping)
        lengths = (had * had) @ item_weights
        by_item = sp.csr_array(had.T)
        by_item.sort_indices()
        row = np.repeat(np.arange(had.shape[1]), np.diff(by_item.indptr))
        # A weight so small that its square is 0 in float32 makes no length.
        matters = by_item.data / np.sqrt(np.maximum(lengths[by_item.indices], np.finfo(np.float32).tiny))
        order = np.lexsort((by_item.indices, -matters, row))
        place = np.arange(len(row)) - by_item.indptr[row]
        kept = np.sort(order[place < config.users_per_item])
        cells = (row[kept], by_item.indices[kept])
        values = by_item.data[kept] * item_weights[row[kept]]
        takers = sp.csr_array((values, cells), shape=by_item.shape, dtype=np.float32)
        return cls(had, takers, item_weights, np.asarray(lengths, dtype=np.float32))

    def nearest(
        self, asked: sp.csr_array, user_index: IndexArray, config: UserNeighboursConfig
    ) -> sp.csr_array:
        """Return (B, U) sparse float32 > 0, the likeness of the most like people to (B, I) histories."""
        shared = sp.csr_array(asked @ self.takers)
        shared.sort_indices()
        row = np.repeat(np.arange(shared.shape[0]), np.diff(shared.indptr))
        likeness = self._likeness(asked, shared, row, config)
        if config.shrinkage:
            n_shared = sp.csr_array(_ones(asked) @ _ones(self.takers))
            n_shared.sort_indices()
            likeness *= n_shared.data / (n_shared.data + np.float32(config.shrinkage))
        likeness[shared.indices == user_index[row]] = 0.0
        ragged = np.zeros((shared.shape[0], int(np.diff(shared.indptr).max(initial=0))), dtype=np.float32)
        ragged[row, np.arange(len(row)) - shared.indptr[row]] = likeness
        best = best_positions(ragged, config.n_neighbours, above=0.0)
        kept_row, column = np.nonzero(best != PAD)
        kept = shared.indptr[kept_row] + best[kept_row, column]
        cells = (kept_row, shared.indices[kept])
        return sp.csr_array((likeness[kept], cells), shape=shared.shape, dtype=np.float32)

    def _likeness(
        self, asked: sp.csr_array, shared: sp.csr_array, row: IndexArray, config: UserNeighboursConfig
    ) -> FloatArray:
        of_asked = np.asarray((asked * asked) @ self.item_weights)[row]
        of_other = self.lengths[shared.indices]
        if config.similarity == "cosine":
            norm = np.sqrt(of_asked * of_other)
        elif config.similarity == "jaccard":
            norm = of_asked + of_other - shared.data
        else:
            norm = of_asked
        likeness: FloatArray = shared.data / np.maximum(norm, np.finfo(np.float32).tiny)
        return likeness


def _ones(matrix: sp.csr_array) -> sp.csr_array:
    parts = (np.ones(matrix.nnz, dtype=np.float32), matrix.indices, matrix.indptr)
    return sp.csr_array(parts, shape=matrix.shape)
