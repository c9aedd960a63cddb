"""Somebody who listens to long work, and a process that dies in the midst of it."""

from __future__ import annotations

from zhiyin.domain.progress import Silent


class Killed(BaseException):
    """Stands for the end of a process: nothing that catches errors catches it."""


class Listening(Silent):
    """Remembers what was said.

    Args:
        killed_at: Raises `Killed` when so many messages were said, counted from 1; None lives on.

    Attributes:
        heard: The messages, oldest first.
    """

    def __init__(self, killed_at: int | None = None) -> None:
        self.heard: list[str] = []
        self._killed_at = killed_at

    def say(self, message: str) -> None:
        """Remember a message, and die where it is time.

        Raises:
            Killed: at the message that was named.
        """
        self.heard.append(message)
        if len(self.heard) == self._killed_at:
            raise Killed
