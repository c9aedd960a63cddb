"""An alert between quiet, pending and firing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Where an alert stands."""

    QUIET = "quiet"
    PENDING = "pending"
    FIRING = "firing"


class News(StrEnum):
    """What is worth a message."""

    FIRING = "firing"
    STILL_FIRING = "still firing"
    RESOLVED = "resolved"


@dataclass
class Alert:
    """The state of one rule; tells the same thing once.

    Where nothing can be said (no requests, say), a pending alert goes quiet and a firing one goes on firing:
    silence is no proof that all is well.

    Attributes:
        for_seconds: How long it must be so before it fires, and be over before it is resolved.
        repeat_seconds: After this long it is told again that it fires; 0 never.
        state: Where it stands.
        since: When it began to be so, in the seconds that `update` is given.
    """

    for_seconds: float
    repeat_seconds: float = 0.0
    state: State = State.QUIET
    since: float = 0.0
    _well_since: float | None = None
    _told: float = 0.0

    def update(self, is_so: bool | None, now: float) -> News | None:
        """Take in whether the condition holds, and return what is worth telling.

        Args:
            is_so: None where nothing can be said.
            now: Seconds of a clock that never goes back.
        """
        if self.state is State.FIRING:
            return self._firing(is_so, now)
        if not is_so:
            self.state = State.QUIET
            return None
        if self.state is State.QUIET:
            self.state, self.since = State.PENDING, now
        if now - self.since < self.for_seconds:
            return None
        self.state, self._told, self._well_since = State.FIRING, now, None
        return News.FIRING

    def _firing(self, is_so: bool | None, now: float) -> News | None:
        if is_so is False:
            if self._well_since is None:
                self._well_since = now
            if now - self._well_since >= self.for_seconds:
                self.state = State.QUIET
                return News.RESOLVED
        elif is_so:
            self._well_since = None
        if self.repeat_seconds and now - self._told >= self.repeat_seconds:
            self._told = now
            return News.STILL_FIRING
        return None
