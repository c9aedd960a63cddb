"""From the text of a key to whoever holds it, without asking the database for every request."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from zhiyin.domain.errors import StoreError
from zhiyin.serving.access.keys import KEY, matches, state
from zhiyin.serving.access.scopes import Principal
from zhiyin.serving.problems import Refused
from zhiyin.stores.events import AccessStore
from zhiyin.stores.records import StoredKey

T = TypeVar("T")
_MOST_REMEMBERED = 10_000
_MOST_LOOKED_UP_AT_ONCE = 32
_PATIENCE_SECONDS = 1.0
"""How long a request waits for the database of keys."""
_PAUSE_SECONDS = 1.0
"""How long after a failure known keys are believed without asking again."""


@dataclass(slots=True)
class _Remembered:
    """What the database said about a key id, and when."""

    key: StoredKey | None
    principal: Principal | None
    at: float


class KeyCheck:
    """Believes what it looked up for a moment, then looks again.

    A key that is in use is looked up again in the background at half that time, so that its requests never
    wait. While the database cannot be read, a key that was looked up goes on working for a while: an outage
    of the database shall not lock out everybody. Ids that nobody has are remembered too; both memories are
    bounded, and so is the number of unknown ids looked up at once, so that a flood of invented keys costs
    the database little.

    Args:
        store: Keys.
        believed_seconds: How long an answer of the database is believed.
        outage_seconds: How long it is believed while the database cannot be read.
        clock: UTC seconds, for expiry.
        ticks: Monotonic seconds, for the cache.
        failed: Told each time that the database was asked and could not say.
    """

    def __init__(
        self,
        store: AccessStore,
        *,
        believed_seconds: float = 2.0,
        outage_seconds: float = 300.0,
        clock: Callable[[], float] = time.time,
        ticks: Callable[[], float] = time.monotonic,
        failed: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._believed, self._outage = believed_seconds, max(outage_seconds, believed_seconds)
        self._clock, self._ticks, self._failed = clock, ticks, failed
        self._known: OrderedDict[str, _Remembered] = OrderedDict()
        self._unknown: OrderedDict[str, float] = OrderedDict()
        self._running: dict[str, asyncio.Task[StoredKey | None]] = {}
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="zhiyin-keys")
        self._failed_at = float("-inf")
        self._has_keys = False
        self._no_keys_at = float("-inf")
        self._looking_for_any: asyncio.Future[list[StoredKey]] | None = None

    def at_once(self, text: str) -> Principal | None:
        """Return who sends a key where that is known without waiting; None means: ask `slowly`."""
        remembered = self._known.get(text[3:19])
        if remembered is None or remembered.key is None:
            return None
        age = self._ticks() - remembered.at
        key = remembered.key
        if age > self._believed or state(key, self._clock()) != "valid" or not matches(text, key):
            return None
        if 2 * age > self._believed:
            self._look_up(key.key_id)
        return remembered.principal

    async def slowly(self, text: str) -> Principal:
        """Return who sends a key.

        Raises:
            Refused: when the key is not valid; with 503 when the database cannot say.
        """
        found = KEY.fullmatch(text)
        if found is None:
            raise unauthenticated("The key is not of the form zk_<id>_<secret>.")
        key = await self._key(found["key_id"])
        if key is None or not matches(text, key):
            raise unauthenticated("The key is not known.")
        return _principal(self._valid(key.key_id, key))

    async def refuse_ended(self, principal: Principal) -> None:
        """Look again at the key of a request that takes long.

        Raises:
            Refused: when the key is not valid any more; with 503 when the database cannot say.
        """
        if principal.key_id:
            self._valid(principal.key_id, await self._key(principal.key_id))

    async def has_keys(self) -> bool:
        """Tell whether there is any key, valid or not; once there is one, there is always one.

        While the database cannot be read nobody can make the first, so that there was none is believed as
        long as a known key is.
        """
        age = self._ticks() - self._no_keys_at
        has_just_failed = age <= self._outage and self._ticks() - self._failed_at < _PAUSE_SECONDS
        if self._has_keys or age <= self._believed or has_just_failed:
            return self._has_keys
        if self._looking_for_any is None or self._looking_for_any.done():
            self._looking_for_any = asyncio.ensure_future(self._in_thread(self._store.keys))
        try:
            found = await asyncio.wait_for(asyncio.shield(self._looking_for_any), _PATIENCE_SECONDS)
        except (StoreError, TimeoutError) as error:
            self._failed_at = self._ticks()
            self._failed()
            if age > self._outage:
                raise _cannot_say() from error
        else:
            self._has_keys, self._no_keys_at = bool(found), self._ticks()
        return self._has_keys

    def close(self) -> None:
        """Let go of the threads."""
        self._threads.shutdown(wait=True)

    def _valid(self, key_id: str, key: StoredKey | None) -> StoredKey:
        now_is = "not known" if key is None else state(key, self._clock())
        if key is None or now_is != "valid":
            raise unauthenticated(f"The key {key_id} is {now_is}.")
        return key

    async def _key(self, key_id: str) -> StoredKey | None:
        now = self._ticks()
        remembered = self._known.get(key_id)
        if remembered is not None and now - remembered.at <= self._believed:
            return remembered.key
        missed = self._unknown.get(key_id)
        if missed is not None and now - missed <= self._believed:
            return None
        if remembered is None and len(self._running) >= _MOST_LOOKED_UP_AT_ONCE:
            raise Refused(
                "overloaded", "Too many unknown keys are being looked up.", headers={"Retry-After": "1"}
            )
        may_believe = remembered is not None and now - remembered.at <= self._outage
        if remembered is not None and may_believe and now - self._failed_at < _PAUSE_SECONDS:
            return remembered.key
        try:
            # One caller who goes away must not end a look-up that others wait for.
            return await asyncio.wait_for(asyncio.shield(self._look_up(key_id)), _PATIENCE_SECONDS)
        except (StoreError, TimeoutError) as error:
            self._failed_at = self._ticks()
            self._failed()
            if remembered is not None and may_believe:
                return remembered.key
            raise _cannot_say() from error

    def _look_up(self, key_id: str) -> asyncio.Task[StoredKey | None]:
        task = self._running.get(key_id)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._looked_up(key_id))
            self._running[key_id] = task
            task.add_done_callback(lambda done: self._finished(key_id, done))
        return task

    def _finished(self, key_id: str, task: asyncio.Task[StoredKey | None]) -> None:
        self._running.pop(key_id, None)
        if not task.cancelled():
            task.exception()  # Whoever waits is told; in the background nobody waits, and nobody must warn.

    async def _looked_up(self, key_id: str) -> StoredKey | None:
        asked = self._ticks()  # before the question: what was revoked since may not be in the answer
        key = await self._in_thread(lambda: self._store.key(key_id))
        if key is None:
            self._known.pop(key_id, None)
            _remember(self._unknown, key_id, asked)
        else:
            self._unknown.pop(key_id, None)
            _remember(self._known, key_id, _Remembered(key, _principal(key), asked))
        self._has_keys = self._has_keys or key is not None
        return key

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def unauthenticated(detail: str) -> Refused:
    """Return the refusal of somebody who has not shown a valid key."""
    return Refused(
        "unauthenticated",
        detail,
        possible="A key is sent as 'Authorization: Bearer zk_…' or 'X-API-Key: zk_…'.",
        remedy="Make a key with:  zhiyin keys create NAME --scope SCOPE --store URL",
        headers={"WWW-Authenticate": 'Bearer realm="zhiyin"'},
    )


def _cannot_say() -> Refused:
    return Refused(
        "store-unavailable",
        "The database of keys cannot be read.",
        remedy="Send the request again in a second.",
        headers={"Retry-After": "1"},
    )


def _principal(key: StoredKey) -> Principal:
    return Principal(key.key_id, key.tenant, frozenset(key.scopes), key.requests_per_second)


def _remember(memory: OrderedDict[str, T], key_id: str, what: T) -> None:
    memory[key_id] = what
    memory.move_to_end(key_id)
    while len(memory) > _MOST_REMEMBERED:
        memory.popitem(last=False)
