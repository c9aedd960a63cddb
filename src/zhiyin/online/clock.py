"""The moment of arrival, for events that bring none."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from zhiyin.domain.errors import StoreError
from zhiyin.stores.events import EventStore
from zhiyin.stores.records import StoredDocument

_FURTHEST_AHEAD = 86_400
"""Seconds; stored times further ahead than this are mistakes and do not hold the clock up."""
_TOLERATED, _MORE = 2, 60
"""Seconds ahead that matter to nobody, and that are written more than was claimed."""
_KIND, _NAME = "claimed-times", "newest"


class ArrivalClock:
    """UTC seconds that never go back, although the clock of the machine may.

    Events without a time of their own are ordered by their arrival. If the machine's clock were set back,
    what arrives next would sort before what is known already; this clock stands still until the other one
    has caught up. By more than a day it was wrong before, and is believed now.

    Args:
        not_before: Newest arrival that is known, UTC seconds.
        now: The clock of the machine.
    """

    def __init__(self, not_before: int = 0, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._newest = not_before

    def now(self) -> int:
        """Return the moment, in UTC seconds."""
        with self._lock:
            now = int(self._now())
            self._newest = now if self._newest > now + _FURTHEST_AHEAD else max(self._newest, now)
            return self._newest


class Claims:
    """Remembers how far ahead of their arrival events claimed to have happened, over restarts too.

    Senders may be up to a day ahead, because of wrong clocks and zones. Then the newest time in a log is no
    arrival, and a clock that never goes back must not begin there.

    Args:
        store: Where it is kept, as a document.
    """

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._ahead = self._arrived = 0
        self.hear(store.documents(_KIND))

    def hear(self, documents: Sequence[StoredDocument]) -> None:
        """Take in what other processes wrote."""
        for found in documents:
            if found.kind == _KIND and found.body is not None:
                self._ahead = max(self._ahead, int(found.body["ahead"]))
                self._arrived = max(self._arrived, int(found.body["arrived"]))

    def newest_arrival(self, newest: int) -> int:
        """Return when something last arrived, as far as the newest time in a log tells; UTC seconds."""
        return self._arrived if newest <= self._ahead else newest

    def take(self, timestamps: Sequence[int], now: int) -> None:
        """Look at events that arrived now; what is new is written soon."""
        ahead = max(timestamps, default=0)
        if ahead > max(now + _TOLERATED, self._ahead):
            # A minute more, so that senders who are steadily ahead cost one write a minute.
            self._ahead, self._arrived = ahead + _MORE, now
            body = {"ahead": self._ahead, "arrived": self._arrived}
            with suppress(StoreError):  # the events are stored; this is said again a minute later
                self._store.put_document(_KIND, _NAME, body)
