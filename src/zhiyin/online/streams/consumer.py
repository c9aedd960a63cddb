"""What consumers of all kinds of streams have in common: a thread, counts, patience."""

from __future__ import annotations

import logging
import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from zhiyin.domain.errors import ZhiyinError
from zhiyin.online.streams.deliveries import (
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    Accept,
    Batch,
    Deliveries,
)
from zhiyin.online.streams.settings import StreamSettings

_LOG = logging.getLogger(__name__)
WAIT_SECONDS = 0.25
"""Longest time a consumer waits for anything before it looks whether it should stop."""
_DRAIN_SECONDS = 10.0


@dataclass(slots=True)
class StreamCounts:
    """What a consumer did since it was started; written by its thread, read by anybody.

    Attributes:
        consumed: Messages that are durable and that the stream was told of; also those delivered twice, of
            which the store keeps one.
        dead_letters: Messages put aside because they are no events.
        taken_over: Messages of consumers that had died.
        lost: Messages the stream had thrown away before anybody could store them.
        failures: How often the stream or the store did not do what it was asked.
        lag: Messages of the group that are not durable yet; None while unknown.
        last_error: What went wrong the last time; empty before.
    """

    consumed: int = 0
    dead_letters: int = 0
    taken_over: int = 0
    lost: int = 0
    failures: int = 0
    lag: int | None = None
    last_error: str = ""


class StreamConsumer(ABC):
    """Takes messages out of a stream, and tells the stream only when their events are durable.

    Args:
        settings: Which stream, and how.
        accept: Where events go; its future is done once they are durable.

    Attributes:
        counts: What it did so far.
    """

    def __init__(self, settings: StreamSettings, accept: Accept) -> None:
        self.settings = settings
        self.counts = StreamCounts()
        self._deliveries = Deliveries(accept, settings.in_flight)
        self._stopping = threading.Event()
        self._drain_until = math.inf
        self._thread: threading.Thread | None = None

    @property
    def is_running(self) -> bool:
        """Whether its thread is alive."""
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Begin; a stream that is away is waited for."""
        if self._thread is not None:
            raise RuntimeError("a consumer is started once")
        self._thread = threading.Thread(target=self._run, name=f"stream {self.settings.stream}", daemon=True)
        self._thread.start()

    def stop(self, drain_seconds: float = _DRAIN_SECONDS) -> None:
        """Read no more, wait until what was read is durable, tell the stream, and end.

        Args:
            drain_seconds: Longest time for that; what is not durable then is delivered again later.
        """
        self._drain_until = time.monotonic() + drain_seconds
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(drain_seconds + 4 * LONGEST_PAUSE_SECONDS)

    @abstractmethod
    def _turn(self) -> None:
        """Read and settle a little; return within about `WAIT_SECONDS`."""

    @abstractmethod
    def _settle(self, batch: Batch) -> None:
        """Put the dead letters of a batch aside and tell the stream that the rest is durable."""

    @abstractmethod
    def _recover(self) -> None:
        """Prepare for another turn after one failed."""

    @abstractmethod
    def _close(self) -> None:
        """Leave the stream."""

    def _settle_finished(self) -> None:
        while (batch := self._deliveries.finished()) is not None:
            self._settle(batch)
            self._deliveries.drop()
            self.counts.consumed += len(batch.messages) - len(batch.dead)
            self.counts.dead_letters += len(batch.dead)
            for letter in batch.dead:
                self._warn("message %s was put aside: %s", letter.message.position, letter.reason)

    def _run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while not self._stopping.is_set():
            if self._tried(self._turn):
                pause = FIRST_PAUSE_SECONDS
            else:
                self._stopping.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
                self._tried(self._recover)
        while len(self._deliveries) and time.monotonic() < self._drain_until:
            if not self._tried(self._settle_finished):
                time.sleep(FIRST_PAUSE_SECONDS)
            self._deliveries.wait(WAIT_SECONDS)
        self._tried(self._close)

    def _tried(self, action: Callable[[], None]) -> bool:
        """Do something that may fail because others are away; the thread outlives everything."""
        known = self._deliveries.n_failures
        try:
            action()
        except Exception as error:
            self.counts.failures += 1
            self.counts.last_error = str(error)
            self.counts.lag = None  # until the stream tells again
            self._warn("%s", error, with_place=not isinstance(error, ZhiyinError))
            return False
        finally:
            if self._deliveries.n_failures > known:
                self.counts.failures += self._deliveries.n_failures - known
                self.counts.last_error = self._deliveries.last_error
                self._warn("%s", self._deliveries.last_error)
        return True

    def _warn(self, text: str, *told: object, with_place: bool = False) -> None:
        whose = {"stream": self.settings.stream, "tenant": self.settings.tenant}
        _LOG.warning(f"stream %s: {text}", self.settings.stream, *told, exc_info=with_place, extra=whose)
