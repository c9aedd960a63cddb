"""Sources propose candidates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from zhiyin.contracts.component import Component, ConfigT
from zhiyin.contracts.language import CatalogueLanguage
from zhiyin.contracts.scores import best_of, scores_at
from zhiyin.contracts.training import ComponentState, TrainingData
from zhiyin.domain import PAD, Candidates, Catalogue, FloatArray, IndexArray, Queries
from zhiyin.domain.errors import NotFitted


class CandidateSource(Component[ConfigT], ABC):
    """Proposes items for queries, and can score any item it knows for them.

    The life of a source: built from settings, then either `fit` or `restore`, then `propose`, `score` and,
    where ``serves_new_items``, `add_items`. Scores are float32, unbounded, higher is better, comparable
    within one query only; NaN says "no opinion".

    Class attributes:
        name: Also the name of its score column.
        serves_new_items: It can propose items that no training event touched.
        serves_new_users: It has proposals for a query without any history.
        reads_vectors: It asks ``training.language`` for text vectors, so a language model is needed.
    """

    serves_new_items: ClassVar[bool] = False
    serves_new_users: ClassVar[bool] = False
    reads_vectors: ClassVar[bool] = False

    @abstractmethod
    def fit(self, training: TrainingData) -> None:
        """Learn from the training data; the same data and seed give the same source."""

    @abstractmethod
    def score_all(self, queries: Queries) -> FloatArray:
        """Score the whole catalogue.

        Args:
            queries: B queries.

        Returns:
            (B, I) float32, I being every item the source knows; NaN where it has no opinion.

        Raises:
            NotFitted: before `fit` or `restore`.
        """

    def score(self, queries: Queries, item_index: IndexArray) -> FloatArray:
        """Score given items.

        Args:
            queries: B queries.
            item_index: (B, N) int32, -1 pads.

        Returns:
            (B, N) float32; NaN for padding, for items the source does not know and where it has no opinion.
        """
        return scores_at(self.score_all(queries), item_index)

    def propose(self, queries: Queries, n: int) -> Candidates:
        """Return up to ``n`` items a query, best first, with the column named after the source.

        Items on which the source has no opinion are never proposed.
        """
        return best_of(self.score_all(queries), n, column=self.name)

    def because(self, queries: Queries, item_index: IndexArray) -> IndexArray:  # noqa: ARG002
        """Name the event of the history that speaks most for each item.

        Args:
            queries: B queries.
            item_index: (B, N) int32, -1 pads.

        Returns:
            (B, N) int32 item indices from the histories; -1 where the source has no such reason.
        """
        return np.full(item_index.shape, PAD, dtype=np.int32)

    def add_items(self, new: Catalogue, language: CatalogueLanguage) -> None:
        """Take in items that arrive after training; they get the next indices, in order.

        A source that does not serve new items ignores them, and has no opinion on them.
        """

    @abstractmethod
    def state(self) -> ComponentState:
        """Return what training left behind."""

    @abstractmethod
    def restore(self, state: ComponentState) -> None:
        """Take over what `state` returned, possibly in another process."""

    def _require(self, fitted: object) -> None:
        if fitted is None:
            raise NotFitted(
                f"The source '{self.name}' has not been trained.",
                remedy="Call fit() with training data, or restore() a saved state, first.",
            )
