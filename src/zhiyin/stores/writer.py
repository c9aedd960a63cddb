"""One thread writes for everybody: what waits together is made durable together."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection

from zhiyin.domain.errors import StoreError

T = TypeVar("T")

GROUP_SIZE = 256
"""Writes that share one transaction at most; bounds how long the first of them waits for the last."""

Transaction = Callable[[], AbstractContextManager[Connection]]


@dataclass(eq=False)
class _Write(Generic[T]):
    """One change, and who waits for it."""

    change: Callable[[Connection], T]
    on_durable: Callable[[T], None] | None
    future: Future[T] = field(default_factory=Future)
    result: Any = None
    error: Exception | None = None

    def announce(self) -> None:
        """Tell whoever keeps a live copy, then whoever waits."""
        try:
            if self.error is None and self.on_durable is not None:
                self.on_durable(self.result)
        except Exception as error:
            self.error = error
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


class GroupWriter:
    """Commits changes in groups: each waits for one disk flush, which it shares with all that came meanwhile.

    A lonely change is committed at once; under load the groups grow by themselves, because changes gather
    while the disk is busy.

    Args:
        transaction: Opens a transaction that commits durably when left without an error.
        as_store_error: Turns an error of the database into one that says what to do.
    """

    def __init__(self, transaction: Transaction, as_store_error: Callable[[Exception], Exception]) -> None:
        self._transaction = transaction
        self._as_store_error = as_store_error
        self._waiting: queue.SimpleQueue[_Write[Any] | None] = queue.SimpleQueue()
        self._accepting = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._write_forever, name="zhiyin-store", daemon=True)
        self._thread.start()

    def submit(
        self, change: Callable[[Connection], T], on_durable: Callable[[T], None] | None = None
    ) -> Future[T]:
        """Queue a change; the future is done when it is durable."""
        write = _Write(change, on_durable)
        with self._accepting:
            if self._closed:
                raise StoreError("The store is closed.", remedy="Open it again, or start the service again.")
            self._waiting.put(write)
        return write.future

    def close(self) -> None:
        """Write what was handed over, then end the thread."""
        with self._accepting:
            if not self._closed:
                self._closed = True
                self._waiting.put(None)
        self._thread.join()

    def _write_forever(self) -> None:
        for group in self._groups():
            self._commit([write for write in group if write.future.set_running_or_notify_cancel()])

    def _groups(self) -> Iterator[list[_Write[Any]]]:
        while True:
            write = self._waiting.get()
            group: list[_Write[Any]] = []
            while write is not None:
                group.append(write)
                if len(group) == GROUP_SIZE or self._waiting.empty():
                    break
                write = self._waiting.get()
            yield group
            if write is None:
                return

    def _commit(self, group: list[_Write[Any]]) -> None:
        if len(group) > 1 and self._commit_together(group) is not None:
            # One of them spoils the transaction of all; alone, each gets its own answer.
            for write in group:
                write.error = self._commit_together([write])
        elif len(group) == 1:
            group[0].error = self._commit_together(group)
        for write in group:
            write.announce()

    def _commit_together(self, group: list[_Write[Any]]) -> Exception | None:
        """Make the changes in one transaction, all or none; return what went wrong."""
        try:
            with self._transaction() as connection:
                for write in group:
                    write.result = write.change(connection)
        except Exception as error:
            return self._as_store_error(error)
        return None
