"""What was shown goes to the store in the background; an answer never waits for it."""

from __future__ import annotations

import logging
import queue
import threading
from concurrent.futures import Future, wait

from zhiyin.domain.errors import StoreError
from zhiyin.stores.events import EventStore
from zhiyin.stores.records import Impression

_LOG = logging.getLogger(__name__)
_GROUP_SIZE = 1_000


class ImpressionLog:
    """A bounded queue of shown slates, and the thread that stores them in groups.

    Slates are lost, and counted, when the queue is full or the process is killed; events never are.

    Args:
        store: Where slates go.
        capacity: Slates that may wait.
        gather_seconds: How long a group gathers before it is written; bounds the disk flushes per second.
    """

    def __init__(self, store: EventStore, *, capacity: int = 10_000, gather_seconds: float = 0.2) -> None:
        self.n_dropped = 0
        self._store = store
        self._gather_seconds = gather_seconds
        self._waiting: queue.Queue[Impression] = queue.Queue(capacity)
        self._handing_over = threading.RLock()
        self._under_way: set[Future[None]] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._store_forever, name="zhiyin-impressions", daemon=True)
        self._thread.start()

    def add(self, impression: Impression) -> None:
        """Hand a slate over; returns at once."""
        try:
            self._waiting.put_nowait(impression)
        except queue.Full:
            self.n_dropped += 1

    def hand_over(self) -> None:
        """Give the store all that waits, without waiting for the disk.

        Whatever the store is asked for after this call comes after these slates: a user who is removed then
        leaves none behind.
        """
        while self._hand_over_group() is not None:
            pass

    def store_all(self) -> None:
        """Store all that waits, and wait for the disk."""
        with self._handing_over:
            under_way = list(self._under_way)
        while (group := self._hand_over_group()) is not None:
            under_way.append(group)
        wait(under_way)

    def close(self) -> None:
        """Store what waits."""
        self._stopping.set()
        self._thread.join()

    def _store_forever(self) -> None:
        while not self._stopping.wait(self._gather_seconds):
            self._store_group()
        while not self._waiting.empty():
            self._store_group()

    def _store_group(self) -> None:
        stored = self._hand_over_group()
        if stored is not None:
            wait([stored])

    def _hand_over_group(self) -> Future[None] | None:
        """Ask the store to keep one group; None when nothing waits, or when the store takes no more."""
        # Taking and handing over are one step, or a group could be under way while its user is removed.
        with self._handing_over:
            group: list[Impression] = []
            while len(group) < _GROUP_SIZE and not self._waiting.empty():
                group.append(self._waiting.get_nowait())
            if not group:
                return None
            try:
                stored = self._store.append_impressions(group)
            except StoreError as error:
                self._count_lost(len(group), error)
                return None
            self._under_way.add(stored)
        stored.add_done_callback(lambda done: self._settled(len(group), done))
        return stored

    def _settled(self, n: int, done: Future[None]) -> None:
        with self._handing_over:
            self._under_way.discard(done)
        self._count_lost(n, done.exception())

    def _count_lost(self, n: int, error: BaseException | None) -> None:
        if error is not None:
            self.n_dropped += n
            _LOG.warning("%d shown slates could not be stored: %s", n, error)
