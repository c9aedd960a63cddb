"""One thread writes for everybody: what waits together is made durable together."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from zhiyin.domain.errors import StoreError, StoreOverloaded
from zhiyin.stores.changes import Change, Made

T = TypeVar("T")

GROUP_SIZE = 256
"""Writes that share one transaction at most; bounds how long the first of them waits for the last."""

GROUP_ROWS = 20_000
"""Rows after which a group is closed, for the same reason."""

CAPACITY = 4_096
"""Places for writes that wait or are being committed; bounds the memory they take."""

ROWS_OF_A_PLACE = 50
"""Rows for which a write takes a further place."""

ANSWER_SECONDS = 15.0
"""How long somebody waits for a write; longer than a lock is waited for, shorter than most proxies wait."""

LAST_SECONDS = 2.0
"""How long somebody waits for a write once the process should have ended."""

_LOOK_EVERY = 0.25
"""Seconds between two looks for writes that take too long."""

Commit = Callable[[Sequence[Change[Any]]], list[Made[Any]]]


class EveryWriteFails(Exception):
    """The database is away or refuses all: trying each change of a group by itself would help nobody."""

    def __init__(self, reason: Exception) -> None:
        self.reason = reason
        super().__init__(str(reason))


@dataclass(eq=False, slots=True)
class _Write(Generic[T]):
    """One change, and who waits for it."""

    change: Change[T]
    on_durable: Callable[[T, int], None] | None
    answer_seconds: float
    since: float = field(default_factory=time.monotonic)
    is_answered: bool = False
    future: Future[T] = field(default_factory=Future)

    @property
    def n_places(self) -> int:
        """How much of the queue it takes."""
        return 1 + self.change.n_rows // ROWS_OF_A_PLACE

    def is_late(self, now: float, ends_at: float) -> bool:
        """Whether who waits for it should wait no longer."""
        return now >= min(self.since + self.answer_seconds, max(self.since + LAST_SECONDS, ends_at))

    def reflect(self, made: Made[T]) -> Exception | None:
        """Tell whoever keeps a live copy; return what went wrong there."""
        try:
            if self.on_durable is not None:
                self.on_durable(made.result, made.position)
        except Exception as error:
            return error
        return None

    def settle(self, made: Made[T], failure: Exception | None) -> None:
        """Tell whoever waits."""
        if failure is None:
            self.future.set_result(made.result)
        else:
            self.future.set_exception(failure)


class GroupWriter:
    """Commits changes in groups: each waits for one disk flush, which it shares with all that came meanwhile.

    A lonely change is committed at once; under load the groups grow by themselves, because changes gather
    while the disk is busy.

    A database that hangs holds the thread, but nobody else: who waits too long is told so, and from then on
    changes are refused until the thread goes on.

    Args:
        commit: Makes changes in one durable transaction, all or none; its errors are raised by the futures.
        answer_seconds: How long somebody waits for a change.
        capacity: Places of the queue.
    """

    def __init__(
        self, commit: Commit, *, answer_seconds: float = ANSWER_SECONDS, capacity: int = CAPACITY
    ) -> None:
        self._commit = commit
        self._answer_seconds = answer_seconds
        self._capacity = capacity
        self._waiting: queue.SimpleQueue[_Write[Any] | None] = queue.SimpleQueue()
        self._pending: deque[_Write[Any]] = deque()  # what waits and what is in hand, oldest first
        self._n_places = 0
        self._lock = threading.Lock()
        self._ends_at = math.inf
        self._hangs = False
        self._closed = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._write_forever, name="zhiyin-store", daemon=True)
        self._thread.start()
        threading.Thread(target=self._look_forever, name="zhiyin-store-clock", daemon=True).start()

    def submit(
        self,
        change: Change[T],
        on_durable: Callable[[T, int], None] | None = None,
        *,
        answer_seconds: float | None = None,
    ) -> Future[T]:
        """Queue a change; the future is done when it is durable.

        Args:
            change: What to write.
            on_durable: Told when it is durable, also where nobody waits for it any more.
            answer_seconds: How long somebody waits for it, where that is not as long as for all others.

        Raises:
            StoreOverloaded: when too much waits already.
            StoreError: when the database hangs, or the store is closed.
        """
        write = _Write(change, on_durable, answer_seconds or self._answer_seconds)
        with self._lock:
            if self._closed:
                raise StoreError("The store is closed.", remedy="Open it again, or start the service again.")
            if self._hangs:
                raise _takes_too_long("The database does not answer; nothing of this write was stored.")
            if self._pending and self._n_places + write.n_places > self._capacity:
                raise StoreOverloaded(
                    "Too many writes wait for the database; nothing of this one was stored.",
                    remedy="Send it again in a moment.",
                )
            self._pending.append(write)
            self._n_places += write.n_places
            self._waiting.put(write)
        return write.future

    def depth(self) -> int:
        """Return how many changes wait or are being committed, a long one counted as several."""
        return self._n_places

    def end_within(self, seconds: float) -> None:
        """Let nobody wait longer for a database that hangs, and then take no more for it."""
        self._ends_at = min(self._ends_at, time.monotonic() + seconds)

    def close(self) -> None:
        """Write what was handed over, then end the thread."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._waiting.put(None)
        self._thread.join()

    def _write_forever(self) -> None:
        for group in self._groups():
            with self._lock:
                begun = [
                    write
                    for write in group
                    if not write.is_answered and write.future.set_running_or_notify_cancel()
                ]
            self._write(begun)
            with self._lock:
                for write in group:
                    self._pending.popleft()
                    self._n_places -= write.n_places
                # A process that should have ended finds out once only that its database hangs.
                self._hangs = self._hangs and time.monotonic() >= self._ends_at
        self._ended.set()

    def _look_forever(self) -> None:
        """Answer those whose write takes too long; it may be stored still."""
        while not self._ended.wait(_LOOK_EVERY):
            now = time.monotonic()
            with self._lock:
                late = [write for write in self._pending if write.is_late(now, self._ends_at)]
                self._hangs = self._hangs or (bool(late) and late[0] is self._pending[0])
                late = [write for write in late if not write.is_answered]
                for write in late:
                    write.is_answered = True
            for write in late:
                said = f"The database has not finished a write within {now - write.since:.0f} seconds"
                with suppress(InvalidStateError):  # the caller has cancelled it
                    write.future.set_exception(_takes_too_long(f"{said}; it may be stored still."))

    def _unanswered(self, group: Sequence[_Write[Any]]) -> list[_Write[Any]]:
        """Return those that nobody has answered; from now on they belong to who asked."""
        with self._lock:
            found = [write for write in group if not write.is_answered]
            for write in found:
                write.is_answered = True
        return found

    def _groups(self) -> Iterator[list[_Write[Any]]]:
        while True:
            write = self._waiting.get()
            group: list[_Write[Any]] = []
            n_rows = 0
            while write is not None:
                group.append(write)
                n_rows += write.change.n_rows
                if len(group) == GROUP_SIZE or n_rows >= GROUP_ROWS or self._waiting.empty():
                    break
                write = self._waiting.get()
            yield group
            if write is None:
                return

    def _write(self, group: list[_Write[Any]]) -> None:
        if not group:
            return
        try:
            done = self._commit([write.change for write in group])
        except EveryWriteFails as error:
            for write in self._unanswered(group):
                write.future.set_exception(error.reason)
        except Exception as error:
            if len(group) == 1:
                for write in self._unanswered(group):
                    write.future.set_exception(error)
                return
            # One of them spoils the transaction of all; alone, each gets its own answer.
            for write in group:
                self._write([write])
        else:
            # All of them first: whoever is told of one may tell others how far everything is reflected.
            failures = [write.reflect(made) for write, made in zip(group, done, strict=True)]
            waiting = set(self._unanswered(group))
            for write, made, failure in zip(group, done, failures, strict=True):
                if write in waiting:
                    write.settle(made, failure)


def _takes_too_long(problem: str) -> StoreError:
    return StoreError(
        problem,
        remedy="Send it again, events with the same event_id; see whether the database hangs.",
    )
