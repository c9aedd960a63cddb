"""Sources propose candidates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import ClassVar, Self

import numpy as np

from zhiyin.contracts.component import Component, ConfigT
from zhiyin.contracts.language import CatalogueLanguage
from zhiyin.contracts.opinions import DenseOpinion, Opinion
from zhiyin.contracts.training import ComponentState, TrainingData
from zhiyin.contracts.updating import Growth, Steps
from zhiyin.domain import PAD, Barred, Candidates, Catalogue, FloatArray, IndexArray, Queries
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
        absorbs_events: `absorb` takes in new events at once; otherwise they wait for `refreshed`.
        in_short_steps: It answers by many short steps, for each of which it needs the interpreter, instead of
            few long products and searches; of those that are no fallbacks it is asked last.
    """

    serves_new_items: ClassVar[bool] = False
    serves_new_users: ClassVar[bool] = False
    reads_vectors: ClassVar[bool] = False
    absorbs_events: ClassVar[bool] = False
    in_short_steps: ClassVar[bool] = False

    @abstractmethod
    def fit(self, training: TrainingData) -> None:
        """Learn from the training data; the same data and seed give the same source."""

    @abstractmethod
    def score_all(self, queries: Queries) -> FloatArray:
        """Score the whole catalogue: training chooses settings by it, and `ask` rests on it.

        Args:
            queries: B queries.

        Returns:
            (B, I) float32, I being every item the source knows; NaN where it has no opinion.

        Raises:
            NotFitted: before `fit` or `restore`.
        """

    def ask(self, queries: Queries) -> Opinion:
        """Return what the source says about a batch of queries, to be asked for the best and for given items.

        Override it where the best items are found without scoring the whole catalogue.

        Raises:
            NotFitted: before `fit` or `restore`.
        """
        return DenseOpinion.of_scores(self.score_all(queries))

    @property
    def is_dense(self) -> bool:
        """Whether `ask` holds a score for every item, so that large catalogues are asked few at a time."""
        return True

    def score(self, queries: Queries, item_index: IndexArray) -> FloatArray:
        """Score given items.

        Args:
            queries: B queries.
            item_index: (B, N) int32, -1 pads.

        Returns:
            (B, N) float32; NaN for padding, for items the source does not know and where it has no opinion.
        """
        return self.ask(queries).at(item_index)

    def propose(self, queries: Queries, n: int, barred: Barred | None = None) -> Candidates:
        """Return up to ``n`` items a query, best first, with the column named after the source.

        Args:
            queries: B queries.
            n: At least 1.
            barred: What may not be proposed; nothing when None.

        Returns:
            (B, M) candidates, M at most n. Items on which the source has no opinion are never proposed.
        """
        opinion = self.ask(queries)
        item_index = opinion.best(n, barred or Barred.nothing(len(queries), np.iinfo(np.int32).max))
        # In the order of the item index, -1 last, because equal scores keep the order in which they stand.
        item_index = np.sort(item_index.view(np.uint32), axis=1).view(np.int32)
        return Candidates(item_index, {self.name: opinion.at(item_index)}).top(n, by=self.name)

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

    def absorb(self, steps: Steps) -> None:
        """Take in events that just happened, so that the next answer reflects them.

        One thread absorbs and adds items, one thing after the other, while others ask for scores: parts are
        replaced, never written into. The same steps in other portions give the same source. A source that
        does not absorb ignores them.
        """

    def refreshed(self, training: TrainingData, growth: Growth) -> Self:  # noqa: ARG002
        """Return a source that has learned from data that grew since this one was trained.

        By default another one is fitted with the settings that were chosen for this one, nothing being
        chosen anew. A source whose training is long goes on from where it stands.

        Args:
            training: Everything, old and new; items keep their index, new ones come after them.
            growth: What of it is new.
        """
        again = type(self)(self.chosen)  # type: ignore[arg-type]
        again.fit(replace(training, validation=None))
        again.config = self.config
        return again

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
