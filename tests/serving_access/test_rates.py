"""Rate limits per key, and the headers that tell about them."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiyin.serving.access import rates
from zhiyin.serving.access.rates import EVENTS_PER_REQUEST, RateLimits
from zhiyin.serving.access.scopes import Principal
from zhiyin.serving.problems import Refused
from zhiyin.serving.settings import AccessSettings
from zhiyin.stores.redis.limits import Decision, LocalRateLimiter


class Time:
    now = 0.0


def principal(key_id: str = "k", own: float | None = None) -> Principal:
    return Principal(key_id, "tea", frozenset({"recommend"}), own)


def limits(time: Time, per_second: float = 10, burst_seconds: float = 2) -> RateLimits:
    settings = AccessSettings(requests_per_second=per_second, burst_seconds=burst_seconds)
    return RateLimits(LocalRateLimiter(lambda: time.now), settings)


async def nothing() -> None:
    """Do nothing meanwhile."""


async def n_allowed(limits: RateLimits, who: Principal, n: int) -> int:
    allowed = 0
    for _ in range(n):
        with contextlib.suppress(Refused):
            await limits.take(who)
            allowed += 1
    return allowed


def test_a_burst_and_then_the_rate() -> None:
    async def test() -> None:
        time = Time()
        asked = limits(time)
        assert await n_allowed(asked, principal(), 50) == 20
        time.now += 1
        assert await n_allowed(asked, principal(), 50) == 10
        time.now += 100
        assert await n_allowed(asked, principal(), 50) == 20

    asyncio.run(test())


def test_each_key_has_a_bucket_and_perhaps_a_limit_of_its_own() -> None:
    async def test() -> None:
        asked = limits(Time())
        assert await n_allowed(asked, principal("a"), 50) == 20
        assert await n_allowed(asked, principal("b"), 50) == 20
        assert await n_allowed(asked, principal("c", own=3), 50) == 6
        assert await n_allowed(asked, principal("d", own=0.1), 50) == 1
        assert await n_allowed(asked, principal(""), 50) == 50  # nobody has a key yet

    asyncio.run(test())


def test_no_limit_unless_the_key_has_one() -> None:
    async def test() -> None:
        asked = limits(Time(), per_second=0)
        assert await asked.take(principal()) == []
        assert await n_allowed(asked, principal("own", own=2), 50) == 4

    asyncio.run(test())


def test_events_cost_a_hundredth() -> None:
    async def test() -> None:
        asked = limits(Time())
        await asked.take(principal())
        await asked.take_events(principal(), 1_500)
        assert await n_allowed(asked, principal(), 50) == 4

    asyncio.run(test())


@pytest.mark.parametrize("rate", [0.1, 1, 10, 200])
def test_who_sends_more_events_than_a_bucket_holds_gets_in_as_told_and_keeps_to_the_rate(rate: float) -> None:
    async def test() -> None:
        time = Time()
        asked = limits(time, per_second=rate)
        n_sent = 0
        for _ in range(400):
            try:
                await asked.take(principal())
                await asked.take_events(principal(), 3_000)
            except Refused as refused:
                time.now += float(refused.headers["Retry-After"])
            else:
                n_sent += 1
        assert n_sent >= 130, "of three tries one: the bucket of the request itself, then that of its events"
        cost = n_sent * (1 + 3_000 / EVENTS_PER_REQUEST)
        assert cost <= rate * time.now + rate * 2 + 31 + 1

    asyncio.run(test())


def test_a_stream_that_is_too_fast_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    time = Time()

    async def sleep(seconds: float) -> None:
        time.now += seconds

    monkeypatch.setattr(rates.asyncio, "sleep", sleep)

    async def test() -> None:
        asked = limits(time)
        for _ in range(100):
            await asked.wait_for_events(principal(), 1_000, nothing)

    asyncio.run(test())
    # 100 groups of 10 at 10 a second, the first 20 at once.
    assert 98 <= time.now <= 98.1


def test_a_stream_that_waits_ends_as_soon_as_it_must() -> None:
    async def test() -> None:
        n_looks = 0

        async def look() -> None:
            nonlocal n_looks
            n_looks += 1
            raise Refused("overloaded", "over")

        asked = RateLimits(LocalRateLimiter(), AccessSettings(requests_per_second=1, burst_seconds=2))
        await asked.wait_for_events(principal(), 50_000, look)
        with pytest.raises(Refused, match="over"):
            await asyncio.wait_for(asked.wait_for_events(principal(), 100, look), 5)
        assert n_looks == 1

    asyncio.run(test())


def test_the_headers_tell_what_is_left() -> None:
    async def test() -> None:
        time = Time()
        asked = limits(time)
        assert dict(await asked.take(principal())) == {
            b"ratelimit-policy": b'"key";q=20;w=2',
            b"ratelimit": b'"key";r=19;t=1',
            b"ratelimit-limit": b"20",
            b"ratelimit-remaining": b"19",
            b"ratelimit-reset": b"1",
        }
        await n_allowed(asked, principal(), 50)
        with pytest.raises(Refused) as refused:
            await asked.take_events(principal(), 1_500)
        assert refused.value.kind == "rate-limited"
        assert refused.value.headers["Retry-After"] == "2"
        assert refused.value.headers["ratelimit-remaining"] == "0"
        time.now += 2  # whoever waits as told gets in
        await asked.take(principal())
        await asked.take_events(principal(), 1_500)

    asyncio.run(test())


@given(st.floats(0.01, 1e6), st.floats(0.001, 3600), st.lists(st.integers(0, 20_000), min_size=1, max_size=9))
def test_whoever_waits_as_told_gets_in(rate: float, burst_seconds: float, n_events: list[int]) -> None:
    async def test() -> None:
        time = Time()
        asked = limits(time, rate, burst_seconds)

        async def send(n: int) -> None:
            await asked.take(principal())
            await asked.take_events(principal(), n)

        for n in n_events:
            for _ in range(2):  # the bucket of the request itself, then that of its events
                try:
                    await send(n)
                    break
                except Refused as refused:
                    time.now += int(refused.headers["Retry-After"]) * (1 + 1e-9)
            else:
                await send(n)

    asyncio.run(test())


def test_a_limiter_that_waits_is_asked_in_a_thread() -> None:
    asked_in: list[threading.Thread] = []

    class Remote:
        def take(
            self, key: str, cost: float, *, per_second: float, burst: float, needed: float | None
        ) -> Decision:
            asked_in.append(threading.current_thread())
            assert (key, cost, per_second, burst, needed) == ("k", 1.0, 10.0, 20.0, 1.0)
            return Decision(True, 0.0, 19.0)

    settings = AccessSettings(requests_per_second=10, burst_seconds=2)
    asyncio.run(RateLimits(Remote(), settings, waits=True).take(principal()))
    asyncio.run(RateLimits(Remote(), settings).take(principal()))
    assert [thread is threading.main_thread() for thread in asked_in] == [False, True]


def test_every_refusal_is_counted_for_its_tenant_and_waiting_is_none() -> None:
    async def test() -> None:
        counted: list[str] = []
        settings = AccessSettings(requests_per_second=10, burst_seconds=2)
        asked = RateLimits(LocalRateLimiter(lambda: 0.0), settings, refused=counted.append)
        assert await n_allowed(asked, principal(), 23) == 20
        assert counted == ["tea"] * 3
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asked.wait_for_events(principal(), 100, nothing), 0.05)
        assert counted == ["tea"] * 3
        with pytest.raises(Refused):
            await asked.take_events(principal(), 100)
        assert counted == ["tea"] * 4

    asyncio.run(test())
