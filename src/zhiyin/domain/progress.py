"""How long work tells that it is alive, without knowing who listens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol, TypeVar, runtime_checkable

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


@runtime_checkable
class HearsQuality(Protocol):
    """A progress that also wants to know how good training is after each epoch, and may end it by raising."""

    def hear_quality(self, name: str, epoch: int, quality: float) -> None:
        """Take in the validation metric, higher is better, of ``name`` after ``epoch``, counted from 1."""
        ...


def tell_quality(progress: Progress, name: str, epoch: int, quality: float | None) -> None:
    """Tell the quality of an epoch to a progress that wants to know; None when nothing was measured."""
    if quality is not None and isinstance(progress, HearsQuality):
        progress.hear_quality(name, epoch, quality)


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
