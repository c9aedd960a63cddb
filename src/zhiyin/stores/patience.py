"""Connections to PostgreSQL on which nobody waits for ever, whatever the server does."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg

if TYPE_CHECKING:
    from psycopg.abc import PQGen

R = TypeVar("R")

CONNECT_SECONDS = 5
"""How long opening a connection may take."""

LAST_SECONDS = 2
"""How long anything may take once the process should have ended."""


class Unanswered(psycopg.OperationalError):
    """The server did not answer in time; whether it did what it was asked is not known."""


@dataclass(eq=False, slots=True)
class Patience:
    """How long those who ask the server wait for it.

    Neither the server's own limits nor those of the network end the wait for a server that hangs: the first
    are looked after by the server itself, and the network of its machine goes on confirming what it is sent.

    Attributes:
        seconds: For the answer to one statement.
        ends_at: When the process should have ended, on the monotonic clock.
        given_up: Told when an answer did not come.
    """

    seconds: float
    ends_at: float = math.inf
    given_up: Callable[[], None] = lambda: None

    def until(self, began: float) -> float:
        """Return how long an answer is waited for that was asked for at a moment."""
        return min(began + self.seconds, max(began + LAST_SECONDS, self.ends_at))

    def to_connect(self) -> int:
        """Return how many seconds opening a connection may take."""
        return LAST_SECONDS if time.monotonic() >= self.ends_at else CONNECT_SECONDS


class PatientConnection(psycopg.Connection[Any]):
    """A connection that is closed when the server does not answer in time.

    Attributes:
        patience: How long that is; None waits for ever.
    """

    patience: Patience | None = None

    def wait(self, gen: PQGen[R], *args: Any, **kwargs: Any) -> R:
        """Wait for an answer; the driver does this for everything it sends."""
        return super().wait(self._in_time(gen, self.patience) if self.patience else gen, *args, **kwargs)

    def _in_time(self, steps: PQGen[R], patience: Patience) -> PQGen[R]:
        """Make the same steps; the driver looks in ten times a second while nothing comes."""
        began = time.monotonic()
        try:
            wanted = next(steps)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() > patience.until(began):
                    break
                wanted = steps.send(ready)
        except StopIteration as done:
            result: R = done.value
            return result
        self.close()
        patience.given_up()
        raise Unanswered(f"the server has not answered within {time.monotonic() - began:.0f} seconds")
