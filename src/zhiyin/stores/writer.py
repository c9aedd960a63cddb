"""One thread writes for everybody: what waits together is made durable together."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from zhiyin.domain.errors import StoreError
from zhiyin.stores.changes import Change, Made

T = TypeVar("T")

GROUP_SIZE = 256
"""Writes that share one transaction at most; bounds how long the first of them waits for the last."""

GROUP_ROWS = 20_000
"""Rows after which a group is closed, for the same reason."""

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
    future: Future[T] = field(default_factory=Future)

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

    Args:
        commit: Makes changes in one durable transaction, all or none; its errors are raised by the futures.
    """

    def __init__(self, commit: Commit) -> None:
        self._commit = commit
        self._waiting: queue.SimpleQueue[_Write[Any] | None] = queue.SimpleQueue()
        self._accepting = threading.Lock()
        self._closed = False
        self._n_in_hand = 0
        self._thread = threading.Thread(target=self._write_forever, name="zhiyin-store", daemon=True)
        self._thread.start()

    def submit(self, change: Change[T], on_durable: Callable[[T, int], None] | None = None) -> Future[T]:
        """Queue a change; the future is done when it is durable."""
        write = _Write(change, on_durable)
        with self._accepting:
            if self._closed:
                raise StoreError("The store is closed.", remedy="Open it again, or start the service again.")
            self._waiting.put(write)
        return write.future

    def depth(self) -> int:
        """Return how many changes wait or are being committed."""
        return self._waiting.qsize() + self._n_in_hand

    def close(self) -> None:
        """Write what was handed over, then end the thread."""
        with self._accepting:
            if not self._closed:
                self._closed = True
                self._waiting.put(None)
        self._thread.join()

    def _write_forever(self) -> None:
        for group in self._groups():
            self._write([write for write in group if write.future.set_running_or_notify_cancel()])
            self._n_in_hand = 0

    def _groups(self) -> Iterator[list[_Write[Any]]]:
        while True:
            write = self._waiting.get()
            group: list[_Write[Any]] = []
            n_rows = 0
            while write is not None:
                group.append(write)
                n_rows += write.change.n_rows
                self._n_in_hand = len(group)
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
            for write in group:
                write.future.set_exception(error.reason)
        except Exception as error:
            if len(group) == 1:
                group[0].future.set_exception(error)
                return
            # One of them spoils the transaction of all; alone, each gets its own answer.
            for write in group:
                self._write([write])
        else:
            # All of them first: whoever is told of one may tell others how far everything is reflected.
            failures = [write.reflect(made) for write, made in zip(group, done, strict=True)]
            for write, made, failure in zip(group, done, failures, strict=True):
                write.settle(made, failure)
