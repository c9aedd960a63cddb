"""Rate limits of keys, and the headers that tell callers how much is left."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple

from zhiyin.serving.access.scopes import Principal
from zhiyin.serving.problems import Refused
from zhiyin.serving.settings import AccessSettings

if TYPE_CHECKING:
    from zhiyin.stores.redis.limits import Decision, RateLimiter

EVENTS_PER_REQUEST = 100
"""Events that cost as much as one request."""
_LOOK_SECONDS = 1.0
Headers = list[tuple[bytes, bytes]]


def _nobody_counts(_: str) -> None:
    """Count nothing."""


class RateLimits:
    """Takes from the bucket of a key, and refuses where it is empty.

    A bucket fills with ``requests_per_second`` and holds ``burst_seconds`` of them, one at least. A request
    costs 1; a request with events costs another 1 for every `EVENTS_PER_REQUEST`.

    Args:
        limiter: Keeps the buckets.
        settings: The limit of keys without their own, and the burst.
        waits: Whether the limiter asks another machine; it is then asked in a thread.
        refused: Told whose requests are refused.
    """

    def __init__(
        self,
        limiter: RateLimiter,
        settings: AccessSettings,
        *,
        waits: bool = False,
        refused: Callable[[str], None] = _nobody_counts,
    ) -> None:
        self._limiter = limiter
        self._default = settings.requests_per_second
        self._burst_seconds = settings.burst_seconds
        self._waits = waits
        self._refused = refused

    async def take(self, principal: Principal) -> Headers:
        """Take the cost of a request; a caller without a key has no limit.

        Returns:
            Headers for the answer: those of the current draft of the IETF, ``RateLimit`` and
            ``RateLimit-Policy`` (draft-ietf-httpapi-ratelimit-headers-08 and later), and the three of the
            drafts before, which most clients read.

        Raises:
            Refused: when the bucket holds too little; nothing is taken then.
        """
        bucket = self._bucket_of(principal)
        if bucket is None:
            return []
        decision = await self._decide(bucket, 1.0, 1.0)
        if not decision.allowed:
            raise self._refusal(principal, bucket, decision, decision.retry_after_seconds)
        return _headers(decision, bucket)

    async def take_events(self, principal: Principal, n_events: int) -> Headers:
        """Take what events cost beyond their request, once it is known how many there are.

        Where that is more than a bucket holds, a full one lets them in, and the key owes the rest.

        Returns:
            Headers as `take` does, of what is left now.

        Raises:
            Refused: when the bucket holds too little.
        """
        bucket = self._bucket_of(principal)
        if bucket is None:
            return []
        cost = n_events / EVENTS_PER_REQUEST
        # The request itself has taken 1 from it, and will again when it is sent again.
        decision = await self._decide(bucket, cost, min(cost, bucket.burst - 1.0))
        if not decision.allowed:
            seconds = decision.retry_after_seconds + 1.0 / bucket.rate
            raise self._refusal(principal, bucket, decision, seconds)
        return _headers(decision, bucket)

    async def wait_for_events(
        self, principal: Principal, n_events: int, meanwhile: Callable[[], Awaitable[None]]
    ) -> None:
        """Take what events of a stream cost, and wait until the bucket holds as much as it can of that.

        A stream that is too fast is slowed down: refused in the middle, it would only come again.

        Args:
            principal: Whose stream.
            n_events: How many.
            meanwhile: Called about each second; what it raises ends the wait.
        """
        bucket = self._bucket_of(principal)
        if bucket is None:
            return
        cost = n_events / EVENTS_PER_REQUEST
        while True:
            decision = await self._decide(bucket, cost, min(cost, bucket.burst))
            if decision.allowed:
                return
            await asyncio.sleep(min(decision.retry_after_seconds, _LOOK_SECONDS))
            await meanwhile()

    def _bucket_of(self, principal: Principal) -> _Bucket | None:
        rate = principal.requests_per_second or self._default
        if not principal.key_id or rate <= 0:
            return None
        return _Bucket(principal.key_id, rate, max(1.0, rate * self._burst_seconds))

    async def _decide(self, bucket: _Bucket, cost: float, needed: float) -> Decision:
        def take() -> Decision:
            return self._limiter.take(
                bucket.key_id, cost, per_second=bucket.rate, burst=bucket.burst, needed=needed
            )

        return await asyncio.to_thread(take) if self._waits else take()

    def _refusal(self, principal: Principal, bucket: _Bucket, decision: Decision, wait: float) -> Refused:
        self._refused(principal.tenant)
        seconds = max(1, math.ceil(wait))
        headers = {name.decode(): value.decode() for name, value in _headers(decision, bucket)}
        return Refused(
            "rate-limited",
            f"The key {principal.key_id} asks for more than {bucket.rate:g} requests a second.",
            possible=f"It may ask for {bucket.rate:g} a second, and {bucket.burst:g} at once after a pause.",
            remedy=f"Send the request again in {seconds} s. A request with events costs 1 more for every "
            f"{EVENTS_PER_REQUEST} of them.",
            headers={"Retry-After": str(seconds)} | headers,
        )


class _Bucket(NamedTuple):
    """Whose requests, how many a second, and how many at once."""

    key_id: str
    rate: float
    burst: float


def _headers(decision: Decision, bucket: _Bucket) -> Headers:
    rate, burst = bucket.rate, bucket.burst
    limit, left = int(burst), int(decision.remaining)
    # A key that owes waits for longer than its bucket takes to fill.
    full_in = math.ceil(max((burst - decision.remaining) / rate, decision.retry_after_seconds))
    return [
        (b"ratelimit-policy", b'"key";q=%d;w=%d' % (limit, math.ceil(burst / rate))),
        (b"ratelimit", b'"key";r=%d;t=%d' % (left, full_in)),
        (b"ratelimit-limit", b"%d" % limit),
        (b"ratelimit-remaining", b"%d" % left),
        (b"ratelimit-reset", b"%d" % full_in),
    ]
