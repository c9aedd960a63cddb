"""A lock that many readers share and one writer has alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class SharedLock:
    """Many may read at once; who changes waits until they are done, and they wait for the change.

    A waiting writer goes before new readers, so that changes are never starved by traffic.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._n_readers = 0
        self._n_writers_waiting = 0
        self._writing = False

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold the lock together with other readers. Not reentrant."""
        with self._condition:
            self._condition.wait_for(lambda: not self._writing and not self._n_writers_waiting)
            self._n_readers += 1
        try:
            yield
        finally:
            with self._condition:
                self._n_readers -= 1
                self._condition.notify_all()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the lock alone. Not reentrant."""
        with self._condition:
            self._n_writers_waiting += 1
            self._condition.wait_for(lambda: not self._writing and not self._n_readers)
            self._n_writers_waiting -= 1
            self._writing = True
        try:
            yield
        finally:
            with self._condition:
                self._writing = False
                self._condition.notify_all()
