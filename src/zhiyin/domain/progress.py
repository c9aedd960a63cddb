"""How long work tells that it is alive, without knowing who listens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    """Listens to long work."""

    def track(self, steps: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
        """Yield the steps, showing how many are done."""
        ...

    def stage(self, description: str) -> AbstractContextManager[None]:
        """Show that something of unknown length is going on."""
        ...

    def say(self, message: str) -> None:
        """Tell one finished fact, such as the metrics of an epoch."""
        ...


class Silent:
    """Shows nothing; the default in libraries and tests."""

    def track(self, steps: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:  # noqa: ARG002
        """Yield the steps."""
        yield from steps

    def stage(self, description: str) -> AbstractContextManager[None]:  # noqa: ARG002
        """Do nothing."""
        return nullcontext()

    def say(self, message: str) -> None:
        """Do nothing."""
