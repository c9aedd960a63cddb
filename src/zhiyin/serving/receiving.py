"""What comes in and is not read yet: bounded over all requests, and cut into groups where it is a stream."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

from zhiyin.serving.problems import Refused

MOST_BYTES = 256_000_000
"""Bytes of bodies of all requests together that have come and are not read yet."""
SHARE_OF_CALLER = 0.5
"""How much of that one key may take."""
FREE_BYTES = 65_536
"""Bytes of each request that are not counted."""
LINES_AT_ONCE = 5_000
"""Lines of a stream that are stored together, at most."""
BYTES_AT_ONCE = 4_000_000
"""Bytes after which a group of lines is closed."""
SECONDS_AT_ONCE = 0.5
"""How long a line waits for others to be stored with, about."""
LONGEST_LINE = 1_000_000
"""Bytes."""


class Received:
    """Bytes that have come and are not read yet, of all requests of a process together.

    The first of each request are free, so that whoever sends much never keeps out those who send little.

    Args:
        shed: Told when there are too many.
    """

    def __init__(self, shed: Callable[[], None]) -> None:
        self._shed = shed
        self.n_bytes = 0
        self.of_caller: Counter[str] = Counter()

    @contextmanager
    def counted(self, caller: str) -> Iterator[CountedBytes]:
        """Count what one request brings, until it is read.

        Args:
            caller: Id of the key.
        """
        counted = CountedBytes(self, caller)
        try:
            yield counted
        finally:
            counted.set(0)
            if not self.of_caller[caller]:
                del self.of_caller[caller]

    def change(self, caller: str, n_bytes: int) -> None:
        """Count so many more, or fewer.

        Raises:
            Refused: when there are too many, of all callers or of this one.
        """
        after = self.n_bytes + n_bytes, self.of_caller[caller] + n_bytes
        if n_bytes > 0 and (after[0] > MOST_BYTES or after[1] > MOST_BYTES * SHARE_OF_CALLER):
            self._shed()
            raise Refused(
                "overloaded",
                "Too many long bodies are on their way to the service.",
                remedy="Send the request again in a moment, in smaller parts.",
                # What is left of the body would otherwise be read as the next request.
                headers={"Retry-After": "1", "Connection": "close"},
            )
        self.n_bytes, self.of_caller[caller] = after


class CountedBytes:
    """The part of one request."""

    def __init__(self, whole: Received, caller: str) -> None:
        self._whole = whole
        self._caller = caller
        self._n_bytes = self._n_counted = 0

    def add(self, n_bytes: int) -> None:
        """Count bytes that have come.

        Raises:
            Refused: when there are too many, of all requests together.
        """
        self.set(self._n_bytes + n_bytes)

    def drop(self, n_bytes: int) -> None:
        """Count bytes no longer."""
        self.set(max(0, self._n_bytes - n_bytes))

    def set(self, n_bytes: int) -> None:
        """Count so many bytes, and no others."""
        n_counted = max(0, n_bytes - FREE_BYTES)
        if n_counted != self._n_counted:
            self._whole.change(self._caller, n_counted - self._n_counted)
        self._n_bytes, self._n_counted = n_bytes, n_counted


class LineStream:
    """A body cut into groups of lines: when there are many, or long ones, or no others come for a moment.

    Args:
        parts: The body as it comes.
        counted: Counts what is not read yet; a group is, when the next one is asked for.
        is_stopping: Whether the service wants the stream to end.
    """

    def __init__(
        self, parts: AsyncIterator[bytes], counted: CountedBytes, is_stopping: Callable[[], bool]
    ) -> None:
        self._parts = parts
        self._counted = counted
        self._is_stopping = is_stopping
        self._coming: asyncio.Task[bytes | None] | None = None

    def refuse_to_go_on(self) -> None:
        """Look up while a group waits.

        Raises:
            Refused: when the service stops.
            ConnectionResetError: when the caller went away.
        """
        if self._is_stopping():
            raise Refused("overloaded", "The service is stopping.", headers={"Retry-After": "1"})
        coming = self._coming
        if coming is not None and coming.done() and (coming.cancelled() or coming.exception()):
            raise ConnectionResetError("The caller went away.")

    async def groups(self) -> AsyncIterator[list[bytes]]:
        """Yield lines without their ends.

        Empty ones too, since they count where lines are told by number; and no lines at all where none came
        for a moment.

        Raises:
            Refused: when a line is too long, too much comes at once, or the service stops.
        """
        lines = _Lines()
        coming = self._coming = _next(self._parts)
        part: bytes | None = b""
        try:
            while part is not None:
                await asyncio.wait({coming}, timeout=SECONDS_AT_ONCE)
                if not coming.done() or lines.are_due():
                    taken, n_bytes = lines.take()
                    yield taken
                    self._counted.drop(n_bytes)
                if not coming.done():
                    self.refuse_to_go_on()
                    continue
                part = coming.result()
                self.refuse_to_go_on()
                coming = self._coming = _next(self._parts)
                self._counted.add(len(part or b""))
                for line in lines.of(part or b""):
                    if lines.add(line):
                        taken, n_bytes = lines.take()
                        yield taken
                        self._counted.drop(n_bytes)
        finally:
            coming.cancel()
            # The error of a caller who went away holds this frame and would be held by it: a circle of
            # megabytes.
            self._coming = None
            del coming
        if lines.rest:
            lines.add(lines.rest)
        if lines.waiting:
            yield lines.take()[0]


class _Lines:
    """Lines that wait for others, and the beginning of the next."""

    def __init__(self) -> None:
        self.rest = b""
        self.waiting: list[bytes] = []
        self._n_lines = self._n_bytes = 0
        self._since = 0.0

    def of(self, part: bytes) -> list[bytes]:
        """Return the lines that are whole with a further part.

        Raises:
            Refused: when a line is too long.
        """
        *lines, self.rest = (self.rest + part).split(b"\n")
        if max(map(len, (*lines, self.rest))) > LONGEST_LINE:
            place = next(n for n, line in enumerate((*lines, self.rest), start=1) if len(line) > LONGEST_LINE)
            raise Refused(
                "too-large",
                f"Line {self._n_lines + place} has more than {LONGEST_LINE} bytes.",
                remedy="Shorten it or leave it out, and send the lines after the last that is stored again.",
            )
        return lines

    def add(self, line: bytes) -> bool:
        """Let a line wait; return whether those that wait are a whole group."""
        if not self.waiting:
            self._since = time.monotonic()
        self._n_lines += 1
        self.waiting.append(line)
        self._n_bytes += len(line) + 1
        return len(self.waiting) == LINES_AT_ONCE or self._n_bytes >= BYTES_AT_ONCE

    def are_due(self) -> bool:
        """Whether lines wait that should wait no longer."""
        return bool(self.waiting) and time.monotonic() - self._since > SECONDS_AT_ONCE

    def take(self) -> tuple[list[bytes], int]:
        """Return those that wait, and their bytes."""
        taken = self.waiting, self._n_bytes
        self.waiting, self._n_bytes = [], 0
        return taken


def _next(parts: AsyncIterator[bytes]) -> asyncio.Task[bytes | None]:
    """Ask for the next part, None after the last; whoever stops listening need not hear why it failed."""

    async def ask() -> bytes | None:
        return await anext(parts, None)

    task = asyncio.create_task(ask())
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task
