"""Rate limits of keys, and the headers that tell callers how much is left."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from zhiyin.serving.access.scopes import Principal
from zhiyin.serving.problems import Refused
from zhiyin.serving.settings import AccessSettings

if TYPE_CHECKING:
    from zhiyin.stores.redis.limits import Decision, RateLimiter

EVENTS_PER_REQUEST = 100
"""Events that cost as much as one request."""
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

    async def take(self, principal: Principal, cost: float = 1.0) -> Headers:
        """Take the cost of a request; a caller without a key has no limit.

        Returns:
            Headers for the answer: those of the current draft of the IETF, ``RateLimit`` and
            ``RateLimit-Policy`` (draft-ietf-httpapi-ratelimit-headers-08 and later), and the three of the
            drafts before, which most clients read.

        Raises:
            Refused: when the bucket holds too little; nothing is taken then.
        """
        try:
            return await self._take(principal, cost)
        except Refused:
            self._refused(principal.tenant)
            raise

    async def _take(self, principal: Principal, cost: float) -> Headers:
        rate = principal.requests_per_second or self._default
        if not principal.key_id or rate <= 0:
            return []
        burst = max(1.0, rate * self._burst_seconds)
        cost = min(cost, burst)  # dearer than a full bucket would never be allowed
        decision = await self._decide(principal.key_id, cost, rate, burst)
        headers = _headers(decision, rate, burst)
        if decision.allowed:
            return headers
        seconds = max(1, math.ceil(decision.retry_after_seconds))
        raise Refused(
            "rate-limited",
            f"The key {principal.key_id} asks for more than {rate:g} requests a second.",
            possible=f"It may ask for {rate:g} a second, and {burst:g} at once after a pause.",
            remedy=f"Send the request again in {seconds} s. A request with events costs 1 more for every "
            f"{EVENTS_PER_REQUEST} of them.",
            headers={"Retry-After": str(seconds)}
            | {name.decode(): value.decode() for name, value in headers},
        )

    async def take_events(self, principal: Principal, n_events: int) -> None:
        """Take what events cost beyond their request, once it is known how many there are.

        Raises:
            Refused: when the bucket holds too little.
        """
        await self.take(principal, n_events / EVENTS_PER_REQUEST)

    async def wait_for_events(self, principal: Principal, n_events: int) -> None:
        """Take what events of a stream cost, and wait until the bucket holds as much.

        A stream that is too fast is slowed down: refused in the middle, it would only come again.
        """
        while True:
            try:
                await self._take(principal, n_events / EVENTS_PER_REQUEST)
            except Refused as refused:
                await asyncio.sleep(float(refused.headers["Retry-After"]))
            else:
                return

    async def _decide(self, key_id: str, cost: float, rate: float, burst: float) -> Decision:
        def take() -> Decision:
            return self._limiter.take(key_id, cost, per_second=rate, burst=burst)

        return await asyncio.to_thread(take) if self._waits else take()


def _headers(decision: Decision, rate: float, burst: float) -> Headers:
    limit, left = int(burst), int(decision.remaining)
    full_in = math.ceil((burst - decision.remaining) / rate)
    return [
        (b"ratelimit-policy", b'"key";q=%d;w=%d' % (limit, math.ceil(burst / rate))),
        (b"ratelimit", b'"key";r=%d;t=%d' % (left, full_in)),
        (b"ratelimit-limit", b"%d" % limit),
        (b"ratelimit-remaining", b"%d" % left),
        (b"ratelimit-reset", b"%d" % full_in),
    ]
