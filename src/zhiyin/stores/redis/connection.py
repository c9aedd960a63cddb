"""A connection to Redis that never makes anybody wait long: short limits, and a pause after a failure."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from zhiyin.domain.errors import MissingExtra, StoreError

if TYPE_CHECKING:
    from redis import Redis

T = TypeVar("T")
CONNECT_SECONDS = 0.5
"""Longest time to reach the server."""
ANSWER_SECONDS = 0.25
"""Longest time to wait for an answer; everything asked here is answered in well under a millisecond."""
FIRST_PAUSE_SECONDS = 1.0
"""How long nobody asks after a failure."""
LONGEST_PAUSE_SECONDS = 5.0
"""What the pause grows to while failures go on."""
_SCHEMES = ("redis", "rediss", "unix")


class RedisUnavailable(StoreError):
    """Redis did not answer, or did not a moment ago and is not asked again yet."""


class NobodyListens(RedisUnavailable):
    """There is no server at the address: whoever starts there next knows nothing of what was not said."""


class Breaker:
    """Lets nobody through for a while after a failure, then one caller who tries, then everybody.

    Args:
        first_pause: Seconds after the first failure.
        longest_pause: Seconds the doubling pause grows to.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        first_pause: float = FIRST_PAUSE_SECONDS,
        longest_pause: float = LONGEST_PAUSE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._first_pause = first_pause
        self._longest_pause = longest_pause
        self._clock = clock
        self._lock = threading.Lock()
        self._pause = 0.0  # 0 while all is well
        self._try_at = 0.0
        self._is_trying = False

    @property
    def is_open(self) -> bool:
        """Whether the last attempt failed."""
        return self._pause > 0.0

    def lets_through(self) -> bool:
        """Tell whether the caller may try; after a pause it is the only one who may."""
        if not self._pause:
            return True
        with self._lock:
            now = self._clock()
            if now < self._try_at:
                return False
            self._is_trying = True
            self._try_at = now + self._pause
            return True

    def failed(self) -> None:
        """Remember a failure; the pause doubles when the attempt after a pause failed too."""
        with self._lock:
            # Callers that were under way together and fail together are one failure.
            if not self._pause:
                self._pause = self._first_pause
            elif self._is_trying:
                self._pause = min(2 * self._pause, self._longest_pause)
            self._is_trying = False
            self._try_at = self._clock() + self._pause

    def worked(self) -> None:
        """Remember that all is well."""
        self._pause = 0.0


def _nobody_counts() -> None:
    """Count nothing."""


class RedisConnection:
    """One Redis server, shared by all threads of a process.

    Nothing is sent before the first question, so a service starts without Redis as well.

    Args:
        url: ``redis://[user:password@]host:port/0``, ``rediss://…`` (TLS) or ``unix:///path/to/socket?db=0``.
        connect_seconds: Longest time to reach the server.
        answer_seconds: Longest time to wait for an answer.
        breaker: When to leave the server alone.
        failed: Told each time that the server was asked and did not answer, or refused.

    Raises:
        StoreError: when the URL cannot be read.
        MissingExtra: when the package redis is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        connect_seconds: float = CONNECT_SECONDS,
        answer_seconds: float = ANSWER_SECONDS,
        breaker: Breaker | None = None,
        failed: Callable[[], None] = _nobody_counts,
    ) -> None:
        self._failed = failed
        self.shown_url = url_without_password(url)
        self.breaker = breaker or Breaker()
        if find_spec("redis") is None:
            raise MissingExtra("redis", "redis")
        from redis import exceptions  # noqa: PLC0415

        self._unanswered = (exceptions.ConnectionError, exceptions.TimeoutError, OSError)
        self._broken = exceptions.ConnectionError
        self._refused = exceptions.RedisError
        self._nobody_listened = False
        self._client = _client(url, self.shown_url, connect_seconds, answer_seconds)

    @property
    def is_available(self) -> bool:
        """Whether the last question was answered, as far as anybody asked."""
        return not self.breaker.is_open

    def ask(self, question: Callable[[Redis], T], *, is_urgent: bool = False) -> T:
        """Send something to Redis and return what it answers.

        Args:
            question: Called with the client; what it returns is returned.
            is_urgent: Whether to try also while the server is left alone, as long as a try is cheap because
                nobody listened last time, and once more on a new connection when an old one turns out to be
                dead. For questions that do no harm when they are asked twice.

        Raises:
            NobodyListens: when there is no server at the address.
            RedisUnavailable: at once while the server is left alone, else within the time limits.
            StoreError: when the server answers that it will not, such as for a missing right.
        """
        if not self.breaker.lets_through() and not (is_urgent and self._nobody_listened):
            raise RedisUnavailable(
                f"Redis at {self.shown_url} did not answer a moment ago; it is asked again within"
                f" {LONGEST_PAUSE_SECONDS:g} seconds."
            )
        try:
            answer = self._asked_twice(question) if is_urgent else question(self._client)
        except self._unanswered as error:
            self.breaker.failed()
            self._failed()
            self._nobody_listened = _is_nobody_there(error)
            kind = NobodyListens if self._nobody_listened else RedisUnavailable
            raise kind(
                f"Redis at {self.shown_url} does not answer ({_reason(error)}).",
                remedy="See that the server runs and that address, user and password of the URL are right.",
            ) from None
        except self._refused as error:
            self.breaker.worked()
            self._failed()
            raise StoreError(
                f"Redis at {self.shown_url} refuses: {error}",
                remedy="It must be a writable primary, version 6.2 or newer, and let the user run scripts,"
                " INFO and TIME.",
            ) from None
        self.breaker.worked()
        return answer

    def _asked_twice(self, question: Callable[[Redis], T]) -> T:
        try:
            return question(self._client)
        except self._broken as error:
            if _is_nobody_there(error):
                raise
            # Connections to a server that was started again are dead, and each would have to be found out.
            self._client.connection_pool.disconnect(inuse_connections=False)
            return question(self._client)

    def script(self, lua: str, *, is_urgent: bool = False) -> Callable[[list[str], list[object]], Any]:
        """Return a function that runs a script on the server, one after the other with everything else.

        Args:
            lua: Source; its answer is what the function returns for (keys, arguments).
            is_urgent: As `ask` takes it.
        """
        run: Any = self._client.register_script(lua)
        return lambda keys, arguments: self.ask(
            lambda client: run(keys=keys, args=arguments, client=client), is_urgent=is_urgent
        )

    def check(self) -> None:
        """Return when the server answers.

        Raises:
            StoreError: when it does not.
        """
        self.ask(lambda client: client.ping())

    def close(self) -> None:
        """Let go of all connections."""
        self._client.close()
        self._client.connection_pool.disconnect()


def url_without_password(url: str) -> str:
    """Return a URL as it may be shown: without user, password and options.

    Raises:
        StoreError: when it is no URL of a Redis server.
    """
    parts = urlsplit(url)
    try:
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if parts.scheme not in _SCHEMES or not (parts.path if parts.scheme == "unix" else host):
        raise StoreError(
            "The URL of Redis cannot be read.",
            possible="It is redis://host:6379/0, rediss://user:password@host:6379/0 or unix:///path?db=0.",
            remedy="Letters such as @ : / # in a password are written %40 %3A %2F %23.",
        )
    if parts.scheme == "unix":
        return f"unix://{parts.path}"
    shown_host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown_host}:{port or 6379}{parts.path.rstrip('/')}"


def _client(url: str, shown_url: str, connect_seconds: float, answer_seconds: float) -> Redis:
    from redis import Redis  # noqa: PLC0415
    from redis.backoff import NoBackoff  # noqa: PLC0415
    from redis.retry import Retry  # noqa: PLC0415

    options: dict[str, Any] = {
        "socket_timeout": answer_seconds,
        "socket_connect_timeout": connect_seconds,
        "retry": Retry(NoBackoff(), 0),  # the breaker decides when to try again
        "max_connections": 1_000,
        "decode_responses": True,
        "encoding_errors": "surrogateescape",  # a broken text of one message must not hide the others
        "protocol": 2,
    }
    if url.startswith("unix"):
        del options["socket_connect_timeout"]
    try:
        return Redis.from_url(url, **options)
    except (ValueError, TypeError):
        raise StoreError(
            f"The URL of Redis at {shown_url} has an option or a database number that cannot be read.",
            possible="The path is the number of the database, as in redis://host:6379/0.",
        ) from None


def _is_nobody_there(error: Exception) -> bool:
    return isinstance(error.__cause__ or error.__context__, (ConnectionRefusedError, FileNotFoundError))


def _reason(error: Exception) -> str:
    """Say in a few words why a connection failed; what the client says may hold nothing secret."""
    text = str(error).strip().rstrip(".")
    return text or type(error).__name__
