"""Rate limits: a bucket of tokens a key that fills at a steady rate.

The generic cell rate algorithm keeps one number a bucket, the *theoretical arrival time* (ITU-T I.371): the
moment at which the bucket is full again. Taking ``cost`` moves it by ``cost / rate``; that is allowed while
it stays within ``burst / rate`` of now. So any window of w seconds is granted ``burst + rate · w`` at most.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from zhiyin.domain.errors import StoreError
from zhiyin.stores.redis.connection import RedisConnection

_MANY_KEYS = 50_000
"""Buckets in memory before full ones are thrown away; a full bucket and no bucket are the same."""

_ROUNDING_SECONDS = 1e-9
"""What adding and taking away seconds may be wrong by."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether something may be done now.

    Attributes:
        allowed: Whether it may; only then the tokens are gone.
        retry_after_seconds: When to ask again, 0 where it is allowed; infinite where the cost is more than
            the bucket holds, so that it never will be.
        remaining: Tokens left in the bucket, 0 or more.
    """

    allowed: bool
    retry_after_seconds: float
    remaining: float


class RateLimiter(Protocol):
    """Decides who may do how much."""

    def take(self, key: str, cost: float = 1.0, *, per_second: float, burst: float) -> Decision:
        """Take tokens out of the bucket of a key, or none where there are too few.

        Args:
            key: Whose bucket.
            cost: Tokens, 0 or more.
            per_second: Tokens that flow in each second, above 0.
            burst: Tokens the bucket holds, above 0; it starts full.
        """
        ...


class LocalRateLimiter:
    """Buckets in the memory of one process.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._full_at: dict[str, float] = {}
        self._tidy_at = _MANY_KEYS

    def take(self, key: str, cost: float = 1.0, *, per_second: float, burst: float) -> Decision:
        """Take tokens out of the bucket of a key; see `RateLimiter.take`."""
        _check(cost, per_second, burst)
        with self._lock:
            now = self._clock()
            decision, full_at = _taken(self._full_at.get(key, now), now, cost, per_second, burst)
            self._full_at[key] = full_at
            if len(self._full_at) > self._tidy_at:
                self._full_at = {key: at for key, at in self._full_at.items() if at > now}
                self._tidy_at = max(_MANY_KEYS, 2 * len(self._full_at))
        return decision


def _taken(
    full_at: float, now: float, cost: float, per_second: float, burst: float
) -> tuple[Decision, float]:
    """Decide, and return when the bucket is full then. `_TAKE` says the same in Lua."""
    fill_seconds = burst / per_second
    # Later than an empty bucket takes to fill is only possible when a setting or the clock changed.
    full_at = min(max(full_at, now), now + fill_seconds)
    full_then = full_at + cost / per_second
    wait = full_then - now - fill_seconds
    if cost > burst:
        return Decision(False, math.inf, _left(full_at, now, per_second, burst)), full_at
    if wait > _ROUNDING_SECONDS:
        return Decision(False, wait, _left(full_at, now, per_second, burst)), full_at
    return Decision(True, 0.0, _left(full_then, now, per_second, burst)), full_then


def _left(full_at: float, now: float, per_second: float, burst: float) -> float:
    return max(0.0, burst - (full_at - now) * per_second)


# KEYS: bucket. ARGV: cost, per second, burst. Answers {allowed, wait in microseconds, remaining}. Times are
# whole microseconds of the server's clock; rounding grants at most what flows in during one of them.
_TAKE = """
local cost, rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2]) / 1000000, tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local fill = burst / rate
local full_at = tonumber(redis.call('GET', KEYS[1]) or now)
full_at = math.min(math.max(full_at, now), now + math.ceil(fill))
local full_then = full_at + math.ceil(cost / rate)
local wait = full_then - now - math.ceil(fill)
local allowed = wait <= 0
if allowed then
  full_at = full_then
  if cost > 0 then
    redis.call('SET', KEYS[1], string.format('%.0f', full_at), 'PX', math.ceil((full_at - now) / 1000) + 1)
  end
  wait = 0
end
local left = math.max(0, burst - (full_at - now) * rate)
return {allowed and 1 or 0, string.format('%.0f', wait), string.format('%.17g', left)}
"""


class SharedRateLimiter:
    """Buckets in Redis: all processes of a service draw from the same ones, by the clock of the server.

    While Redis is away every process goes on with buckets of its own and the full limits, so that n processes
    together grant up to n times as much: a limit is no reason to refuse everybody.

    Args:
        connection: The server.
        name: What the service is called in Redis.
        alone: Decides while Redis is away.
    """

    def __init__(
        self, connection: RedisConnection, *, name: str = "zhiyin", alone: RateLimiter | None = None
    ) -> None:
        self._name = name
        self._take = connection.script(_TAKE)
        self._alone = alone or LocalRateLimiter()

    def take(self, key: str, cost: float = 1.0, *, per_second: float, burst: float) -> Decision:
        """Take tokens out of the bucket of a key; see `RateLimiter.take`."""
        _check(cost, per_second, burst)
        arguments: list[object] = [repr(float(number)) for number in (cost, per_second, burst)]
        try:
            allowed, wait, left = self._take([f"{self._name}:limit:{key}"], arguments)
        except StoreError:
            return self._alone.take(key, cost, per_second=per_second, burst=burst)
        seconds = math.inf if cost > burst else int(wait) / 1e6
        return Decision(allowed == 1, seconds, float(left))


def _check(cost: float, per_second: float, burst: float) -> None:
    if not (0 <= cost < math.inf and 0 < per_second < math.inf and 0 < burst < math.inf):
        raise ValueError(
            f"cost {cost} must be 0 or more, per_second {per_second} and burst {burst} above 0, all finite"
        )
