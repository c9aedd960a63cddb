"""Places of a slate that are kept for new items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
from pydantic import Field, PositiveInt, model_validator

from zhiyin.contracts import SCORE, ComponentState, Config, PolicyStep, Probability
from zhiyin.domain import Barred, BoolArray, Candidates, FloatArray, IndexArray, LongArray, Queries
from zhiyin.domain.errors import ConfigError, did_you_mean
from zhiyin.policy.item_counts import N_EVENTS, ItemCounts

BOUND_WITHOUT_EVIDENCE = 2.0
"""Deviations; what holds where validation offers too few new items to fit a bound."""
_FEWEST_OFFERS = 100
_SMALLEST_STEP = 1e-3


class NewItemsConfig(Config):
    """Which items are new, which places are theirs, and when they get them."""

    slots: Annotated[int, Field(ge=0, le=10)] = 0
    """Last places that new items get, where they do not hold them already; 0 keeps none."""
    place: PositiveInt = 10
    """Last of these places; the cost is lowest at the end of a slate, and shorter slates keep none."""
    max_events: Annotated[int, Field(ge=0)] = 0
    """Items with at most so many events are new, those that arrived after training included."""
    source: str = SCORE
    """Whose score chooses among them: a source's, such as ``semantic``, or the merged ``score``."""
    bound: float | Literal["auto"] = "auto"
    """Deviations by which a new item must stand above all candidates' mean; ``auto`` fits ``most_lost``."""
    most_lost: Probability = 0.001
    """Recall at ``place`` that validation may lose, at most; with 1 any new item proposed gets a place."""

    @model_validator(mode="after")
    def _leaves_a_place(self) -> Self:
        if self.slots >= self.place:
            raise ValueError(f"{self.slots} slots leave nothing of the first {self.place} places")
        return self


@dataclass(frozen=True, eq=False)
class _Offers:
    """New items that could take a place, for B queries and at most S slots.

    Attributes:
        position: (B, S) int64, positions among the candidates, best first.
        standing: (B, S) float32, deviations above the mean of the query; minus infinity where there is no
            such item, infinity for one that stands on such a place by itself.
    """

    position: LongArray
    standing: FloatArray


class NewItems(PolicyStep[NewItemsConfig]):
    """Lifts the most promising new items to the last places of a slate.

    Candidates tell under `N_EVENTS` how many events each item has had. With the scores s of the chosen source
    over the candidates of a query, a new item that does not stand in the first ``place`` has the standing
    ``(s - mean) / deviation``. The best of them whose standing exceeds
    the bound take the last places down to ``place``, as many as new items do not hold already; what stood
    there moves down.
    """

    name: ClassVar[str] = "new_items"
    config_class = NewItemsConfig

    _bound: float = BOUND_WITHOUT_EVIDENCE

    @property
    def is_on(self) -> bool:
        """Whether any place is kept."""
        return self.config.slots > 0

    @property
    def bound(self) -> float:
        """The standing that a new item must exceed."""
        if self.config.bound != "auto":
            return self.config.bound
        return self._bound if self.config.most_lost < 1 else -np.inf

    def refuse_unknown_source(self, sources: Sequence[str]) -> None:
        """Raise when the source that is to choose is none of the pipeline's.

        Raises:
            ConfigError: with what there is.
        """
        known = (SCORE, *sources)
        if self.is_on and self.config.source not in known:
            raise ConfigError(
                f"Setting 'new_items.source' names '{self.config.source}', which is no source of the recipe."
                f"{did_you_mean(self.config.source, known)}",
                possible=f"It can be: {', '.join(known)}.",
            )

    def barred_but_new(self, barred: Barred, counts: ItemCounts) -> Barred | None:
        """Return what is barred where only new items are wanted; None where no place is kept."""
        if not self.is_on:
            return None
        for_all = counts.exceed(self.config.max_events, n_items=barred.n_items)
        if barred.for_all is not None:
            for_all |= barred.for_all
        return replace(barred, for_all=for_all)

    def fit(self, candidates: Candidates, targets: IndexArray) -> None:
        """Choose the lowest bound at which validation loses no more than ``most_lost``.

        Lost is a target that stood on a place that would be given away; new items that would be hits are
        not set against it, so that the others pay no more than this.

        Args:
            candidates: (B, N), as `apply` gets them.
            targets: (B,) int32, the item that came next.
        """
        offers = self._offers(candidates)
        if candidates.n_per_query < self.config.place:
            return
        others = _without(candidates.column(SCORE), candidates.is_item, offers, np.isposinf(offers.standing))
        best = np.argsort(-others, axis=1, kind="stable")[:, : self.config.place]
        displaced = np.take_along_axis(candidates.item_index, best, axis=1)[:, ::-1]
        is_lost = displaced[:, : offers.standing.shape[1]] == targets[:, None]
        is_made = np.isfinite(offers.standing)
        if is_made.sum() < _FEWEST_OFFERS:
            return
        standing, lost = offers.standing[is_made], is_lost[is_made]
        order = np.argsort(-standing)
        n_lost = np.cumsum(lost[order])
        first_too_many = int(np.searchsorted(n_lost, self.config.most_lost * len(targets), side="right"))
        is_free = first_too_many == len(order)
        lowest = standing[order[-1]] if is_free else standing[order[first_too_many]]
        self._bound = float(np.nextafter(lowest, np.float32(-np.inf)) if is_free else lowest)

    def apply(self, queries: Queries, candidates: Candidates) -> Candidates:  # noqa: ARG002
        """Return the candidates with another score for the new items that get a place, and for all below."""
        if not self.is_on or candidates.n_per_query <= self.config.place:
            return candidates
        offers = self._offers(candidates)
        is_given = offers.standing > self.bound
        is_given &= (is_given & np.isfinite(offers.standing)).any(axis=1, keepdims=True)
        n_given = is_given.sum(axis=1)
        if not n_given.any():
            return candidates
        others = _without(candidates.column(SCORE), candidates.is_item, offers, is_given)
        n_kept = self.config.place - n_given
        last_kept = np.take_along_axis(-np.sort(-others, axis=1), (n_kept - 1)[:, None], axis=1)
        last_kept = np.where(np.isfinite(last_kept), last_kept, 0.0)
        step = _SMALLEST_STEP * (1.0 + np.abs(last_kept))
        is_lower = _below(others, n_kept) & (n_given > 0)[:, None]
        scores = np.where(is_lower, others - step, others)
        rows, slots = np.nonzero(is_given)
        share = (slots + 1) / (n_given[rows] + 1)
        scores[rows, offers.position[rows, slots]] = last_kept[rows, 0] - step[rows, 0] * share
        scores = np.where(candidates.is_item, scores, np.nan).astype(np.float32)
        return candidates.with_column(SCORE, scores)

    def state(self) -> ComponentState:
        """Return the bound."""
        return ComponentState({}, {"bound": self._bound})

    def restore(self, state: ComponentState) -> None:
        """Take over what `state` returned."""
        self._bound = float(state.facts["bound"])

    def _offers(self, candidates: Candidates) -> _Offers:
        scores = candidates.column(self.config.source)
        has_score = candidates.is_item & ~np.isnan(scores)
        finite = np.where(has_score, scores, 0.0)
        n_scores = np.maximum(has_score.sum(axis=1, keepdims=True), 1)
        mean = finite.sum(axis=1, keepdims=True) / n_scores
        deviation = np.sqrt((((finite - mean) * has_score) ** 2).sum(axis=1, keepdims=True) / n_scores)
        standing = (finite - mean) / np.maximum(deviation, 1e-9)
        merged = np.where(candidates.is_item, candidates.column(SCORE), -np.inf)
        is_new = candidates.is_item & (candidates.column(N_EVENTS) <= self.config.max_events)
        can_rise = has_score & is_new & _below(merged, self.config.place)
        standing = np.where(can_rise, standing, -np.inf).astype(np.float32)
        stands_there = (
            is_new
            & _below(merged, self.config.place - self.config.slots)
            & ~_below(merged, self.config.place)
        )
        standing[stands_there] = np.inf
        position = np.lexsort((-merged, -standing))[:, : self.config.slots]
        return _Offers(position, np.take_along_axis(standing, position, axis=1))


def _without(scores: FloatArray, is_item: BoolArray, offers: _Offers, taken: BoolArray) -> FloatArray:
    """Return the scores (B, N), minus infinity for padding and for the offers marked in (B, S) bool."""
    others: FloatArray = np.where(is_item, scores, -np.inf)
    rows, slots = np.nonzero(taken)
    others[rows, offers.position[rows, slots]] = -np.inf
    return others


def _below(scores: FloatArray, n: int | LongArray) -> BoolArray:
    """(B, N) bool: what does not stand among the ``n`` (or (B,) different numbers of) best of its row."""
    order = np.argsort(-scores, axis=1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.broadcast_to(np.arange(scores.shape[1]), scores.shape), axis=1)
    below: BoolArray = rank >= np.reshape(n, (-1, 1))
    return below
