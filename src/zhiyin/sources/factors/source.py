"""What all factor models do alike once they are trained: answer from histories."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, TypeVar

import numpy as np

from zhiyin.contracts import CandidateSource, ComponentState, Config, DenseOpinion, Opinion, TrainingData
from zhiyin.domain import FloatArray, IndexArray, Queries
from zhiyin.domain.extras import from_extra
from zhiyin.sources.factors.ranking import FactorLearner, Ranking
from zhiyin.sources.factors.settings import FactorConfig
from zhiyin.sources.factors.space import FactorSpace, FittedFactors
from zhiyin.sources.factors.taken import Taken
from zhiyin.sources.nearest import THOROUGH, Indexed, ItemVectors, NearestOpinion, index_state

FactorConfigT = TypeVar("FactorConfigT", bound=FactorConfig)


class FactorSource(Indexed, CandidateSource[FactorConfigT]):
    """A vector for each item, and the vector of a user made of the history when the question is asked.

    Somebody whom training never saw is therefore served like everybody else, each new event counts in the
    next answer, and no vector of a person is kept. Items that training never saw have no vector, and get no
    opinion.
    """

    index_config = THOROUGH
    _fitted: FittedFactors | None = None

    @abstractmethod
    def _learner(self, taken: Taken, ranking: Ranking) -> FactorLearner:
        """Return the model to be trained, with random vectors."""

    @property
    def chosen(self) -> Config:
        """The settings in force: the decay as it was chosen, and as many epochs as were best."""
        if self._fitted is None:
            return self.config
        training = self.config.training
        best = self._fitted.facts["learning_curve"]["best_epoch"]
        if best:
            training = training.model_copy(update={"epochs_without_validation": best})
        decay = self._fitted.space.decay
        return self.config.model_copy(update={"history_decay": decay, "training": training})

    def fit(self, training: TrainingData) -> None:
        """Train until the validation metric stops rising, and keep the best vectors.

        Raises:
            TrainingError: when the loss is not a number.
        """
        with from_extra("language"):  # Lightning, which those that only answer do without: 170 MB
            from zhiyin.sources.factors.fitting import fit_factors  # noqa: PLC0415
        self._fitted = fit_factors(self.config, training, self.name, self._learner)
        self._build_index(self.config.index_above)

    def score_all(self, queries: Queries) -> FloatArray:
        """Return (B, I) float32, inner products; NaN where training says nothing of history or item."""
        return DenseOpinion(self._space().score(queries)).all()

    def ask(self, queries: Queries) -> Opinion:
        """Read the histories once, and hold a score for every item, or an index to look them up in."""
        space = self._space()
        if self._index is None:
            return DenseOpinion(space.score(queries))
        users, is_silent = space.read(queries.histories)
        return NearestOpinion(
            self._index, space.item_vectors, users, is_silent, np.flatnonzero(~space.is_touched)
        )

    @property
    def item_vectors(self) -> ItemVectors:
        """(I, D) vectors of all items."""
        return self._space().item_vectors

    def because(self, queries: Queries, item_index: IndexArray) -> IndexArray:
        """Name the other item of the history whose vector adds most to the score."""
        return self._space().strongest_event(queries.histories, item_index)

    def state(self) -> ComponentState:
        """Return vectors of items and what reads histories; the facts hold the learning curve."""
        state = self._space().state()
        assert self._fitted is not None
        facts: dict[str, Any] = {**state.facts, "training": self._fitted.facts}
        return ComponentState({**state.arrays, **index_state(self._index)}, facts)

    def restore(self, state: ComponentState) -> None:
        """Take over saved vectors."""
        space = FactorSpace.from_state(state)
        self._fitted = FittedFactors(space, dict(state.facts["training"]))
        self._restore_index(state.arrays, self.config.index_above)

    def _space(self) -> FactorSpace:
        self._require(self._fitted)
        assert self._fitted is not None
        return self._fitted.space
