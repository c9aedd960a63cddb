"""Requests that wait are answered together, each with its own answer, and nobody waits for ever."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from zhiyin.domain import Recommendation
from zhiyin.online.asked import Answer, Asked, AskedSlate, Wanted
from zhiyin.serving.batching import Batcher
from zhiyin.serving.metrics import Metrics
from zhiyin.serving.problems import Refused
from zhiyin.serving.settings import AnswerSettings


class Engine:
    """Answers with who asked; can be held up, fails for ``bad``, and for whoever comes with ``broken``."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.go_on.set()
        self.busy = threading.Event()
        self.batches: list[list[str]] = []
        self.shown: list[str] = []
        self.kept: list[str] = []

    def compute(self, asked: Sequence[Asked]) -> list[str]:
        self.busy.set()
        self.go_on.wait(timeout=10)
        names = [str(one.who) for one in asked if isinstance(one, AskedSlate)]
        self.batches.append(names)
        if "broken" in names:
            raise KeyError("broken")
        return names

    def settle(self, name: str) -> Answer | Exception:
        self.shown.append(name)
        return ValueError(name) if name == "bad" else answer_of(name)

    def keep(self, name: str) -> None:
        self.kept.append(name)

    def answer_at_once(self, asked: AskedSlate) -> Answer:
        return Answer((), "b", known_user=True, degraded="popular")


def answer_of(name: str) -> Answer:
    return Answer((Recommendation(f"for-{name}", 1, 1.0),), "b")


def asked_by(name: str) -> AskedSlate:
    return AskedSlate(name, Wanted(), "r")


def run(what: Callable[[Batcher, Any], Awaitable[None]], engine: Any, **given: Any) -> None:
    async def whole() -> None:
        batcher = Batcher(AnswerSettings(**given), Metrics())
        try:
            await asyncio.wait_for(what(batcher, engine), timeout=20)
        finally:
            engine.go_on.set()
            await asyncio.to_thread(batcher.close)

    asyncio.run(whole())


async def under_way(engine: Engine) -> None:
    """Return when the engine computes, and what came after has had time to line up."""
    await asyncio.to_thread(engine.busy.wait, 10)
    for _ in range(5):
        await asyncio.sleep(0)


async def answered_behind_another(
    batcher: Batcher, engine: Engine, names: list[str]
) -> list[Answer | BaseException]:
    """Answer somebody called first, and then, together, those who came meanwhile."""
    engine.go_on.clear()
    first = asyncio.create_task(batcher.answer(engine, asked_by("first")))
    await asyncio.sleep(0)
    await under_way(engine)
    others = [asyncio.create_task(batcher.answer(engine, asked_by(name))) for name in names]
    await asyncio.sleep(0.05)
    assert batcher.depth == 1 + len(names)
    engine.go_on.set()
    return await asyncio.gather(first, *others, return_exceptions=True)


def test_who_waits_is_answered_together_and_an_error_of_one_is_its_own() -> None:
    engine = Engine()

    async def what(batcher: Batcher, engine: Engine) -> None:
        names = ["anna", "bad", "carl"]
        answered = await answered_behind_another(batcher, engine, names)
        assert [one.items[0].item_id for one in answered if isinstance(one, Answer)] == [
            "for-first",
            "for-anna",
            "for-carl",
        ]
        assert isinstance(answered[2], ValueError)
        assert engine.batches == [["first"], names]

    run(what, engine, n_threads=1)


def test_a_request_that_breaks_its_batch_is_refused_alone() -> None:
    engine = Engine()

    async def what(batcher: Batcher, engine: Engine) -> None:
        names = ["anna", "broken", "carl"]
        answered = await answered_behind_another(batcher, engine, names)
        assert [isinstance(one, KeyError) for one in answered] == [False, False, True, False]
        items = [one.items[0].item_id for one in answered if isinstance(one, Answer)]
        assert items == ["for-first", "for-anna", "for-carl"]
        assert batcher.depth == 0

    run(what, engine, n_threads=1)


def test_who_waits_too_long_is_answered_without_computing() -> None:
    engine = Engine()

    async def what(batcher: Batcher, engine: Engine) -> None:
        engine.go_on.clear()
        waiting = [asyncio.create_task(batcher.answer(engine, asked_by(name))) for name in "ab"]
        answers = await asyncio.gather(*waiting)
        assert [answer.degraded for answer in answers] == ["popular", "popular"]
        engine.go_on.set()
        assert (await batcher.answer(engine, asked_by("later"))).degraded is None

    run(what, engine, n_threads=1, budget_ms=60)
    assert ["later"] in engine.batches
    # One was being computed already; the other, waiting behind it, was never computed.
    computed = [name for batch in engine.batches for name in batch]
    assert computed in (["a", "later"], ["a", "b", "later"])
    # What came too late was shown to nobody; it is remembered for when time runs out again.
    assert engine.shown == ["later"]
    assert engine.kept == computed[:-1]


def test_too_many_are_refused_and_a_caller_who_goes_away_leaves_no_place_taken() -> None:
    engine = Engine()

    async def what(batcher: Batcher, engine: Engine) -> None:
        engine.go_on.clear()
        waiting = [asyncio.create_task(batcher.answer(engine, asked_by(str(n)))) for n in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Refused, match="wait") as refused:
            await batcher.answer(engine, asked_by("one too many"))
        assert refused.value.headers == {"Retry-After": "1"}
        waiting[1].cancel()
        engine.go_on.set()
        kept = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(kept[1], asyncio.CancelledError)
        assert [one.items[0].item_id for one in kept if isinstance(one, Answer)] == ["for-0", "for-2"]
        while batcher.depth:
            await asyncio.sleep(0.01)
        assert (await batcher.answer(engine, asked_by("next"))).items

    run(what, engine, n_threads=1, max_waiting=3)


def test_close_answers_what_waits() -> None:
    engine = Engine()

    async def whole() -> None:
        batcher = Batcher(AnswerSettings(n_threads=2), Metrics())
        waiting = [asyncio.create_task(batcher.answer(engine, asked_by(str(n)))) for n in range(20)]
        await asyncio.sleep(0)
        await asyncio.to_thread(batcher.close)
        answers = await asyncio.gather(*waiting)
        assert [answer.items[0].item_id for answer in answers] == [f"for-{n}" for n in range(20)]

    asyncio.run(asyncio.wait_for(whole(), timeout=20))
