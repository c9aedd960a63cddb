"""Many may read at once, one writes alone, and neither keeps the other waiting for long."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """A lock with two sides.

    A writer that waits keeps new readers out; readers that waited for a writer go before the next one. So
    a long row of writes leaves gaps, and a long row of reads too.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._reading = 0
        self._readers_waiting = 0
        self._readers_let_in = 0
        self._writers_waiting = 0
        self._is_writing = False

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Hold it together with other readers."""
        with self._changed:
            self._readers_waiting += 1
            self._changed.wait_for(self._may_read)
            self._readers_waiting -= 1
            self._readers_let_in = max(0, self._readers_let_in - 1)
            self._reading += 1
        try:
            yield
        finally:
            with self._changed:
                self._reading -= 1
                self._changed.notify_all()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold it alone."""
        with self._changed:
            self._writers_waiting += 1
            self._changed.wait_for(self._may_write)
            self._writers_waiting -= 1
            self._is_writing = True
        try:
            yield
        finally:
            with self._changed:
                self._is_writing = False
                self._readers_let_in = self._readers_waiting
                self._changed.notify_all()

    def _may_read(self) -> bool:
        return not self._is_writing and (self._readers_let_in > 0 or not self._writers_waiting)

    def _may_write(self) -> bool:
        return not self._is_writing and not self._reading and not self._readers_let_in
