"""Batches of messages on their way to being durable, finished in the order in which they came."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from zhiyin.domain.errors import DataError, RequestError
from zhiyin.online.streams.messages import MalformedMessage, Message, event_of
from zhiyin.stores.records import Event

Accept: TypeAlias = Callable[[Sequence[Event]], Future[Any]]
"""Takes events in; the future is done once they are durable. Handing over an event twice stores it once."""

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0
_REFUSALS = (RequestError, DataError)
"""Errors that blame the events; every other error blames the store, and the same events are tried again."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that cannot be taken in, and why."""

    message: Message
    reason: str


@dataclass(slots=True)
class _Part:
    events: list[Event]
    messages: list[Message]
    durable: Future[Any]
    try_again_at: float | None = None


@dataclass(slots=True)
class Batch:
    """Messages that were delivered together.

    Attributes:
        messages: All of them.
        dead: Those that are no events, known completely once the batch is finished.
    """

    messages: list[Message]
    dead: list[DeadLetter] = field(default_factory=list)
    parts: list[_Part] = field(default_factory=list, repr=False)


class Deliveries:
    """Hands batches over and follows them until they are durable; a failing store is tried again and again.

    Used by one thread.

    Args:
        accept: Where events go.
        most: Batches under way at once.
        clock: Monotonic seconds.

    Attributes:
        n_failures: How often the store did not take a part in.
        last_error: Why it did not the last time; empty before.
    """

    def __init__(self, accept: Accept, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._accept = accept
        self._most = most
        self._clock = clock
        self._under_way: deque[Batch] = deque()
        self._pause = FIRST_PAUSE_SECONDS
        self.n_failures = 0
        self.last_error = ""

    def __len__(self) -> int:
        return len(self._under_way)

    @property
    def is_full(self) -> bool:
        """Whether nothing more should be read now: too much is under way, or the store fails."""
        return len(self._under_way) >= self._most or self._is_failing

    @property
    def _is_failing(self) -> bool:
        parts = self._under_way[0].parts if self._under_way else []
        return any(part.try_again_at is not None for part in parts)

    def marks(self) -> set[Any]:
        """Return the marks of all messages under way."""
        return {message.mark for batch in self._under_way for message in batch.messages}

    def hand_over(self, messages: Iterable[Message]) -> None:
        """Read messages and give their events on, in the order given."""
        batch = Batch(list(messages))
        events, readable = [], []
        for message in batch.messages:
            try:
                events.append(event_of(message))
                readable.append(message)
            except MalformedMessage as error:
                batch.dead.append(DeadLetter(message, error.problem))
            except Exception as error:  # a message nobody foresaw must not block the others
                batch.dead.append(DeadLetter(message, f"It cannot be read: {type(error).__name__}."))
        if events:
            batch.parts.append(_Part(events, readable, self._handed(events)))
        self._under_way.append(batch)

    def finished(self) -> Batch | None:
        """Return the oldest batch when it is durable; `drop` it once the stream was told."""
        if not self._under_way:
            return None
        oldest = self._under_way[0]
        oldest.parts = [left for part in oldest.parts for left in self._left_of(part, oldest)]
        return None if oldest.parts else oldest

    def drop(self) -> None:
        """Forget the oldest batch."""
        self._under_way.popleft()

    def wait(self, seconds: float) -> None:
        """Wait until the oldest batch went on, at most so long."""
        parts = self._under_way[0].parts if self._under_way else []
        open_ones = [part.durable for part in parts if not part.durable.done()]
        if open_ones:
            wait(open_ones, seconds)
        elif self._is_failing:
            time.sleep(min(seconds, self._pause))

    def _left_of(self, part: _Part, batch: Batch) -> list[_Part]:
        """Return what of a part is still to be made durable."""
        if part.try_again_at is not None:
            if self._clock() >= part.try_again_at:
                part.durable, part.try_again_at = self._handed(part.events), None
            return [part]
        if not part.durable.done():
            return [part]
        error = _error_of(part.durable)
        if error is None:
            self._pause = FIRST_PAUSE_SECONDS
            return []
        if isinstance(error, _REFUSALS):
            return self._refused(part, error, batch)
        self.n_failures += 1
        self.last_error = str(error)
        part.try_again_at = self._clock() + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        return [part]

    def _refused(self, part: _Part, error: BaseException, batch: Batch) -> list[_Part]:
        """Find the events that are to blame: each of a refused part is tried alone."""
        if len(part.events) == 1:
            batch.dead.append(DeadLetter(part.messages[0], str(error)))
            return []
        return [
            _Part([event], [message], self._handed([event]))
            for event, message in zip(part.events, part.messages, strict=True)
        ]

    def _handed(self, events: Sequence[Event]) -> Future[Any]:
        try:
            return self._accept(events)
        except Exception as error:
            failed: Future[Any] = Future()
            failed.set_exception(error)
            return failed


def _error_of(done: Future[Any]) -> BaseException | None:
    return RuntimeError("the store gave the write up") if done.cancelled() else done.exception()
