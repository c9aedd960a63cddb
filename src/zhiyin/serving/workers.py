"""Computation beside the event loop, with a bound on what may wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from zhiyin.serving.problems import Refused

T = TypeVar("T")


class Workers:
    """Threads that compute recommendations.

    Args:
        n_threads: How many run at once.
        max_waiting: How many calls may wait; more are refused, so that a flood cannot pile up.
    """

    def __init__(self, n_threads: int, max_waiting: int) -> None:
        self._threads = ThreadPoolExecutor(n_threads, thread_name_prefix="zhiyin-worker")
        self._most = n_threads + max_waiting
        self._n_inside = 0

    async def run(self, work: Callable[[], T]) -> T:
        """Run a call in a thread; call it from the event loop.

        Raises:
            Refused: when too many calls wait already.
        """
        if self._n_inside >= self._most:
            raise Refused(
                "overloaded",
                f"{self._n_inside} requests are being computed or wait.",
                remedy="Send the request again in a second.",
                headers={"Retry-After": "1"},
            )
        self._n_inside += 1
        running = asyncio.get_running_loop().run_in_executor(self._threads, work)
        # A caller who goes away does not end the computation: it leaves the count when it is done.
        running.add_done_callback(self._leave)
        return await asyncio.shield(running)

    def close(self) -> None:
        """Let running calls finish."""
        self._threads.shutdown(wait=True)

    def _leave(self, running: asyncio.Future[T]) -> None:
        self._n_inside -= 1
        if not running.cancelled():
            running.exception()
