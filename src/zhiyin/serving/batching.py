"""Computation beside the event loop: what waits together is answered together, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zhiyin.online.asked import Answer, Asked, AskedSlate
from zhiyin.online.engine import Computed, LiveEngine
from zhiyin.serving.metrics import Metrics
from zhiyin.serving.problems import Refused
from zhiyin.serving.settings import AnswerSettings
from zhiyin.serving.tracing import BatchSpans

if TYPE_CHECKING:
    from opentelemetry.context import Context

_NO_SPANS: AbstractContextManager[None] = nullcontext()
_SWEEPS_PER_BUDGET = 4
"""How often within a time budget somebody looks for requests that have used it up."""


@dataclass(eq=False, slots=True)
class _Waiting:
    """One request, and who waits for its answer."""

    engine: LiveEngine
    asked: Asked
    future: asyncio.Future[Answer]
    since: float
    here: Context | None = None
    is_late: bool = False


class Batcher:
    """Threads that answer requests in batches of whatever is waiting.

    A lonely request is computed at once. Under load, requests gather while the threads are busy, and the
    batches grow by themselves; no request is ever held back to wait for company.

    A request for a slate whose time budget is used up, waiting or being computed, is answered without
    computing: `LiveEngine.answer_at_once`.

    Args:
        settings: Threads, bounds and the time budget.
        metrics: Told how long requests waited, how many were computed together, and which were not.

    Attributes:
        spans: Makes the stages of a batch spans of its requests; None where nobody collects them.
    """

    def __init__(self, settings: AnswerSettings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self.spans: BatchSpans | None = None
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._pending: OrderedDict[int, _Waiting] = OrderedDict()
        self._sweeper: asyncio.Task[None] | None = None
        self._threads = [
            threading.Thread(target=self._work, name=f"zhiyin-worker-{n}", daemon=True)
            for n in range(settings.n_threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def depth(self) -> int:
        """Requests that wait or are being computed."""
        return len(self._pending)

    async def answer(self, engine: LiveEngine, asked: Asked) -> Answer:
        """Answer one request; call it from the event loop.

        Raises:
            Refused: when too many requests wait already.
            ZhiyinError: when the request cannot be answered.
        """
        if len(self._pending) >= self._settings.max_waiting:
            self._metrics.count_shed("queue")
            raise Refused(
                "overloaded",
                f"{len(self._pending)} requests are being computed or wait.",
                remedy="Send the request again in a second.",
                headers={"Retry-After": "1"},
            )
        loop = asyncio.get_running_loop()
        waiting = _Waiting(engine, asked, loop.create_future(), time.perf_counter())
        if self.spans is not None:
            waiting.here = self.spans.tracer.here()
        self._pending[id(waiting)] = waiting
        self._queue.put(waiting)
        if self._sweeper is None or self._sweeper.done():
            self._sweeper = loop.create_task(self._sweep())
        # A caller who goes away cancels only the waiting; the computation leaves the count when it is done.
        return await waiting.future

    def close(self) -> None:
        """Answer what waits, then end the threads."""
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    async def _sweep(self) -> None:
        """Answer requests whose time is used up, as long as any wait."""
        budget = self._settings.budget_ms / 1000
        while self._pending:
            await asyncio.sleep(budget / _SWEEPS_PER_BUDGET)
            latest = time.perf_counter() - budget
            late = []
            for waiting in self._pending.values():
                if waiting.since > latest:
                    break
                late.append(waiting)
            for waiting in late:
                self._answer_late(waiting)

    def _answer_late(self, waiting: _Waiting) -> None:
        if waiting.future.done() or not isinstance(waiting.asked, AskedSlate):
            return
        try:
            answer = waiting.engine.answer_at_once(waiting.asked)
        except Exception as error:
            waiting.future.set_exception(error)
        else:
            self._metrics.count_fallback("time")
            self._metrics.count_cache("answers", hit=answer.degraded == "cached")
            waiting.future.set_result(answer)
        waiting.is_late = True

    def _work(self) -> None:
        while (first := self._queue.get()) is not None:
            batch = [first]
            is_last = False
            while len(batch) < self._settings.max_batch:
                try:
                    more = self._queue.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    is_last = True
                    break
                batch.append(more)
            self._answer_batch(batch)
            if is_last:
                return

    def _answer_batch(self, batch: Sequence[_Waiting]) -> None:
        since = time.perf_counter()
        by_engine: dict[int, list[_Waiting]] = {}
        for waiting in batch:
            if self.spans is not None:
                self.spans.tracer.stage("queue", since - waiting.since, waiting.here)
            if not waiting.is_late:
                by_engine.setdefault(id(waiting.engine), []).append(waiting)
        done: dict[int, Computed | Exception] = {}
        for group in by_engine.values():
            done.update(self._computed(group))
        batch[0].future.get_loop().call_soon_threadsafe(self._finish, batch, since, done)

    def _computed(self, group: Sequence[_Waiting]) -> dict[int, Computed | Exception]:
        """Compute requests of one engine together; one by one where that fails: a fault is its own."""
        spans = _NO_SPANS if self.spans is None else self.spans.of([waiting.here for waiting in group])
        try:
            with spans:
                computed = group[0].engine.compute([waiting.asked for waiting in group])
        except Exception as error:
            if len(group) == 1:
                return {id(group[0]): error}
            done: dict[int, Computed | Exception] = {}
            for waiting in group:
                if not waiting.is_late:  # or it was answered meanwhile
                    done.update(self._computed([waiting]))
            return done
        return dict(zip(map(id, group), computed, strict=True))

    def _finish(
        self, batch: Sequence[_Waiting], since: float, done: Mapping[int, Computed | Exception]
    ) -> None:
        """Settle what was computed where it is known who still waits for it: the event loop."""
        self._metrics.observe_batch(len(batch))
        for waiting in batch:
            self._metrics.observe_stage("queue", since - waiting.since)
            self._pending.pop(id(waiting), None)
            computed = done.get(id(waiting))
            if computed is None or waiting.future.done():
                if waiting.is_late and computed is not None and not isinstance(computed, Exception):
                    waiting.engine.keep(computed)
                continue  # Answered late, or the caller went away: nobody is shown it.
            answer = computed if isinstance(computed, Exception) else waiting.engine.settle(computed)
            if isinstance(answer, Exception):
                waiting.future.set_exception(answer)
            else:
                waiting.future.set_result(answer)
