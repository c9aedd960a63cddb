"""Computed slates, and what is said of each."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from zhiyin.contracts import CHANCE, SCORE
from zhiyin.domain import Candidates, Recommendation
from zhiyin.online.asked import Answer
from zhiyin.pipeline.ranker_stage import prediction_columns
from zhiyin.stores.records import Impression

PROPENSITY = "propensity"
"""Column of a slate that says how probable each place was; a policy without chance has none: 1 is meant."""


@dataclass(frozen=True, eq=False)
class Shown:
    """An answer, and what is to be stored about what was shown."""

    answer: Answer
    impression: Impression

    @classmethod
    def of(
        cls,
        answer: Answer,
        request_id: str,
        user_id: str | None,
        *,
        timestamp: int,
        route: str,
        propensities: Sequence[float] | None = None,
    ) -> Self:
        """Say of an answer what is to be stored; without propensities each place was certain."""
        item_ids = tuple([item.item_id for item in answer.items])
        chosen = (1.0,) * len(item_ids) if propensities is None else tuple(propensities)
        return cls(answer, Impression(request_id, user_id, timestamp, route, answer.bundle, item_ids, chosen))


class Slates:
    """B slates that were computed together; each is put into words by itself, once it is known to be shown.

    Args:
        computed: Best first, padding at the end, with ``score`` and perhaps ``chance``, ``propensity`` and
            what a ranker predicts.
        item_ids: Of all its items that are no padding, one slate after the other; not looked at where they
            are explained.
        route: Which kind of request asked.
        bundle: Version of the bundle that chose.
        explained: The same items with reasons, where somebody wants to know why.
    """

    def __init__(
        self,
        computed: Candidates,
        item_ids: list[str],
        *,
        route: str,
        bundle: str,
        explained: Sequence[tuple[Recommendation, ...]] | None = None,
    ) -> None:
        self._route = route
        self._bundle = bundle
        self._explained = explained
        self._item_ids = item_ids
        is_item = computed.is_item
        self._ends: list[int] = is_item.sum(axis=1).cumsum().tolist()
        self._scores: list[float] = computed.column(SCORE)[is_item].tolist()
        columns = [computed.column(name)[is_item].tolist() if name in computed.columns else None
                   for name in (CHANCE, PROPENSITY)]  # fmt: skip
        self._chances, self._propensities = columns
        told = prediction_columns(computed.columns)
        self._predictions = {task: computed.column(name)[is_item].tolist() for task, name in told.items()}
        self._now = int(time.time())

    def shown(
        self,
        row: int,
        request_id: str,
        *,
        n: int,
        user_id: str | None = None,
        is_known: bool | None = None,
        unknown_items: tuple[str, ...] = (),
    ) -> Shown:
        """Return the answer to one request, with at most ``n`` places, and what is to be stored about it."""
        start = self._ends[row - 1] if row else 0
        end = min(self._ends[row], start + n)
        items = self._items(row, start, end)
        answer = Answer(items, self._bundle, is_known, unknown_items)
        return Shown.of(
            answer,
            request_id,
            user_id,
            timestamp=self._now,
            route=self._route,
            propensities=None if self._propensities is None else self._propensities[start:end],
        )

    def _items(self, row: int, start: int, end: int) -> tuple[Recommendation, ...]:
        if self._explained is not None:
            return self._explained[row][: end - start]
        ids, scores = self._item_ids[start:end], self._scores[start:end]
        chances: Sequence[float | None] = [None] * len(ids)
        if self._chances is not None:
            chances = self._chances[start:end]
        predictions: Sequence[Mapping[str, float] | None] = [None] * len(ids)
        if self._predictions:
            told = zip(*(numbers[start:end] for numbers in self._predictions.values()), strict=True)
            predictions = [dict(zip(self._predictions, numbers, strict=True)) for numbers in told]
        return tuple(
            [
                Recommendation(item_id, rank, score, chance=chance, predictions=predicted)
                for rank, item_id, score, chance, predicted in zip(
                    range(1, len(ids) + 1), ids, scores, chances, predictions, strict=True
                )
            ]
        )
