"""What everybody takes."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import PositiveFloat

from zhiyin.contracts import (
    CandidateSource,
    CatalogueLanguage,
    ComponentState,
    Config,
    TrainingData,
    best_of,
)
from zhiyin.data.dataset import Dataset
from zhiyin.domain import NO_TIMESTAMP, Candidates, Catalogue, FloatArray, Queries
from zhiyin.training.selection import sample_examples, validation_ndcg

SECONDS_PER_DAY = 86_400.0
HALF_LIVES_TRIED = (np.inf, 365.0, 90.0, 30.0, 7.0)
"""Days; what ``auto`` chooses from. Forgetting nothing comes first, so that it wins a tie."""
_EXAMPLES_TO_CHOOSE_ON = 2000


class PopularityConfig(Config):
    """Settings of `Popularity`."""

    half_life_days: PositiveFloat | Literal["auto"] = "auto"
    """Days after which an event counts half; ``inf`` never forgets, ``auto`` is chosen on validation."""


class Popularity(CandidateSource[PopularityConfig]):
    """Ranks items by the weighted number of their events, the same for everybody.

    score = log(1 + Σ over events of weight(kind) · 2^(-age in days / half life)), age counted from the
    newest event of the training data. Events without a timestamp count as new. An item without events
    scores 0: it is offered last.
    """

    name = "popularity"
    config_class = PopularityConfig
    serves_new_items: ClassVar[bool] = True
    serves_new_users: ClassVar[bool] = True

    _scores: FloatArray | None = None
    _half_life_days: float = np.inf

    @property
    def chosen(self) -> PopularityConfig:
        """The settings in force, the half-life as it was chosen."""
        return self.config.model_copy(update={"half_life_days": self._half_life_days})

    def fit(self, training: TrainingData) -> None:
        """Count; with ``auto``, count once for each half life and keep the one that validation likes best."""
        dataset = training.dataset
        self._half_life_days = _half_life(self.config, training)
        self._scores = _scores(dataset, self._half_life_days)

    def score_all(self, queries: Queries) -> FloatArray:
        """Return the same row for every query, (B, I) float32 ≥ 0."""
        self._require(self._scores)
        assert self._scores is not None
        return np.tile(self._scores, (len(queries), 1))

    def propose(self, queries: Queries, n: int) -> Candidates:
        """Return the most popular items, the same for every query."""
        self._require(self._scores)
        assert self._scores is not None
        best = best_of(self._scores[None, :], n, column=self.name)
        scores = np.tile(best.column(self.name), (len(queries), 1))
        return Candidates(np.tile(best.item_index, (len(queries), 1)), {self.name: scores})

    def add_items(self, new: Catalogue, language: CatalogueLanguage) -> None:  # noqa: ARG002
        """Take in new items with no event to their name."""
        self._require(self._scores)
        assert self._scores is not None
        self._scores = np.concatenate([self._scores, np.zeros(len(new), dtype=np.float32)])

    def state(self) -> ComponentState:
        """Return the scores and the half life behind them."""
        self._require(self._scores)
        assert self._scores is not None
        forgets = bool(np.isfinite(self._half_life_days))
        return ComponentState(
            {"scores": self._scores}, {"half_life_days": self._half_life_days if forgets else None}
        )

    def restore(self, state: ComponentState) -> None:
        """Take over the scores."""
        self._scores = state.arrays["scores"].astype(np.float32)
        half_life = state.facts.get("half_life_days")
        self._half_life_days = np.inf if half_life is None else float(half_life)


def _half_life(config: PopularityConfig, training: TrainingData) -> float:
    if config.half_life_days != "auto":
        return config.half_life_days
    if training.validation is None or not training.dataset.has_timestamps:
        return float(np.inf)
    examples = sample_examples(training.validation, _EXAMPLES_TO_CHOOSE_ON, seed=training.seed)

    def ndcg(half_life_days: float) -> float:
        scores = _scores(training.dataset, half_life_days)
        return validation_ndcg(lambda queries: np.tile(scores, (len(queries), 1)), examples)

    return max(HALF_LIVES_TRIED, key=ndcg)


def _scores(dataset: Dataset, half_life_days: float) -> FloatArray:
    histories = dataset.histories
    weights = dataset.event_weights[histories.event_index].astype(np.float64)
    if np.isfinite(half_life_days) and dataset.has_timestamps:
        weights *= np.exp2(-_age_days(histories.timestamp) / half_life_days)
    events = np.bincount(histories.item_index, weights=weights, minlength=dataset.n_items)
    return np.log1p(np.maximum(events, 0.0)).astype(np.float32)


def _age_days(timestamp: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    known = timestamp != NO_TIMESTAMP
    newest = timestamp[known].max()
    return np.where(known, newest - np.where(known, timestamp, newest), 0) / SECONDS_PER_DAY
