"""Progress on a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from zhiyin.domain.processes import is_first_process

T = TypeVar("T")


class TerminalProgress:
    """Shows bars for long work and one line for what is finished.

    Args:
        console: Where to; stderr, so that stdout holds results only. Of several processes that train
            together the first one speaks.
    """

    def __init__(self, console: Console) -> None:
        self._console = console = console if is_first_process() else Console(quiet=True)
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._n_open = 0

    def track(self, steps: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
        """Yield the steps under a bar with the time left."""
        if total is None and isinstance(steps, Sized):
            total = len(steps)
        with self._shown():
            task = self._bars.add_task(description, total=total)
            try:
                for step in steps:
                    yield step
                    self._bars.advance(task)
            finally:
                self._bars.remove_task(task)

    @contextmanager
    def stage(self, description: str) -> Iterator[None]:
        """Show a moving bar, then how long it took when that was worth a line."""
        started = time.perf_counter()
        with self._shown():
            task = self._bars.add_task(description, total=None)
            try:
                yield
            finally:
                self._bars.remove_task(task)
        seconds = time.perf_counter() - started
        if seconds >= 1.0:
            self.say(f"{description} [dim]({seconds:.1f} s)[/dim]")

    def say(self, message: str) -> None:
        """Print one line above the bars."""
        self._console.print(f"  {message}", highlight=False, soft_wrap=True)

    @contextmanager
    def _shown(self) -> Iterator[None]:
        if self._n_open == 0:
            self._bars.start()
        self._n_open += 1
        try:
            yield
        finally:
            self._n_open -= 1
            if self._n_open == 0:
                self._bars.stop()
