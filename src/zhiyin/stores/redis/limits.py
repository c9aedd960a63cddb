"""Rate limits: a bucket of tokens a key that fills at a steady rate.

The generic cell rate algorithm keeps one number a bucket, the *theoretical arrival time* (ITU-T I.371): the
moment at which the bucket is full again. Taking ``cost`` moves it by ``cost / rate``; that is allowed while
it stays within ``burst / rate`` of now. So any window of w seconds is granted ``burst + rate · w`` at most.
What is dearer than a full bucket may be let in for less and owe the rest, which is paid before the next.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from zhiyin.domain.errors import StoreError
from zhiyin.stores.redis.connection import RedisConnection

_MANY_KEYS = 50_000
"""Buckets in memory before full ones are thrown away; a full bucket and no bucket are the same."""

_LONGEST_OWED_SECONDS = 600.0
"""How long a bucket may owe, the rest is forgiven; also what a clock that jumps back costs at most."""

_ROUNDING_SECONDS = 1e-9
"""What adding and taking away seconds may be wrong by."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether something may be done now.

    Attributes:
        allowed: Whether it may; only then the tokens are gone.
        retry_after_seconds: When to ask again, 0 where it is allowed; infinite where more is needed than the
            bucket holds, so that it never will be.
        remaining: Tokens left in the bucket, 0 or more.
    """

    allowed: bool
    retry_after_seconds: float
    remaining: float


class RateLimiter(Protocol):
    """Decides who may do how much."""

    def take(
        self, key: str, cost: float = 1.0, *, per_second: float, burst: float, needed: float | None = None
    ) -> Decision:
        """Take tokens out of the bucket of a key, or none where there are too few.

        Args:
            key: Whose bucket.
            cost: Tokens, 0 or more.
            per_second: Tokens that flow in each second, above 0.
            burst: Tokens the bucket holds, above 0; it starts full.
            needed: Tokens that must be there, where that is fewer than the cost; the bucket owes the rest.
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
        self._buckets: dict[str, _Bucket] = {}
        self._tidy_at = _MANY_KEYS

    def take(
        self, key: str, cost: float = 1.0, *, per_second: float, burst: float, needed: float | None = None
    ) -> Decision:
        """Take tokens out of the bucket of a key; see `RateLimiter.take`."""
        asked = _Asked.checked(cost, per_second, burst, needed)
        with self._lock:
            now = self._clock()
            decision, self._buckets[key] = asked.taken(self._buckets.get(key) or _Bucket(now), now)
            if len(self._buckets) > self._tidy_at:
                self._buckets = {key: one for key, one in self._buckets.items() if one.full_at > now}
                self._tidy_at = max(_MANY_KEYS, 2 * len(self._buckets))
        return decision


class _Bucket(NamedTuple):
    """When a bucket is full, and whether it owes."""

    full_at: float
    owes: bool = False


class _Asked(NamedTuple):
    """What somebody wants to take, and out of what."""

    cost: float
    needed: float
    per_second: float
    burst: float

    @classmethod
    def checked(cls, cost: float, per_second: float, burst: float, needed: float | None) -> _Asked:
        """Refuse what cannot be.

        Raises:
            ValueError: saying what.
        """
        if not (0 <= cost < math.inf and 0 < per_second < math.inf and 0 < burst < math.inf):
            wrong = f"cost {cost} must be 0 or more, per_second {per_second} and burst {burst} above 0"
            raise ValueError(f"{wrong}, all finite")
        return cls(cost, cost if needed is None else min(needed, cost), per_second, burst)

    def taken(self, bucket: _Bucket, now: float) -> tuple[Decision, _Bucket]:
        """Decide, and return what the bucket is then. `_TAKE` says the same in Lua."""
        empty = now + self.burst / self.per_second
        latest = max(empty, now + _LONGEST_OWED_SECONDS)
        # Later than an empty bucket takes to fill, and owing nothing, is only possible when a setting or the
        # clock changed.
        full_at = min(max(bucket.full_at, now), latest if bucket.owes else empty)
        wait = full_at + self.needed / self.per_second - empty
        if self.needed > self.burst:
            return Decision(False, math.inf, self._left(full_at, now)), bucket
        if wait > _ROUNDING_SECONDS:
            return Decision(False, wait, self._left(full_at, now)), bucket
        full_then = min(full_at + self.cost / self.per_second, latest)
        return Decision(True, 0.0, self._left(full_then, now)), _Bucket(full_then, full_then > empty)

    def _left(self, full_at: float, now: float) -> float:
        return max(0.0, self.burst - (full_at - now) * self.per_second)


# KEYS: bucket. ARGV: cost, needed, per second, burst, seconds it may owe. Answers {allowed, wait in
# microseconds, remaining}. Times are whole microseconds of the server's clock; rounding grants at most what
# flows in during one of them.
_TAKE = """
local cost, needed = tonumber(ARGV[1]), tonumber(ARGV[2])
local rate, burst, owed = tonumber(ARGV[3]) / 1000000, tonumber(ARGV[4]), tonumber(ARGV[5]) * 1000000
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local fill = burst / rate
local empty = now + math.ceil(fill)
local latest = math.max(empty, now + owed)
local full_at, owes = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+)(.*)$')
full_at = math.min(math.max(tonumber(full_at or now), now), owes == ' owes' and latest or empty)
local wait = full_at + math.ceil(needed / rate) - empty
local allowed = wait <= 0
if allowed then
  full_at = math.min(full_at + math.ceil(cost / rate), latest)
  if cost > 0 then
    local bucket = string.format(full_at > empty and '%.0f owes' or '%.0f', full_at)
    redis.call('SET', KEYS[1], bucket, 'PX', math.ceil((full_at - now) / 1000) + 1)
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

    def take(
        self, key: str, cost: float = 1.0, *, per_second: float, burst: float, needed: float | None = None
    ) -> Decision:
        """Take tokens out of the bucket of a key; see `RateLimiter.take`."""
        asked = _Asked.checked(cost, per_second, burst, needed)
        arguments: list[object] = [repr(float(number)) for number in (*asked, _LONGEST_OWED_SECONDS)]
        try:
            allowed, wait, left = self._take([f"{self._name}:limit:{key}"], arguments)
        except StoreError:
            return self._alone.take(key, cost, per_second=per_second, burst=burst, needed=needed)
        seconds = math.inf if asked.needed > burst else int(wait) / 1e6
        return Decision(allowed == 1, seconds, float(left))
