"""The living whole of one tenant: a store, the bundles in use, and everything that happened since."""

from __future__ import annotations

import json
import logging
import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from zhiyin.domain import Vocabulary
from zhiyin.domain.errors import StoreError
from zhiyin.online.answering import Ready
from zhiyin.online.arms import Arms, Planned, labelled
from zhiyin.online.asked import Answer, Asked, AskedSearch, AskedSimilar, AskedSlate
from zhiyin.online.click_rate import ClickRate
from zhiyin.online.clock import ArrivalClock, Claims
from zhiyin.online.fallback import Seen
from zhiyin.online.following import AskTheLog, Following, Heads
from zhiyin.online.impressions import ImpressionLog
from zhiyin.online.intake import Intake
from zhiyin.online.live import Live, Renamed, as_they_are
from zhiyin.online.shared_vectors import SharedVectors
from zhiyin.online.swapping import Swapping
from zhiyin.online.trials.definition import KIND
from zhiyin.online.versions import Loaded
from zhiyin.pipeline.timing import Observe, unobserved
from zhiyin.stores.event_columns import EventColumns
from zhiyin.stores.events import EventStore
from zhiyin.stores.records import Changes, StoredDocument

if TYPE_CHECKING:
    from zhiyin.pipeline.pipeline import Pipeline

_LOG = logging.getLogger(__name__)
_OF_A_CLICK = ("user_id", "item_id", "event", "timestamp")
_TRIED_AGAIN_AFTER = 15.0
"""Seconds until a bundle is loaded again that could not be because a store was away."""
_READ_THE_LOG_EVERY = 1.0
"""Seconds; bounds how long a process that nobody asks, or whose heads are wrong, stays behind."""


@dataclass(frozen=True)
class EngineSettings:
    """How one tenant is served.

    Attributes:
        impression_capacity: Shown slates that may wait to be stored.
        is_shared: Whether other processes write to the same store.
        observe: Told how long each stage of a request took.
        stage_seconds: What a source or the ranker may take for a batch of requests.
        rename: Turns the user ids of bundles into those of the store.
        swapped: Told of every exchange of the bundle, and whether it succeeded.
        heard: Told of documents that were stored or changed, by whichever process.
        count_anew_seconds: Shortest time between two times that counts are built anew because somebody was
            erased.
        vectors: URL of the store in which processes share the indexes of their bundles; None where each has
            its own.
    """

    impression_capacity: int = 10_000
    is_shared: bool = False
    observe: Observe = unobserved
    stage_seconds: float = math.inf
    rename: Renamed = as_they_are
    swapped: Callable[[bool], None] = lambda _: None
    heard: Callable[[Sequence[StoredDocument]], None] = lambda _: None
    count_anew_seconds: float = 60.0
    vectors: str | None = field(default=None, repr=False)  # it may hold a password


@dataclass(frozen=True, eq=False, slots=True)
class Computed:
    """One request that was computed and not yet put into words.

    Attributes:
        asked: The request.
        plans: How it was answered: once, or twice where two slates are mixed.
        made: One for each plan.
        seen: What `Fallback.seen` said before.
        is_level: Whether the log could be read up to its end.
    """

    asked: Asked
    plans: Sequence[Planned]
    made: Sequence[Ready | Exception]
    seen: Seen | None
    is_level: bool


DEFAULT_SETTINGS = EngineSettings()
ALONE = AskTheLog()


class LiveEngine:
    """Accepts events, items and users of one tenant, and recommends from the state of this moment.

    At the start everything the store holds is brought in, so a restart loses nothing.

    Args:
        loaded: The bundle to start with.
        store: Where everything durable goes; whoever opened it closes it, after the engine.
        heads: Who knows the newest position of the log, where other processes write too.
        settings: How it is served.

    Attributes:
        intake: Events, items and users come in here.
        clicks: What became of the slates that this process showed.
        following: How far the change log is reflected.
    """

    def __init__(
        self,
        loaded: Loaded,
        store: EventStore,
        *,
        heads: Heads = ALONE,
        settings: EngineSettings = DEFAULT_SETTINGS,
    ) -> None:
        self.store = store
        self._settings = settings
        self._claims = Claims(store)
        self._vectors = SharedVectors(settings.vectors, store) if settings.vectors else None
        self.following = Following(store, heads, is_shared=settings.is_shared, on_changes=self._hear)
        self._swaps = Swapping(loaded, store, self.following, living=self._living, swapped=settings.swapped)
        self.following.start(store.position())
        # From here on changes of other processes are heard, so what hears them must be there.
        self.clicks = ClickRate()
        self._arms = Arms(store.documents(KIND), self._swaps.load, self._swaps.drop)
        self.following.add(self.live)
        newest = self.live.histories.newest_timestamp(of_bundle=self.live.trained_until > 0)
        self.clock = ArrivalClock(self._claims.newest_arrival(newest))
        self.impressions = ImpressionLog(store, capacity=settings.impression_capacity)
        self.intake = Intake(store, self.following, self.impressions, lambda: self.live)
        self.intake.listen(self._events_came, self._user_left)
        self._swaps.in_turn(self._arms.load_missing)
        self._swaps.take_over_what_became_active()
        self._closed = threading.Event()
        self._reader = threading.Thread(target=self._read_forever, name="zhiyin-following", daemon=True)
        self._reader.start()

    @property
    def live(self) -> Live:
        """The bundle in use at this moment; keep it for the whole of a request."""
        return self._swaps.live

    @property
    def loaded_since(self) -> int:
        """When the store took it, UTC seconds; 0 where it did not."""
        return self._swaps.loaded_since

    @property
    def n_failed_swaps(self) -> int:
        """Bundles that became active and could not be loaded."""
        return self._swaps.n_failed

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline at this moment."""
        return self.live.pipeline

    @property
    def bundle(self) -> str:
        """Version of the bundle in use."""
        return self.live.version

    def answer(self, asked: Sequence[Asked]) -> list[Answer | Exception]:
        """Answer requests that came together: `compute` them, and `settle` each.

        Returns:
            One answer a request, or the error that belongs to it.
        """
        return [self.settle(one) for one in self.compute(asked)]

    def compute(self, asked: Sequence[Asked]) -> list[Computed]:
        """Compute requests that came together; those that want the same kind of slate at once."""
        is_level = self.following.catch_up()
        main = self.live
        seen = [main.fallback.seen(one) if isinstance(one, AskedSlate) else None for one in asked]
        plans = [(place, plan) for place, one in enumerate(asked) for plan in self._arms.plan(main, one)]
        made: dict[int, list[Ready | Exception]] = {}
        for group in _alike([plan for _, plan in plans]):
            together = [plans[nth] for nth in group]
            live = together[0][1].live
            for (place, _), ready in zip(
                together, self._ready(live, [p.asked for _, p in together]), strict=True
            ):
                made.setdefault(place, []).append(ready)
        by_place: dict[int, list[Planned]] = {}
        for place, plan in plans:
            by_place.setdefault(place, []).append(plan)
        return [
            Computed(one, by_place[place], made[place], seen[place], is_level)
            for place, one in enumerate(asked)
        ]

    def settle(self, computed: Computed) -> Answer | Exception:
        """Put what was computed into words, and hand over what is shown; any thread may do it, once."""
        try:
            return self._settled(computed)
        except Exception as error:
            return error

    def answer_at_once(self, asked: AskedSlate) -> Answer:
        """Answer without computing: from what was answered before, or with what everybody takes.

        It is stored as shown, but for an arm of an experiment only as an answer that was too slow, and counts
        in no click rate: nothing that is compared there has chosen it.

        Raises:
            FilterError: when the filter cannot be understood.
        """
        live = self.live
        shown = self._arms.late(live, asked, live.fallback.stand_in(asked, live.version))
        self.impressions.add(shown.impression)
        return shown.answer

    def activate(self, version: str) -> Future[str]:
        """Serve another version that the store holds, here and in every other process.

        The future is done when this process answers with it. It is loaded before it becomes active, so that
        a damaged bundle is never what the other processes, or the next start, are told to serve.

        Raises:
            UnknownBundle: when the store does not hold it.
            BundleError: when it is damaged; the one in use stays active.
        """
        return self._swaps.activate(version)

    def take_documents(self, documents: Sequence[StoredDocument]) -> None:
        """Take in experiments that were started, changed or stopped."""
        self._settings.heard(documents)
        self._claims.hear(documents)
        if documents and self._arms.take(documents):
            self._swaps.in_turn(self._arms.load_missing)

    def close(self) -> None:
        """Finish what was accepted. The store stays open."""
        self._closed.set()
        self._reader.join()
        self._swaps.close()
        self.impressions.close()

    def close_lives(self) -> None:
        """Let go of the bundles; call it after the store was closed, whose last changes still come here."""
        for live in self.following.lives:
            live.close()

    def keep(self, computed: Computed) -> None:
        """Remember a slate that came too late to be shown, for when time runs out again; never raises."""
        ready, plan = computed.made[0], computed.plans[0]
        if isinstance(ready, Exception) or plan.assigned is not None:
            return
        if isinstance(computed.asked, AskedSlate):
            try:
                full = ready()
                if full.answer.items:
                    plan.live.fallback.keep(computed.asked, full, computed.seen)
            except Exception:
                _LOG.exception("a late slate could not be kept")

    def _settled(self, computed: Computed) -> Answer | Exception:
        asked, plans = computed.asked, computed.plans
        shown = []
        for one in computed.made:
            if isinstance(one, Exception):
                return one
            shown.append(one())
        arms = [plan.assigned for plan in plans if plan.assigned is not None]
        if len(shown) == 2 and isinstance(asked, AskedSlate):
            final = self._arms.mixed(shown[0], shown[1], (arms[0], arms[1]), asked.wanted.n)
        else:
            final = labelled(shown[0], arms[0]) if arms else shown[0]
        impression, answer = final.impression, final.answer
        self.impressions.add(impression)
        if impression.user_id is not None and impression.item_ids:
            self.clicks.shown(
                impression.user_id,
                impression.item_ids,
                experiment=impression.experiment,
                arm=impression.arm,
            )
        if isinstance(asked, AskedSlate) and answer.items and not arms:
            plans[0].live.fallback.keep(asked, final, computed.seen)
        return answer if computed.is_level else replace(answer, degraded="stale")

    def _living(self, loaded: Loaded) -> Live:
        if self._vectors is not None:
            self._vectors.bring(loaded.pipeline, loaded.version)
        users = None
        if self._settings.rename is not as_they_are:
            rename = partial(self._settings.rename, self.store.tenant)
            users = Vocabulary(rename(loaded.pipeline.users.ids.to_list()))
            loaded.pipeline.name_early(rename)
        live = Live(
            loaded.pipeline,
            version=loaded.version,
            position=loaded.position,
            observe=self._settings.observe,
            stage_seconds=self._settings.stage_seconds,
            users=users,
        )
        if loaded.pipeline.reads_of_users:
            # The log says only what changed since the bundle was trained, and no bundle holds what was put.
            for users_of_page in self.store.user_batches():
                live.histories.describe(users_of_page)
        return live

    def _ready(self, live: Live, asked: Sequence[Asked]) -> Sequence[Ready | Exception]:
        try:
            if isinstance(asked[0], AskedSimilar):
                similar = live.answering.similar(asked[0])
                return [lambda: similar]
            if isinstance(asked[0], AskedSearch):
                found = live.answering.search(asked[0])
                return [lambda: found]
            return live.answering.recommend([one for one in asked if isinstance(one, AskedSlate)])
        except Exception as error:
            if len(asked) == 1:
                return [error]
            # One of them spoils the batch of all; alone, each gets its own answer.
            return [ready for one in asked for ready in self._ready(live, [one])]

    def _hear(self, changes: Changes) -> None:
        if changes.bundle is not None:
            self._swaps.follow(changes.bundle)
        for user_id in changes.forgotten:
            self._user_left(user_id)
        events = changes.events
        self.clicks.all_happened(*(events[name].to_list() for name in _OF_A_CLICK))
        self.take_documents(changes.documents)

    def _events_came(self, events: EventColumns) -> None:
        self._claims.take(events.timestamps, self.clock.now())
        self.clicks.all_happened(events.user_ids, events.item_ids, events.kinds, events.timestamps)

    def _user_left(self, user_id: str) -> None:
        self.clicks.forget(user_id)
        self._swaps.someone_left()

    def _read_forever(self) -> None:
        while not self._closed.wait(_READ_THE_LOG_EVERY):
            self._swaps.try_again(_TRIED_AGAIN_AFTER)
            self._swaps.count_without_those_who_left(self._settings.count_anew_seconds, self._arms.load_anew)
            try:
                self.following.read_log()
            except StoreError as error:
                _LOG.debug("the change log cannot be read: %s", error)
            except Exception:
                _LOG.exception("changes of another process could not be reflected")


def _alike(plans: Sequence[Planned]) -> list[list[int]]:
    """Group the places of requests that can be computed at once, in the order in which they came."""
    groups: dict[Any, list[int]] = {}
    for place, plan in enumerate(plans):
        key: Any = place
        if isinstance(plan.asked, AskedSlate):
            key = (id(plan.live), *_wishes_key(plan.asked))
        groups.setdefault(key, []).append(place)
    return list(groups.values())


def _wishes_key(asked: AskedSlate) -> tuple[Any, ...]:
    wanted = asked.wanted
    rules = None
    if wanted.filter or wanted.boost:
        rules = json.dumps([wanted.filter, wanted.boost], sort_keys=True, default=str)
    return (wanted.diversity, wanted.repeat, wanted.explain, rules)
