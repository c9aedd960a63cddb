"""What processes of the service share beside the database: newest positions and rate limits, in Redis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from zhiyin.online.following import AskTheLog, Heads
from zhiyin.serving.settings import ServingSettings
from zhiyin.stores.events import Database
from zhiyin.stores.redis.connection import RedisConnection
from zhiyin.stores.redis.heads import SharedHeads
from zhiyin.stores.redis.limits import LocalRateLimiter, RateLimiter, SharedRateLimiter


@dataclass(frozen=True)
class Shared:
    """Heads and limits.

    Attributes:
        heads: Knows the newest position of each log.
        limiter: Keeps the buckets of rate limits.
        is_remote: Whether another machine is asked.
        close: Lets go of connections.
    """

    heads: Heads
    limiter: RateLimiter
    is_remote: bool
    close: Callable[[], None]


def shared_by(settings: ServingSettings, database: Database, redis_failed: Callable[[], None]) -> Shared:
    """Return what the settings name: Redis, or what one process has for itself.

    Services with different databases may share a Redis: each has names of its own there.

    Args:
        settings: Name the Redis.
        database: Of the service.
        redis_failed: Told each time that Redis was asked and did not answer, or refused.

    Raises:
        ConfigError: when the URL is none of Redis.
        MissingExtra: when the package redis is not installed.
        StoreError: when the database cannot be asked who it is.
    """
    if settings.sharing.redis is None:
        return Shared(AskTheLog(), LocalRateLimiter(), False, _nothing_to_close)
    connection = RedisConnection(settings.sharing.redis.get_secret_value(), failed=redis_failed)
    name = f"zhiyin:{database.identity()}"
    heads, limiter = SharedHeads(connection, name=name), SharedRateLimiter(connection, name=name)
    return Shared(heads, limiter, True, connection.close)


def _nothing_to_close() -> None:
    """One process has no connections."""
