"""The moment of arrival, for events that bring none."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_FURTHEST_AHEAD = 86_400
"""Seconds; stored times further ahead than this are mistakes and do not hold the clock up."""


class ArrivalClock:
    """UTC seconds that never go back, although the clock of the machine may.

    Events without a time of their own are ordered by their arrival. If the machine's clock were set back,
    what arrives next would sort before what is known already; this clock stands still until the other one
    has caught up.

    Args:
        not_before: Newest arrival that is known, UTC seconds.
        now: The clock of the machine.
    """

    def __init__(self, not_before: int = 0, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._newest = not_before if not_before <= now() + _FURTHEST_AHEAD else 0

    def now(self) -> int:
        """Return the moment, in UTC seconds."""
        with self._lock:
            self._newest = max(self._newest, int(self._now()))
            return self._newest
