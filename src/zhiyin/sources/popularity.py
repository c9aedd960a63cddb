"""What everybody takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from zhiyin.contracts import (
    Between,
    CandidateSource,
    CatalogueLanguage,
    ComponentState,
    Config,
    Opinion,
    SearchRange,
    Steps,
    TrainingData,
    best_positions,
)
from zhiyin.data.dataset import Dataset
from zhiyin.domain import NO_TIMESTAMP, PAD, Barred, Catalogue, FloatArray, IndexArray, Queries
from zhiyin.sources.clocks import not_ahead
from zhiyin.sources.decayed_sums import DecayedSums
from zhiyin.sources.waiting_steps import SECONDS_PER_DAY, WaitingSteps, columns_of
from zhiyin.training.selection import sample_examples, shared_ndcg

HALF_LIVES_TRIED = (np.inf, 365.0, 90.0, 30.0, 7.0)
"""Days; what ``auto`` chooses from. Forgetting nothing comes first, so that it wins a tie."""
_EXAMPLES_TO_CHOOSE_ON = 2000
_HEAD = 1024
"""Most popular items that are kept in order."""


class PopularityConfig(Config):
    """Settings of `Popularity`."""

    half_life_days: Annotated[float, Field(gt=0, allow_inf_nan=True)] | Literal["auto"] = "auto"
    """Days after which an event counts half; ``inf`` never forgets, ``auto`` is chosen on validation."""

    search_space: ClassVar[Mapping[str, SearchRange]] = {
        "half_life_days": Between(3.0, 1000.0, by_ratio=True),  # between the few that ``auto`` tries
    }


class Popularity(CandidateSource[PopularityConfig]):
    """Ranks items by the weighted number of their events, the same for everybody.

    score = log(1 + Σ over events of weight(kind) · 2^(-age in days / half life)), age counted from the
    newest event of the training data. Events without a timestamp, or with one that lies
    ahead of the clock, count as new. An item without events
    scores 0: it is offered last. Events after training are counted the same way as they come.
    """

    name = "popularity"
    config_class = PopularityConfig
    serves_new_items: ClassVar[bool] = True
    serves_new_users: ClassVar[bool] = True
    absorbs_events: ClassVar[bool] = True

    _sums: DecayedSums | None = None
    _event_weights: FloatArray = np.ones(1, dtype=np.float32)
    _waiting = WaitingSteps()
    _scores: FloatArray | None = None
    _order: _Order | None = None
    _half_life_days: float = np.inf

    @property
    def chosen(self) -> PopularityConfig:
        """The settings in force, the half-life as it was chosen."""
        return self.config.model_copy(update={"half_life_days": self._half_life_days})

    def fit(self, training: TrainingData) -> None:
        """Count; with ``auto``, count once for each half life and keep the one that validation likes best."""
        dataset = training.dataset
        self._half_life_days = _half_life(self.config, training)
        self._event_weights = dataset.event_weights
        self._sums, self._waiting = _sums(dataset, self._half_life_days), WaitingSteps()
        self._scores = self._sums.scores()

    def score_all(self, queries: Queries) -> FloatArray:
        """Return the same row for every query, (B, I) float32 ≥ 0."""
        self._require(self._scores)
        assert self._scores is not None
        return np.tile(self._scores, (len(queries), 1))

    def ask(self, queries: Queries) -> Opinion:
        """Return the same opinion for every query."""
        self._require(self._scores)
        assert self._scores is not None
        if self._order is None or self._order.scores is not self._scores:
            self._order = _Order(self._scores)
        return _SameForAll(len(queries), self._order)

    @property
    def is_dense(self) -> bool:
        """One score an item serves all queries."""
        return False

    def add_items(self, new: Catalogue, language: CatalogueLanguage) -> None:  # noqa: ARG002
        """Take in new items with no event to their name."""
        self._require(self._scores)
        assert self._scores is not None
        assert self._sums is not None
        self._scores = np.concatenate([self._scores, np.zeros(len(new), dtype=np.float32)])
        self._sums = self._sums.extended(len(new))

    def absorb(self, steps: Steps) -> None:
        """Count events as they come; scores and order are renewed at every thousandth of I of them."""
        self._require(self._scores)
        assert self._sums is not None
        n_items = len(self._sums.sums)
        due, self._waiting = self._waiting.plus(steps.on_items(n_items), n_items=n_items)
        if due:
            self._sums = self._sums.plus(*columns_of(due, self._event_weights))
            self._scores = self._sums.scores()

    def state(self) -> ComponentState:
        """Return the scores, the sums and the half life behind them."""
        self._require(self._scores)
        assert self._scores is not None
        assert self._sums is not None
        if self._waiting.portions:
            self._sums = self._sums.plus(*columns_of(self._waiting.portions, self._event_weights))
            self._waiting = self._waiting.emptied()
        sums, forgets = self._sums, bool(np.isfinite(self._half_life_days))
        facts = {
            "half_life_days": self._half_life_days if forgets else None,
            "origin": sums.origin,
            "newest": sums.newest,
            "block": sums.block,
            "n_absorbed": self._waiting.n_absorbed,
        }
        arrays: dict[str, npt.NDArray[np.generic]] = {
            "scores": self._scores,
            "sums": sums.sums,
            "event_weights": self._event_weights,
        }
        return ComponentState(arrays, facts)

    def restore(self, state: ComponentState) -> None:
        """Take over scores and sums."""
        arrays, facts = state.arrays, state.facts
        self._scores = arrays["scores"].astype(np.float32)
        self._event_weights = arrays["event_weights"].astype(np.float32)
        self._half_life_days = np.inf if facts["half_life_days"] is None else float(facts["half_life_days"])
        half_life = self._half_life_days * SECONDS_PER_DAY
        sums = arrays["sums"].astype(np.float64)
        self._sums = DecayedSums(sums, half_life, facts["origin"], facts["newest"], facts["block"])
        self._waiting = WaitingSteps(int(facts["n_absorbed"]))


class _Order:
    """The most popular items, found once and kept until the scores are others.

    Args:
        scores: (I,) float32.
    """

    def __init__(self, scores: FloatArray) -> None:
        self.scores = scores
        self._first = np.empty(0, dtype=np.int32)

    def first(self, n: int) -> IndexArray:
        """Return (M,) int32, the ``n`` most popular items; of equally popular ones the lower index first."""
        if len(self._first) < min(n, len(self.scores)):
            self._first = best_positions(self.scores[None, :], max(n, _HEAD))[0]
        return self._first[:n]

    def first_open(self, n: int, barred: Barred) -> IndexArray:
        """Return the ``n`` most popular items that are not barred for everybody."""
        if barred.for_all is None:
            return self.first(n)
        head = self.first(2 * n)
        is_open = ~barred.for_all[head]
        if is_open.sum() >= n:
            return head[is_open][:n]
        columns = barred.open_to_all
        assert columns is not None
        best: IndexArray = columns[best_positions(self.scores[None, columns], n)[0]].astype(np.int32)
        return best


@dataclass(frozen=True, eq=False)
class _SameForAll(Opinion):
    n_queries: int
    order: _Order

    def best(self, n: int, barred: Barred) -> IndexArray:
        """The head of the order, longer by as many items as any query has barred; see `Opinion.best`."""
        barred = barred.among(len(self.order.scores))
        head = self.order.first_open(n + barred.most_in_a_row, barred)
        proposed = np.tile(head, (self.n_queries, 1))
        if not len(barred.row) or not len(head):
            return proposed[:, :n]
        by_item = np.argsort(head)
        rank = by_item[np.minimum(np.searchsorted(head, barred.item, sorter=by_item), len(head) - 1)]
        is_in_head = head[rank] == barred.item
        proposed[barred.row[is_in_head], rank[is_in_head]] = PAD
        is_too_many = np.cumsum(proposed != PAD, axis=1) > n
        return np.where(is_too_many, np.int32(PAD), proposed)

    def at(self, item_index: IndexArray) -> FloatArray:
        """See `Opinion.at`."""
        scores = self.order.scores
        if not len(scores):
            return np.full(item_index.shape, np.nan, dtype=np.float32)
        is_known = (item_index >= 0) & (item_index < len(scores))
        return np.where(is_known, scores.take(item_index, mode="clip"), np.float32(np.nan))


def _half_life(config: PopularityConfig, training: TrainingData) -> float:
    if config.half_life_days != "auto":
        return config.half_life_days
    if training.validation is None or not training.dataset.has_timestamps:
        return float(np.inf)
    examples = sample_examples(training.validation, _EXAMPLES_TO_CHOOSE_ON, seed=training.seed)

    def ndcg(half_life_days: float) -> float:
        return shared_ndcg(_sums(training.dataset, half_life_days).scores(), examples)

    return max(HALF_LIVES_TRIED, key=ndcg)


def _sums(dataset: Dataset, half_life_days: float) -> DecayedSums:
    histories = dataset.histories
    weights = dataset.event_weights[histories.event_index].astype(np.float64)
    newest = None
    if np.isfinite(half_life_days) and dataset.has_timestamps:
        timestamp = not_ahead(histories.timestamp)
        newest = int(timestamp.max())
        weights *= np.exp2(-_age_days(timestamp) / half_life_days)
    events = np.bincount(histories.item_index, weights, dataset.n_items).astype(np.float64)
    return DecayedSums(events, half_life_days * SECONDS_PER_DAY, origin=newest, newest=newest)


def _age_days(timestamp: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    known = timestamp != NO_TIMESTAMP
    newest = timestamp[known].max()
    return np.where(known, newest - np.where(known, timestamp, newest), 0) / SECONDS_PER_DAY
