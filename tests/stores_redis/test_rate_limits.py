"""One suite for both rate limiters: never more than the bucket and what flowed into it."""

import math
import threading
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhiyin.stores.redis.connection import Breaker, RedisConnection
from zhiyin.stores.redis.limits import LocalRateLimiter, RateLimiter, SharedRateLimiter


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["local", "shared"])
def limiter(request: pytest.FixtureRequest) -> RateLimiter:
    if request.param == "local":
        return LocalRateLimiter()
    return SharedRateLimiter(RedisConnection(request.getfixturevalue("redis_url")))


def test_a_full_bucket_is_granted_and_no_more(limiter: RateLimiter) -> None:
    granted = [limiter.take("a", per_second=0.01, burst=5) for _ in range(8)]
    assert [decision.allowed for decision in granted] == [True] * 5 + [False] * 3
    assert [decision.remaining for decision in granted] == pytest.approx([4, 3, 2, 1, 0, 0, 0, 0], abs=0.05)
    assert granted[0].retry_after_seconds == 0
    assert granted[7].retry_after_seconds == pytest.approx(100, abs=2)


def test_keys_do_not_meet(limiter: RateLimiter) -> None:
    assert limiter.take("a", 5, per_second=0.01, burst=5).allowed
    assert limiter.take("b", 5, per_second=0.01, burst=5).allowed
    assert not limiter.take("a", per_second=0.01, burst=5).allowed


def test_who_waits_as_long_as_told_is_granted(limiter: RateLimiter) -> None:
    limiter.take("a", 10, per_second=100, burst=10)
    refused = limiter.take("a", 3, per_second=100, burst=10)
    assert not refused.allowed
    assert 0 < refused.retry_after_seconds <= 0.031
    time.sleep(refused.retry_after_seconds + 0.001)
    assert limiter.take("a", 3, per_second=100, burst=10).allowed


def test_what_costs_more_than_the_bucket_holds_is_never_granted_and_takes_nothing(
    limiter: RateLimiter,
) -> None:
    decision = limiter.take("a", 6, per_second=1, burst=5)
    assert not decision.allowed
    assert decision.retry_after_seconds == math.inf
    assert limiter.take("a", 5, per_second=1, burst=5).allowed


def test_asking_costs_nothing(limiter: RateLimiter) -> None:
    limiter.take("a", 2, per_second=0.01, burst=5)
    for _ in range(3):
        decision = limiter.take("a", 0, per_second=0.01, burst=5)
        assert decision.allowed
        assert decision.remaining == pytest.approx(3, abs=0.05)


def test_a_lower_limit_counts_at_once(limiter: RateLimiter) -> None:
    limiter.take("a", 1_000, per_second=0.5, burst=1_000)
    refused = limiter.take("a", per_second=100, burst=1)
    assert refused.retry_after_seconds <= 0.011


def test_what_is_dearer_than_the_bucket_is_owed(limiter: RateLimiter) -> None:
    first = limiter.take("a", 12, per_second=50, burst=2, needed=2)
    assert first.allowed
    assert first.remaining == 0
    refused = limiter.take("a", 1, per_second=50, burst=2)
    assert 0.19 <= refused.retry_after_seconds <= 0.22, "what is owed is paid before the next"
    time.sleep(0.1)
    assert 0.05 <= limiter.take("a", 1, per_second=50, burst=2).retry_after_seconds <= 0.12
    time.sleep(refused.retry_after_seconds)
    assert limiter.take("a", 1, per_second=50, burst=2).allowed
    assert limiter.take("b", 3, per_second=50, burst=2, needed=3).retry_after_seconds == math.inf
    assert limiter.take("b", 1e9, per_second=1, burst=2, needed=0).allowed
    assert 590 <= limiter.take("b", 1, per_second=1, burst=2).retry_after_seconds <= 600, "not for ever"


@pytest.mark.parametrize(
    "wrong", [{"cost": -1}, {"cost": math.nan}, {"per_second": 0}, {"burst": 0}, {"burst": math.inf}]
)
def test_senseless_numbers_are_refused(limiter: RateLimiter, wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be"):
        limiter.take("a", **{"cost": 1.0, "per_second": 1.0, "burst": 1.0, **wrong})


def test_threads_share_one_budget(limiter: RateLimiter) -> None:
    granted = [0] * 4

    def draw(place: int) -> None:
        for _ in range(50):
            granted[place] += limiter.take("a", per_second=0.01, burst=60).allowed

    threads = [threading.Thread(target=draw, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(granted) == 60


def test_two_processes_share_one_budget(redis_url: str) -> None:
    one, other = (SharedRateLimiter(RedisConnection(redis_url)) for _ in range(2))
    granted = sum(
        limiter.take("a", per_second=0.01, burst=7).allowed for _ in range(6) for limiter in (one, other)
    )
    assert granted == 7


def test_over_real_time_the_shared_bucket_grants_burst_and_rate(redis_url: str) -> None:
    limiter = SharedRateLimiter(RedisConnection(redis_url))
    begin = time.monotonic()
    granted = 0.0
    while time.monotonic() - begin < 0.5:
        granted += 0.5 * limiter.take("a", 0.5, per_second=200, burst=10).allowed
    seconds = time.monotonic() - begin
    assert granted <= 10 + 200 * seconds + 0.5
    assert granted >= 10 + 200 * 0.5 - 5


def test_full_buckets_leave_redis(redis_url: str) -> None:
    connection = RedisConnection(redis_url)
    limiter = SharedRateLimiter(connection)
    for number in range(20):
        limiter.take(f"key-{number}", per_second=50, burst=1)
    time.sleep(0.06)
    keys = [f"zhiyin:limit:key-{number}" for number in range(20)]
    assert connection.ask(lambda client: client.exists(*keys)) == 0


TAKES = st.lists(
    st.tuples(st.floats(0, 3, allow_nan=False), st.floats(0, 6, allow_nan=False)), min_size=1, max_size=60
)
"""(seconds since the last one, cost)"""


@given(takes=TAKES, per_second=st.floats(0.1, 20), burst=st.floats(0.5, 10))
@settings(max_examples=200)
def test_no_window_holds_more_than_burst_and_rate(
    takes: list[tuple[float, float]], per_second: float, burst: float
) -> None:
    clock = Clock()
    limiter = LocalRateLimiter(clock)
    granted: list[tuple[float, float]] = []
    for wait, cost in takes:
        clock.now += wait
        decision = limiter.take("a", cost, per_second=per_second, burst=burst)
        assert 0 <= decision.remaining <= burst * (1 + 1e-9)
        if decision.allowed:
            granted.append((clock.now, cost))
    for begin in range(len(granted)):
        spent = 0.0
        for when, cost in granted[begin:]:
            spent += cost
            assert spent <= burst + per_second * (when - granted[begin][0]) + 1e-6


@given(takes=TAKES, per_second=st.floats(0.1, 20), burst=st.floats(0.5, 10))
@settings(max_examples=200)
def test_the_local_bucket_is_a_bucket(
    takes: list[tuple[float, float]], per_second: float, burst: float
) -> None:
    """The one number kept tells the same as a bucket of tokens that is filled and emptied."""
    clock = Clock()
    limiter = LocalRateLimiter(clock)
    tokens = burst
    for wait, cost in takes:
        clock.now += wait
        tokens = min(burst, tokens + wait * per_second)
        decision = limiter.take("a", cost, per_second=per_second, burst=burst)
        if abs(tokens - cost) > 1e-6:
            assert decision.allowed == (cost <= tokens)
        tokens -= cost if decision.allowed else 0.0
        assert decision.remaining == pytest.approx(max(tokens, 0.0), abs=1e-6)


def test_a_clock_that_goes_back_locks_nobody_out_for_long() -> None:
    clock = Clock()
    limiter = LocalRateLimiter(clock)
    limiter.take("a", 5, per_second=1, burst=5)
    clock.now -= 900
    assert limiter.take("a", per_second=1, burst=5).retry_after_seconds <= 1


def test_buckets_nobody_needs_leave_memory() -> None:
    clock = Clock()
    limiter = LocalRateLimiter(clock)
    for number in range(120_000):
        clock.now += 0.001
        limiter.take(f"key-{number}", per_second=1, burst=1)
    assert len(limiter._buckets) <= 50_001


def test_while_redis_is_away_every_process_limits_alone(redis_server: Any) -> None:
    connection = RedisConnection(redis_server.url, breaker=Breaker(first_pause=0.02, longest_pause=0.02))
    limiter = SharedRateLimiter(connection)
    assert limiter.take("a", 3, per_second=0.01, burst=3).allowed
    redis_server.kill()
    assert limiter.take("a", 3, per_second=0.01, burst=3).allowed  # its own full bucket
    assert not limiter.take("a", per_second=0.01, burst=3).allowed
    redis_server.start()
    time.sleep(0.03)
    assert limiter.take("a", 3, per_second=0.01, burst=3).allowed  # an empty Redis: a full bucket
    assert not limiter.take("a", per_second=0.01, burst=3).allowed
