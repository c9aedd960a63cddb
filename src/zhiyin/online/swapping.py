"""The bundle in use, and what takes its place: another version, or the same one built anew."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from zhiyin.domain.errors import StoreError, UnknownBundle, ZhiyinError
from zhiyin.online.following import Following
from zhiyin.online.live import Live
from zhiyin.online.unknown import unknown_bundle
from zhiyin.online.versions import IN_MEMORY, Loaded, load_version
from zhiyin.stores.events import EventStore

_LOG = logging.getLogger(__name__)


class Swapping:
    """Exchanges the bundle of one tenant, one exchange after the other, while answers go on.

    Args:
        loaded: The bundle to start with.
        store: Holds the others.
        following: Keeps live bundles level with the log.
        living: Makes a live bundle of a loaded one.
        swapped: Told of every exchange, and whether it succeeded.

    Attributes:
        live: The bundle in use at this moment.
        loaded_since: When the store took it, UTC seconds; 0 where it did not.
        n_failed: Bundles that became active and could not be loaded.
    """

    def __init__(
        self,
        loaded: Loaded,
        store: EventStore,
        following: Following,
        *,
        living: Callable[[Loaded], Live],
        swapped: Callable[[bool], None],
    ) -> None:
        self.n_failed = 0
        self._store = store
        self._following = following
        self._living = living
        self._swapped = swapped
        self._one_by_one = ThreadPoolExecutor(1, thread_name_prefix="zhiyin-swap")
        self._someone_left = False
        self._missed: str | None = None
        self._tried_at = time.monotonic()
        self._rebuilt_at = time.monotonic()
        self.live = living(loaded)
        self.loaded_since = loaded.timestamp
        # In a thread of its own: neither an exchange nor the end of the service waits for it.
        threading.Thread(target=_warm_up, args=(self.live,), name="zhiyin-warm-up", daemon=True).start()

    def activate(self, version: str) -> Future[str]:
        """Serve another version here and in every other process; see `LiveEngine.activate`."""
        loaded = None
        if version != self.live.version:
            loaded = self._loaded_to_activate(version)
        elif all(bundle.version != version for bundle in self._store.bundles()):
            raise unknown_bundle(version)
        result: Future[str] = Future()

        def swap(activated: str, position: int) -> None:
            self._following.reflect(position, _nothing_to_reflect)
            self._following.announce(position)
            self._one_by_one.submit(self._swap, activated, result, loaded=loaded)

        def refuse(done: Future[str]) -> None:
            if done.exception() is not None:
                result.set_exception(done.exception())

        self._store.activate_bundle(version, on_durable=swap).add_done_callback(refuse)
        return result

    def follow(self, version: str) -> None:
        """Serve what another process activated.

        Whether that is an exchange shows in its turn: another one may be under way.
        """
        self._one_by_one.submit(self._swap, version, Future())

    def try_again(self, after_seconds: float) -> None:
        """Serve what another process activated and a store was away for, where that is some time ago.

        Args:
            after_seconds: Shortest time between two attempts.
        """
        version = self._missed
        if version is not None and time.monotonic() - self._tried_at > after_seconds:
            self._missed = None
            self.follow(version)

    def take_over_what_became_active(self) -> None:
        """Serve what was activated while the first bundle was being loaded, before the log was followed."""
        active = next((bundle.version for bundle in self._store.bundles() if bundle.is_active), None)
        if active is not None and self.live.version not in (active, IN_MEMORY):
            self.follow(active)

    def in_turn(self, work: Callable[[], None]) -> Future[None]:
        """Do something when the exchanges that were asked for before are done."""
        return self._one_by_one.submit(work)

    def someone_left(self) -> None:
        """Note that a user was erased, whose part in the counts is still there."""
        self._someone_left = True

    def count_without_those_who_left(self, after_seconds: float, further: Callable[[], None]) -> None:
        """Build bundles anew from files and log, so that counts lose what erased users added.

        Histories, caches and attributes are rid of a user at once. The counts that sources keep since
        training are sums over everybody; taking a summand out again would leave what rounding made of it.

        Args:
            after_seconds: Shortest time between two times.
            further: Builds the bundles of experiments anew.
        """
        if not self._someone_left or time.monotonic() - self._rebuilt_at <= after_seconds:
            return
        self._someone_left, self._rebuilt_at = False, time.monotonic()
        self._one_by_one.submit(further)
        if self.live.version != IN_MEMORY:  # last, since memory is given back after an exchange
            self._one_by_one.submit(self._swap, None, Future())

    def load(self, version: str) -> Live:
        """Load a version beside the one in use, level with the log; `drop` lets it go."""
        live = self._living(load_version(self._store, version))
        _warm_up(live)
        self._following.add(live)
        return live

    def drop(self, live: Live) -> None:
        """Let a bundle go that nobody needs any more."""
        self._following.drop(live)
        live.close()

    def close(self) -> None:
        """Finish the exchange under way, and none after it."""
        self._one_by_one.shutdown(wait=True, cancel_futures=True)

    def _loaded_to_activate(self, version: str) -> Loaded:
        try:
            return load_version(self._store, version)
        except UnknownBundle:
            raise
        except ZhiyinError as error:
            self._note_failed(version, error)
            raise

    def _swap(self, version: str | None, result: Future[str], *, loaded: Loaded | None = None) -> None:
        """Load a version beside the one in use, bring it level, and put it in its place.

        None builds the one in use anew.
        """
        anew = version is None
        version = self.live.version if version is None else version
        try:
            if anew or version != self.live.version:
                loaded = loaded or load_version(self._store, version)
                after, before = self._living(loaded), self.live
                _warm_up(after)  # while the other is there, whose language model it can share
                self._following.add(after)
                self.live, self.loaded_since, self._missed = after, loaded.timestamp, None
                self.drop(before)
                self._swapped(True)
        except Exception as error:
            self._note_failed(version, error)
            if anew:
                self._someone_left = True  # who still stands in the counts
            elif isinstance(error, StoreError):
                self._missed, self._tried_at = version, time.monotonic()
            result.set_exception(error)
        else:
            result.set_result(version)

    def _note_failed(self, version: str, error: Exception) -> None:
        self.n_failed += 1
        _LOG.log(
            logging.ERROR,
            "bundle %s cannot be served, %s stays: %s",
            version,
            self.live.version,
            error,
            exc_info=not isinstance(error, ZhiyinError),
        )
        self._swapped(False)


def _warm_up(live: Live) -> None:
    """Load what a search or a new item would wait for; without it the rest is served all the same."""
    try:
        live.pipeline.warm_up()
    except Exception as error:
        _LOG.warning(
            "bundle %s has no language model to search with: %s",
            live.version,
            error,
            exc_info=not isinstance(error, ZhiyinError),
        )


def _nothing_to_reflect(_: Live) -> None:
    """A change that is in no live bundle."""
