"""An answer when there is no time for a good one."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from zhiyin.domain import IndexArray, Recommendation
from zhiyin.online.asked import Answer, AskedSlate
from zhiyin.online.catalogue import LiveCatalogue
from zhiyin.online.histories import LiveHistories
from zhiyin.online.slates import Shown
from zhiyin.policy.filters import FilterMasks

_MOST_POPULAR = 5_000
"""Popular items that are kept in order; a filter that none of them passes is answered with fewer places."""
_CACHED_USERS = 20_000
_CACHED_SECONDS = 600.0


class Seen(NamedTuple):
    """What was true before an answer was computed; when it no longer is, the answer is not kept.

    Attributes:
        n_events: Events of the user.
        n_forgotten: Erasures of whomever; an erased user may have had no event before, and has none after.
    """

    n_events: int
    n_forgotten: int


@dataclass(frozen=True)
class _Kept:
    n_events: int
    moment: float
    computed: int
    answer: Answer


class Fallback:
    """The user's last answer where it still fits, else what everybody takes.

    Rules hold here too: removed items, filters, and items of the history are never shown.

    Args:
        catalogue: Holds the pipeline.
        histories: What users did.
        masks: Which items filters let through.
        now: A clock that does not go back, in seconds.
    """

    def __init__(
        self,
        catalogue: LiveCatalogue,
        histories: LiveHistories,
        masks: FilterMasks,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._catalogue = catalogue
        self._histories = histories
        self._now = now
        self._masks = masks
        self._popular = _popular_items(catalogue)
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._n_forgotten = 0
        self._lock = threading.Lock()

    def seen(self, asked: AskedSlate) -> Seen | None:
        """Return what `keep` must know of the moment before the answer is computed; None: keep nothing."""
        if not isinstance(asked.who, str) or not _is_plain(asked):
            return None
        return Seen(self._histories.n_events_of(asked.who), self._n_forgotten)

    def keep(self, asked: AskedSlate, full: Shown, seen: Seen | None) -> None:
        """Remember a full answer to a plain request of a user.

        Args:
            asked: The request.
            full: Its answer, and when it was computed.
            seen: What `seen` said; when something happened meanwhile the answer is not kept.
        """
        if seen is None or not isinstance(asked.who, str):
            return
        if self._histories.n_events_of(asked.who) != seen.n_events:
            return
        with self._lock:
            if self._n_forgotten != seen.n_forgotten:
                return
            self._kept[asked.who] = _Kept(seen.n_events, self._now(), full.impression.timestamp, full.answer)
            self._kept.move_to_end(asked.who)
            if len(self._kept) > _CACHED_USERS:
                self._kept.popitem(last=False)

    def forget(self, user_id: str) -> None:
        """Drop the answer of a user, and those that are being computed."""
        with self._lock:
            self._n_forgotten += 1
            self._kept.pop(user_id, None)

    def stand_in(self, asked: AskedSlate, bundle: str) -> Shown:
        """Answer at once.

        What is to be stored about an earlier answer bears the time of that answer: the store then drops it
        where the user was erased since, also by another process.

        Raises:
            FilterError: when the filter cannot be understood.
        """
        kept = self._cached(asked)
        answer = self._popular_answer(asked, bundle) if kept is None else kept.answer
        timestamp = int(time.time()) if kept is None else kept.computed
        return Shown.of(answer, asked.request_id, asked.user_id, timestamp=timestamp, route="recommend")

    def _cached(self, asked: AskedSlate) -> _Kept | None:
        if not isinstance(asked.who, str) or not _is_plain(asked):
            return None
        with self._lock:
            kept = self._kept.get(asked.who)
        if (
            kept is None
            or self._now() - kept.moment > _CACHED_SECONDS
            or kept.n_events != self._histories.n_events_of(asked.who)
            or len(kept.answer.items) < asked.wanted.n
        ):
            return None
        pipeline = self._catalogue.pipeline
        shown = pipeline.catalogue_or_raise().items.indices([item.item_id for item in kept.answer.items])
        if pipeline.removed[shown].any():
            return None
        answer = replace(kept.answer, items=kept.answer.items[: asked.wanted.n], degraded="cached")
        return replace(kept, answer=answer)

    def _popular_answer(self, asked: AskedSlate, bundle: str) -> Answer:
        pipeline = self._catalogue.pipeline
        catalogue = pipeline.catalogue_or_raise()
        may_be_shown = ~pipeline.removed[self._popular]
        if asked.wanted.filter:
            may_be_shown &= self._masks.mask(asked.wanted.filter, catalogue)[self._popular]
        known = None
        if isinstance(asked.who, str):
            history = self._histories.of_user(asked.who)
            known = history.is_known
            had = history.histories.item_index
        else:
            had = np.array([self._histories.item_index(past.item_id) for past in asked.who], dtype=np.int32)
        if not asked.wanted.repeat:
            may_be_shown &= ~np.isin(self._popular, had)
        best = self._popular[may_be_shown][: asked.wanted.n]
        item_ids = catalogue.items.ids.gather(best).to_list()
        items = tuple(
            Recommendation(item_id, rank, 1.0 / rank) for rank, item_id in enumerate(item_ids, start=1)
        )
        return Answer(items, bundle, known, degraded="popular")


def _is_plain(asked: AskedSlate) -> bool:
    wanted = asked.wanted
    return not (wanted.filter or wanted.boost or wanted.diversity or wanted.repeat or wanted.explain)


def _popular_items(catalogue: LiveCatalogue) -> IndexArray:
    """(M,) int32: the items with the most events, best first; items without events come last."""
    pipeline = catalogue.pipeline
    n_items = len(pipeline.catalogue_or_raise())
    counts = np.bincount(pipeline.histories.item_index, minlength=n_items)
    order: IndexArray = np.argsort(-counts, kind="stable")[:_MOST_POPULAR].astype(np.int32)
    return order
