"""The source itself."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
import torch

from zhiyin.contracts import (
    CandidateSource,
    CatalogueLanguage,
    ComponentState,
    DenseOpinion,
    Growth,
    Opinion,
    TrainingData,
)
from zhiyin.domain import PAD, Catalogue, FloatArray, IndexArray, LongArray, Queries
from zhiyin.domain.extras import from_extra
from zhiyin.language.adapting import AdaptedEncoder
from zhiyin.sources.nearest import Indexed, ItemVectors, NearestOpinion, index_state
from zhiyin.sources.two_tower.scoring import user_vectors
from zhiyin.sources.two_tower.settings import TextTwoTowerConfig
from zhiyin.sources.two_tower.trained import TrainedTowers


class TextTwoTower(Indexed, CandidateSource[TextTwoTowerConfig]):
    """Compares what somebody took with what there is, by texts that behaviour taught to read.

    The vector of an item is its text, read by the encoder whose last layers were adapted; the vector of a
    user is the weighted mean of what they last took; the score is the cosine of the two. Adapters are trained
    contrastively: every event of every history is foretold from those before it, among all items. No item
    and no user has a vector of its own, so an item that arrives is served like any other, and somebody
    unknown needs only a history. There is no opinion (NaN) on items without words, nor for histories without
    any item that has words.
    """

    name = "two_tower"
    config_class = TextTwoTowerConfig
    serves_new_items: ClassVar[bool] = True
    reads_vectors: ClassVar[bool] = True

    def __init__(self, config: TextTwoTowerConfig | None = None, **settings: object) -> None:
        super().__init__(config, **settings)
        self.trained: TrainedTowers | None = None
        self._encoder: AdaptedEncoder | None = None
        self._without_words: LongArray = np.empty(0, dtype=np.int64)

    def fit(self, training: TrainingData) -> None:
        """Train until the validation metric stops rising, and keep the best weights.

        Raises:
            TrainingError: when the loss is not a number.
        """
        self._learn(training)

    def refreshed(self, training: TrainingData, growth: Growth) -> Self:
        """Go on from the adapters, on all events.

        Raises:
            TrainingError: when the loss is not a number.
        """
        again = type(self)(self.config)
        again._learn(training, self._ready(), growth)
        return again

    def score_all(self, queries: Queries) -> FloatArray:
        """Return (B, I) float32 cosines; NaN where there are no words to compare."""
        return self._dense(queries).all()

    def ask(self, queries: Queries) -> Opinion:
        """Read the histories once, and hold a cosine for every item, or an index to look them up in."""
        if self._index is None:
            return self._dense(queries)
        trained = self._ready()
        users, is_silent = user_vectors(queries.histories, trained.item_vectors, trained.event_weights)
        return NearestOpinion(self._index, trained.item_vectors, users, is_silent, self._without_words)

    @property
    def item_vectors(self) -> ItemVectors:
        """(I, D) vectors of all items."""
        return self._ready().item_vectors

    def because(self, queries: Queries, item_index: IndexArray) -> IndexArray:
        """Name the item of the history that adds most to the score."""
        trained = self._ready()
        vectors, weights = trained.item_vectors, trained.event_weights
        reasons = np.full(item_index.shape, PAD, dtype=np.int32)
        recent = queries.histories.newest(len(weights))
        for row in range(len(queries)):  # explanations are asked for one user at a time
            events = recent.slice(row, row + 1).item_index
            is_known = events < len(vectors)
            known, weight = events[is_known], weights[: len(events)][::-1][is_known]
            if len(known):
                inside = np.clip(item_index[row], 0, len(vectors) - 1)
                closeness = (vectors[known] @ vectors[inside].T) * weight[:, None]
                is_close = (closeness.max(axis=0) > 0) & (item_index[row] == inside)
                reasons[row] = np.where(is_close, known[closeness.argmax(axis=0)], PAD)
        return reasons

    def add_items(self, new: Catalogue, language: CatalogueLanguage) -> None:
        """Read the texts of new items with the adapted encoder; they are compared like all others.

        Raises:
            ConfigError: when the model that was adapted is not on this machine.
        """
        trained = self._ready()
        if self._encoder is None:
            self._encoder = trained.encoder(language)
        vectors = trained.read(new, language, self._encoder)
        self._index_arrivals(vectors)
        self._take(trained.with_items(vectors))

    def state(self) -> ComponentState:
        """Return item vectors, adapters and what is behind the encoder; the facts name the model."""
        state = self._ready().state()
        return ComponentState({**state.arrays, **index_state(self._index)}, state.facts)

    def restore(self, state: ComponentState) -> None:
        """Take over a saved two-tower; the model is loaded when the first item arrives."""
        self._take(TrainedTowers.from_state(state))
        self._restore_index(state.arrays, self.config.index_above)

    def _learn(
        self, training: TrainingData, before: TrainedTowers | None = None, growth: Growth | None = None
    ) -> None:
        with from_extra("language"):  # Lightning, which those that only answer do without: 170 MB
            from zhiyin.sources.two_tower.fitting import fit_towers  # noqa: PLC0415
        self._take(fit_towers(self.config, training, self.name, before, growth))
        self._build_index(self.config.index_above)

    def _take(self, trained: TrainedTowers) -> None:
        self.trained = trained
        self._without_words = np.flatnonzero(~np.any(trained.item_vectors != 0, axis=1))

    def _dense(self, queries: Queries) -> DenseOpinion:
        trained = self._ready()
        users, is_silent = user_vectors(queries.histories, trained.item_vectors, trained.event_weights)
        # torch multiplies few rows with many columns up to three times faster than numpy's OpenBLAS.
        scores = torch.mm(torch.from_numpy(users), torch.from_numpy(trained.item_vectors).T).numpy()
        scores[is_silent] = -np.inf
        scores[:, self._without_words] = -np.inf
        return DenseOpinion(scores)

    def _ready(self) -> TrainedTowers:
        self._require(self.trained)
        assert self.trained is not None
        return self.trained
