"""Acknowledgements that must wait until every process knows."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable


class Held:
    """Calls functions after a while, in one thread, which is started when it is first needed.

    Nearly always there is nothing to wait for, and the function is called at once.
    """

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[tuple[float, Callable[[], None]]] = queue.SimpleQueue()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def call(self, settle: Callable[[], None], *, after_seconds: float) -> None:
        """Call a function, at once or later; those of equal delays in the order in which they came."""
        if after_seconds <= 0:
            settle()
            return
        self._waiting.put((time.monotonic() + after_seconds, settle))
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._call_forever, name="zhiyin-held", daemon=True)
                self._thread.start()

    def _call_forever(self) -> None:
        while True:
            due, settle = self._waiting.get()
            time.sleep(max(0.0, due - time.monotonic()))
            settle()
