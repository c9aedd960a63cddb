"""From a request to a slate, with the state of this moment."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from zhiyin.contracts import SCORE
from zhiyin.domain import NO_TIMESTAMP, PAD, Candidates, Histories, Queries, Recommendation, Wishes
from zhiyin.online.asked import Answer, Past, Wanted
from zhiyin.online.catalogue import LiveCatalogue
from zhiyin.online.histories import Known, LiveHistories
from zhiyin.online.impressions import ImpressionLog
from zhiyin.online.intake import unknown_item
from zhiyin.policy.filters import FilterMasks
from zhiyin.stores.records import Impression

if TYPE_CHECKING:
    from zhiyin.pipeline.pipeline import Pipeline

PROPENSITY = "propensity"
"""Column of a slate that says how probable each place was; a policy without chance has none: 1 is meant."""

_POOL_FOR_USERS = 100
"""Search results that are put in an order for a user, at least."""
_RANK_OFFSET = 60
"""Of reciprocal rank fusion, the value of Cormack, Clarke and Büttcher (2009)."""

Observe = Callable[[str, float], None]
"""Told the name of a stage and how many seconds it took."""


class Answering:
    """Answers requests; may be called from many threads at once.

    Args:
        catalogue: Holds the pipeline.
        histories: What users did.
        impressions: Where shown slates go.
        bundle: Version of the bundle.
        observe: Told how long each stage of a request took.
    """

    def __init__(
        self,
        catalogue: LiveCatalogue,
        histories: LiveHistories,
        impressions: ImpressionLog,
        *,
        bundle: str,
        observe: Observe,
    ) -> None:
        self._catalogue = catalogue
        self._histories = histories
        self._impressions = impressions
        self._bundle = bundle
        self._observe = observe
        self._masks = FilterMasks()

    def recommend(self, who: str | Sequence[Past], wanted: Wanted, request_id: str) -> Answer:
        """Recommend to a user of the shop, or to somebody who did these things.

        Args:
            who: A user id, or a history, oldest event first.
            wanted: How the slate should be.
            request_id: Stored with what was shown.

        Raises:
            FilterError: when the filter or a boost cannot be understood.
        """
        unknown: tuple[str, ...] = ()
        with self._stage("history"):
            if isinstance(who, str):
                known = self._histories.of_user(who)
            else:
                known, unknown = self._known_from(who)
            queries = _queries(known, wanted.context)
        pipeline = self._catalogue.pipeline
        wishes = self._wishes(pipeline, wanted)
        with self._stage("rank"):
            slate = pipeline.recommend(queries, wanted.n, wishes)
        items = self._explained(pipeline, queries, slate) if wanted.explain else _named(pipeline, slate)
        user_id = who if isinstance(who, str) else None
        self._show("recommend", user_id, items, slate, request_id)
        return Answer(items, self._bundle, None if user_id is None else known.is_known, unknown)

    def similar(self, item_id: str, wanted: Wanted, request_id: str) -> Answer:
        """Return items that go with one.

        Raises:
            UnknownItem: when the catalogue does not hold it.
            FilterError: when the filter or a boost cannot be understood.
        """
        index = self._histories.item_index(item_id)
        if index == PAD:
            raise unknown_item(item_id)
        pipeline = self._catalogue.pipeline
        wishes = self._wishes(pipeline, wanted)
        with self._stage("rank"):
            slate = pipeline.similar(np.array([index], dtype=np.int32), wanted.n, wishes)
        items = _named(pipeline, slate)
        self._show("similar", None, items, slate, request_id)
        return Answer(items, self._bundle)

    def search(self, text: str, wanted: Wanted, request_id: str, user_id: str | None = None) -> Answer:
        """Return items that fit a free text, in an order for the user where one is named.

        The order for a user joins the ranks of the search with those of the user's recommendations.

        Raises:
            FilterError: when the filter or a boost cannot be understood.
        """
        known = None if user_id is None else self._histories.of_user(user_id)
        pipeline = self._catalogue.pipeline
        wishes = self._wishes(pipeline, wanted)
        n_found = wanted.n if known is None else max(3 * wanted.n, _POOL_FOR_USERS)
        with self._stage("search"):
            slate = pipeline.search([text], n_found, wishes)
        if known is not None:
            with self._stage("rank"):
                slate = _for_user(pipeline, _queries(known, wanted.context), slate, wanted.n)
        items = _named(pipeline, slate)
        self._show("search", user_id, items, slate, request_id)
        return Answer(items, self._bundle, None if known is None else known.is_known)

    def _known_from(self, past: Sequence[Past]) -> tuple[Known, tuple[str, ...]]:
        items = np.array([self._histories.item_index(event.item_id) for event in past], dtype=np.int32)
        unknown = dict.fromkeys(e.item_id for e, item in zip(past, items, strict=True) if item == PAD)
        times = [NO_TIMESTAMP if event.timestamp is None else event.timestamp for event in past]
        histories = Histories(
            np.array([0, len(past)], dtype=np.int64),
            items,
            np.array([self._histories.kinds.index(event.kind) for event in past], dtype=np.int16),
            np.array(times, dtype=np.int64),
            np.array([np.nan if event.value is None else event.value for event in past], dtype=np.float32),
        )
        return Known(PAD, histories.where(items != PAD), is_known=False), tuple(unknown)

    def _wishes(self, pipeline: Pipeline, wanted: Wanted) -> Wishes:
        catalogue = pipeline.catalogue_or_raise()
        with self._stage("filter"):
            allowed = None if not wanted.filter else self._masks.mask(wanted.filter, catalogue)
            boost = None
            if wanted.boost:
                boost = np.zeros(len(catalogue), dtype=np.float32)
                for place, (spec, by) in enumerate(wanted.boost):
                    where = f"boost[{place}].filter"
                    boost += np.float32(by) * self._masks.mask(spec, catalogue, where=where)
        return Wishes(allowed=allowed, boost=boost, diversity=wanted.diversity, repeat=wanted.repeat)

    def _explained(
        self, pipeline: Pipeline, queries: Queries, slate: Candidates
    ) -> tuple[Recommendation, ...]:
        with self._stage("explain"):
            return tuple(pipeline.explain(queries, slate)[0])

    def _show(
        self,
        route: str,
        user_id: str | None,
        items: Sequence[Recommendation],
        slate: Candidates,
        request_id: str,
    ) -> None:
        propensities = (1.0,) * len(items)
        if PROPENSITY in slate.columns:
            propensities = tuple(slate.column(PROPENSITY)[0][slate.is_item[0]].tolist())
        item_ids = tuple(item.item_id for item in items)
        shown = Impression(request_id, user_id, int(time.time()), route, self._bundle, item_ids, propensities)
        self._impressions.add(shown)

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self._observe(name, time.perf_counter() - start)


def _queries(known: Known, context: Mapping[str, Any]) -> Queries:
    return Queries(
        np.array([known.user_index], dtype=np.int32),
        known.histories,
        np.array([int(time.time())], dtype=np.int64),
        {name: np.array([value]) for name, value in context.items()},
    )


def _named(pipeline: Pipeline, slate: Candidates) -> tuple[Recommendation, ...]:
    is_item = slate.is_item[0]
    item_ids = pipeline.catalogue_or_raise().items.ids.gather(slate.item_index[0][is_item]).to_list()
    scores = slate.column(SCORE)[0][is_item].tolist()
    return tuple(
        Recommendation(item_id, rank, score)
        for rank, (item_id, score) in enumerate(zip(item_ids, scores, strict=True), start=1)
    )


def _for_user(pipeline: Pipeline, queries: Queries, found: Candidates, n: int) -> Candidates:
    """Join two orders of the found items by their ranks: 1 / (60 + rank in the search) + 1 / (60 + rank for
    the user). Items the search finds equally good share a rank, so that among them the user's taste decides;
    an item the user's order lacks counts by the search alone.
    """
    items = found.item_index[0][found.is_item[0]]
    allowed = np.zeros(len(pipeline.catalogue_or_raise()), dtype=np.bool_)
    allowed[items] = True
    ranked = pipeline.recommend(queries, max(len(items), 1), Wishes(allowed=allowed, repeat=True))
    share = np.zeros(len(allowed), dtype=np.float32)
    rank_in_search = np.unique(-found.column(SCORE)[0][found.is_item[0]], return_inverse=True)[1]
    share[items] += 1 / (_RANK_OFFSET + 1 + rank_in_search.astype(np.float32))
    liked = ranked.item_index[0][ranked.is_item[0]]
    share[liked] += 1 / (_RANK_OFFSET + 1 + np.arange(len(liked), dtype=np.float32))
    return Candidates(items[None, :], {SCORE: share[items][None, :]}).top(n, by=SCORE)
