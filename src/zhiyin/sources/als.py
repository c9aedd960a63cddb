"""Factors of users and items from implicit feedback, by alternating least squares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from pydantic import PositiveFloat, PositiveInt

from zhiyin.contracts import (
    Between,
    CandidateSource,
    ComponentState,
    Config,
    Probability,
    SearchRange,
    TrainingData,
)
from zhiyin.domain import Examples, FloatArray, Histories, IndexArray, Queries
from zhiyin.sources.item_walk import strongest_of_rows
from zhiyin.sources.least_squares import Side, rows_of, solved
from zhiyin.sources.preferences import NO_WEIGHTS, Preferences, relative_weights
from zhiyin.training.selection import sample_examples, validation_ndcg

DECAYS_TRIED = (0.6, 0.4, 0.25, 0.8, 0.9, 1.0)
"""What ``auto`` chooses ``history_decay`` from; the first where there is no validation."""
_EXAMPLES_TO_CHOOSE_ON = 2000
_FIRST_DEVIATION = 0.1


class AlsConfig(Config):
    """Settings of `Als`."""

    n_factors: PositiveInt = 64
    """Length of the vectors of users and items."""
    n_iterations: PositiveInt = 10
    """Times that all users and then all items are solved for."""
    confidence: PositiveFloat = 40.0
    """How much surer an event of full weight makes than no event: by this many times."""
    l2: PositiveFloat = 0.003
    """Penalty on the squared vectors, for each unit of the confidence that a vector has to answer for."""
    history_decay: Probability | Literal["auto"] = "auto"
    """What each step back in the history is multiplied by when asked; ``auto`` is chosen on validation."""
    history_length: PositiveInt = 200
    """Newest events of a history that are looked at, when training and when asked."""

    search_space: ClassVar[Mapping[str, SearchRange]] = {
        "n_factors": Between(16, 256, by_ratio=True),
        "n_iterations": Between(3, 30, by_ratio=True),
        "confidence": Between(1.0, 300.0, by_ratio=True),
        "l2": Between(0.0003, 0.1, by_ratio=True),
        "history_decay": Between(0.3, 1.0),
    }


class Als(CandidateSource[AlsConfig]):
    """Factorises who has what, missing events counting as weak evidence against.

    Hu, Koren and Volinsky, "Collaborative filtering for implicit feedback datasets" (2008): vectors x, y
    minimise ``Σ_ui c_ui (p_ui - x_u·y_i)² + Σ_u λ_u |x_u|² + Σ_i λ_i |y_i|²`` over all pairs, with p = 1
    where there is an event and ``c_ui = 1 + confidence × (summed weights of the events)``. The penalty
    grows with what a vector has to answer for, ``λ_u = l2 × Σ_i c_ui``, so that one l2 fits catalogues of
    any size: Rendle et al., "Revisiting the performance of iALS on item recommendation benchmarks" (2022).

    A user is what their history says: the vector is solved for when asked, with confidences times
    ``history_decay ** age``. So people who are new, and events of a moment ago, are treated like all
    others, and no vector of a user is kept.
    """

    name = "als"
    config_class = AlsConfig

    _items: Side | None = None
    _event_weights: FloatArray = NO_WEIGHTS
    _decay: float = DECAYS_TRIED[0]

    @property
    def chosen(self) -> AlsConfig:
        """The settings in force, the decay as it was chosen."""
        return self.config.model_copy(update={"history_decay": self._decay})

    def fit(self, training: TrainingData) -> None:
        """Solve for users and items in turn, then choose the decay."""
        dataset, config = training.dataset, self.config
        self._event_weights = relative_weights(dataset)
        read = Preferences.of(dataset.histories, self._event_weights, length=config.history_length)
        of_users = self._confidences(read.summed(dataset.n_items))
        of_items = sp.csr_array(of_users.T)
        random = np.random.default_rng(training.seed)
        shape = (dataset.n_items, config.n_factors)
        scale = np.float32(_FIRST_DEVIATION / config.n_factors**0.5)
        items = random.standard_normal(shape, dtype=np.float32) * scale
        for _ in training.progress.track(range(config.n_iterations), "als: solving in turn"):
            users = solved(rows_of(of_users), Side.of(items), l2=config.l2)
            items = solved(rows_of(of_items), Side.of(users), l2=config.l2)
        self._items = Side.of(items)
        self._decay = self._choose_decay(training)

    def score_all(self, queries: Queries) -> FloatArray:
        """Return (B, I) float32; NaN for items nobody had and for histories that say nothing."""
        self._require(self._items)
        return self._scores(queries, self._decay)

    def because(self, queries: Queries, item_index: IndexArray) -> IndexArray:
        """Name the event with the largest part in the score, as in section 5 of the paper.

        ``x·y_i = Σ_j c_j y_jᵀ W y_i`` with W the inverse of the matrix that the vector was solved by.
        """
        self._require(self._items)
        assert self._items is not None
        items = self._items
        rows = rows_of(self._confidences(self._summed(queries, self._decay)))
        inside = np.clip(item_index, 0, len(items.vectors) - 1)
        event_row = rows.row_of_value
        parts = np.zeros((len(event_row), item_index.shape[1]), dtype=np.float32)
        for row in range(len(queries)):  # explanations are asked for one user at a time
            mine = slice(int(rows.offsets[row]), int(rows.offsets[row + 1]))
            if mine.start == mine.stop:
                continue
            matrix = items.matrix_of(rows.items[mine], rows.weights[mine], l2=self.config.l2)
            through = np.linalg.solve(matrix, items.vectors[inside[row]].T)
            parts[mine] = (1 + rows.weights[mine, None]) * (items.vectors[rows.items[mine]] @ through)
        parts[(item_index != inside)[event_row]] = 0.0
        return strongest_of_rows(parts, event_row, rows.items, len(queries))

    def state(self) -> ComponentState:
        """Return the vectors of the items and the decay."""
        self._require(self._items)
        assert self._items is not None
        arrays: dict[str, npt.NDArray[np.generic]] = {
            "items": self._items.vectors,
            "event_weights": self._event_weights,
        }
        return ComponentState(arrays, {"history_decay": self._decay})

    def restore(self, state: ComponentState) -> None:
        """Take over saved vectors."""
        self._items = Side.of(np.asarray(state.arrays["items"], dtype=np.float32))
        self._event_weights = np.asarray(state.arrays["event_weights"], dtype=np.float32)
        self._decay = float(state.facts["history_decay"])

    def _scores(self, queries: Queries, decay: float) -> FloatArray:
        assert self._items is not None
        confidences = self._confidences(self._summed(queries, decay))
        users = solved(rows_of(confidences), self._items, l2=self.config.l2)
        scores: FloatArray = users @ self._items.vectors.T
        scores[~users.any(axis=1)] = np.nan
        scores[:, ~self._items.is_known] = np.nan
        return scores

    def _summed(self, queries: Queries, decay: float) -> sp.csr_array:
        assert self._items is not None
        histories: Histories = queries.histories
        read = Preferences.of(histories, self._event_weights, length=self.config.history_length)
        return read.summed(len(self._items.vectors), decay=decay)

    def _confidences(self, summed: sp.csr_array) -> sp.csr_array:
        return summed * np.float32(self.config.confidence)

    def _choose_decay(self, training: TrainingData) -> float:
        if self.config.history_decay != "auto":
            return self.config.history_decay
        if training.validation is None:
            return DECAYS_TRIED[0]
        examples: Examples = sample_examples(training.validation, _EXAMPLES_TO_CHOOSE_ON, seed=training.seed)

        def ndcg(decay: float) -> float:
            return validation_ndcg(lambda queries: self._scores(queries, decay), examples)

        return max(DECAYS_TRIED, key=ndcg)
