"""From a request to a slate, with the state of this moment."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from zhiyin.contracts import SCORE
from zhiyin.domain import NO_TIMESTAMP, PAD, Candidates, Histories, Queries, Recommendation, Wishes
from zhiyin.online.asked import AskedSearch, AskedSimilar, AskedSlate, Past, Wanted
from zhiyin.online.catalogue import LiveCatalogue
from zhiyin.online.histories import Known, KnownTogether, LiveHistories
from zhiyin.online.slates import Shown, Slates
from zhiyin.online.unknown import unknown_item
from zhiyin.pipeline.timing import Observe, timed
from zhiyin.policy.filters import FilterMasks

if TYPE_CHECKING:
    from zhiyin.pipeline.pipeline import Pipeline

Ready: TypeAlias = Callable[[], Shown]
"""A computed slate; calling it puts it into words."""
_POOL_FOR_USERS = 100
"""Search results that are put in an order for a user, at least."""
_RANK_OFFSET = 60
"""Of reciprocal rank fusion, the value of Cormack, Clarke and Büttcher (2009)."""


class Answering:
    """Answers requests with one live bundle; may be called from many threads at once.

    Args:
        catalogue: Holds the pipeline.
        histories: What users did.
        masks: Which items filters let through.
        bundle: Version of the bundle.
        observe: Told how long each stage of a request took.
    """

    def __init__(
        self,
        catalogue: LiveCatalogue,
        histories: LiveHistories,
        masks: FilterMasks,
        *,
        bundle: str,
        observe: Observe,
    ) -> None:
        self._catalogue = catalogue
        self._histories = histories
        self._bundle = bundle
        self._observe = observe
        self._masks = masks

    def recommend(self, asked: Sequence[AskedSlate]) -> list[Ready]:
        """Compute requests that want the same kind of slate together.

        Args:
            asked: B requests that differ in who asks and how many places they want, and in nothing else.

        Returns:
            One for each request; calling it puts the slate into words.

        Raises:
            FilterError: when the filter or a boost cannot be understood.
        """
        wanted = asked[0].wanted
        with timed("history", self._observe):
            known, unknown = self._known([request.who for request in asked])
            queries = _queries(known, [self._said(request.who, request.wanted.context) for request in asked])
        pipeline = self._catalogue.pipeline
        wishes = self._wishes(pipeline, wanted)
        with timed("rank", self._observe):
            slates = pipeline.recommend(queries, max(request.wanted.n for request in asked), wishes)
        explained = None
        if wanted.explain:
            with timed("explain", self._observe):
                explained = [tuple(items) for items in pipeline.explain(queries, slates)]
        computed = self._slates("recommend", slates, explained)
        return [
            partial(
                computed.shown,
                row,
                request.request_id,
                n=request.wanted.n,
                user_id=request.user_id,
                is_known=None if request.user_id is None else known.is_known[row],
                unknown_items=unknown.get(row, ()),
            )
            for row, request in enumerate(asked)
        ]

    def similar(self, asked: AskedSimilar) -> Shown:
        """Return items that go with one.

        Raises:
            UnknownItem: when the catalogue does not hold it.
            FilterError: when the filter or a boost cannot be understood.
        """
        index = self._histories.item_index(asked.item_id)
        if index == PAD:
            raise unknown_item(asked.item_id)
        pipeline = self._catalogue.pipeline
        wishes = self._wishes(pipeline, asked.wanted)
        with timed("rank", self._observe):
            slate = pipeline.similar(np.array([index], dtype=np.int32), asked.wanted.n, wishes)
        return self._slates("similar", slate).shown(0, asked.request_id, n=asked.wanted.n)

    def search(self, asked: AskedSearch) -> Shown:
        """Return items that fit a free text, in an order for the user where one is named.

        The order for a user joins the ranks of the search with those of the user's recommendations.

        Raises:
            FilterError: when the filter or a boost cannot be understood.
        """
        wanted = asked.wanted
        known = None if asked.user_id is None else self._histories.of_user(asked.user_id)
        pipeline = self._catalogue.pipeline
        wishes = self._wishes(pipeline, wanted)
        n_found = wanted.n if known is None else max(3 * wanted.n, _POOL_FOR_USERS)
        with timed("search", self._observe):
            slate = pipeline.search([asked.text], n_found, wishes)
        if known is not None:
            with timed("rank", self._observe):
                said = self._said(asked.user_id, wanted.context)
                slate = _for_user(pipeline, _queries(KnownTogether.of([known]), [said]), slate, wanted.n)
        return self._slates("search", slate).shown(
            0,
            asked.request_id,
            n=wanted.n,
            user_id=asked.user_id,
            is_known=None if known is None else known.is_known,
        )

    def _said(self, who: str | Sequence[Past] | None, context: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return what a request says of its moment, and what was said before of who asks."""
        attributes = self._histories.attributes_of(who) if isinstance(who, str) else None
        return {**attributes, **context} if attributes else context

    def _known(
        self, asked: Sequence[str | Sequence[Past]]
    ) -> tuple[KnownTogether, dict[int, tuple[str, ...]]]:
        """Return what is known of users and visitors, and the unknown items of the latter by their place."""
        user_ids = [who for who in asked if isinstance(who, str)]
        if len(user_ids) == len(asked):
            return self._histories.of_users(user_ids), {}
        known, unknown = [], {}
        for place, who in enumerate(asked):
            if isinstance(who, str):
                known.append(self._histories.of_user(who))
            else:
                visitor, unknown[place] = self._known_from(who)
                known.append(visitor)
        return KnownTogether.of(known), unknown

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
        with timed("filter", self._observe):
            allowed = None if not wanted.filter else self._masks.mask(wanted.filter, catalogue)
            boost = None
            if wanted.boost:
                boost = np.zeros(len(catalogue), dtype=np.float32)
                for place, (spec, by) in enumerate(wanted.boost):
                    where = f"boost[{place}].filter"
                    boost += np.float32(by) * self._masks.mask(spec, catalogue, where=where)
        return Wishes(allowed=allowed, boost=boost, diversity=wanted.diversity, repeat=wanted.repeat)

    def _slates(
        self, route: str, slates: Candidates, explained: list[tuple[Recommendation, ...]] | None = None
    ) -> Slates:
        item_ids: list[str] = []
        if explained is None:  # whoever explains names the items too
            item_ids = self._histories.item_ids(slates.item_index[slates.is_item].tolist())
        return Slates(slates, item_ids, route=route, bundle=self._bundle, explained=explained)


def _queries(known: KnownTogether, contexts: Sequence[Mapping[str, Any]]) -> Queries:
    names = {name for context in contexts for name in context}
    return Queries(
        known.user_index,
        known.histories,
        np.full(len(contexts), int(time.time()), dtype=np.int64),
        {name: np.array([context.get(name) for context in contexts], dtype=object) for name in names},
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
