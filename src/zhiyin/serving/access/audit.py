"""The audit log: who did what with power, written before and after.

An action is noted as ``begun`` before it starts and as ``done`` when it is durable. When the first note
cannot be written the action does not start; when the second cannot be, the caller is told that the action
failed, and the first still tells that it was tried. Nobody's id stands in the log: persons are pseudonymised.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from zhiyin.domain.errors import StoreError
from zhiyin.serving.access.keys import without_keys
from zhiyin.serving.access.pseudonyms import Pseudonyms
from zhiyin.serving.access.scopes import Principal
from zhiyin.serving.access.secret import Secrets
from zhiyin.stores.events import AccessStore
from zhiyin.stores.records import AuditEntry

CLI = "cli"
"""The actor where a command did it."""
LOOP = "loop"
"""The actor where a learning loop did it."""
LOCAL = "local"
"""The actor where somebody on this machine did it while there were no keys."""
BEGUN, DONE, REFUSED = "begun", "done", "refused"
ACTIONS = (
    "key.create",
    "key.rotate",
    "key.revoke",
    "user.erase",
    "user.export",
    "bundle.activate",
    "experiment.change",
    "access.refused",
)
"""What is noted."""
_LONGEST = 200


@dataclass(frozen=True, slots=True)
class Deed:
    """One thing that somebody does.

    Attributes:
        tenant: Whose data.
        actor: Key id, `CLI`, `LOOP` or `LOCAL`.
        action: One of `ACTIONS`.
        subject: What it is done to; a person by `AuditLog.person`.
        request_id: The request it comes with, or empty.
    """

    tenant: str
    actor: str
    action: str
    subject: str
    request_id: str = ""

    @classmethod
    def of(cls, principal: Principal, action: str, subject: str, request_id: str) -> Deed:
        """Return what a caller over HTTP does."""
        return cls(principal.tenant, principal.key_id or LOCAL, action, subject, request_id)


class AuditLog:
    """Notes deeds.

    Args:
        store: Where they are kept.
        secrets: The secret of the service, for pseudonyms; None where no deed is about a person.
        clock: Returns UTC seconds.
    """

    def __init__(
        self, store: AccessStore, secrets: Secrets | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._secrets = secrets
        self._clock = clock
        self._names: dict[str, Pseudonyms] = {}

    def person(self, tenant: str, user_id: str) -> str:
        """Return what stands for a person in the log; the same each time."""
        if self._secrets is None:
            raise ValueError("this audit log was made without a secret and cannot name persons")
        if tenant not in self._names:
            self._names[tenant] = Pseudonyms(self._secrets, tenant)
        return self._names[tenant].of(user_id)

    @asynccontextmanager
    async def noting(self, deed: Deed) -> AsyncIterator[None]:
        """Note a deed before and after what stands inside; the event loop never waits for the disk.

        Raises:
            StoreError: when a note cannot be written; before the deed, or after it.
        """
        await asyncio.to_thread(self.write, deed, BEGUN)
        try:
            yield
        except BaseException as error:
            # What went wrong counts more than that it could not be noted.
            await _try(asyncio.to_thread(self._failed, deed, error))
            raise
        # Also when the caller goes away at this moment.
        await asyncio.shield(asyncio.to_thread(self.write, deed, DONE))

    @contextmanager
    def noted(self, deed: Deed) -> Iterator[None]:
        """Note a deed before and after what stands inside, for commands; waits for the disk.

        Raises:
            StoreError: when a note cannot be written; before the deed, or after it.
        """
        self.write(deed, BEGUN)
        try:
            yield
        except BaseException as error:
            self._failed(deed, error)
            raise
        self.write(deed, DONE)

    async def refused(self, principal: Principal, route: str, request_id: str) -> None:
        """Note that somebody asked for more than their key allows; answers wait, but never fail, for it.

        Args:
            principal: Who asked.
            route: Method and area of the route, without ids.
            request_id: The request.
        """
        deed = Deed.of(principal, "access.refused", route, request_id)
        await _try(asyncio.to_thread(self.write, deed, REFUSED))

    def write(self, deed: Deed, outcome: str) -> None:
        """Add one entry; waits for the disk.

        Raises:
            StoreError: when it cannot be written.
        """
        now = int(self._clock())
        subject = without_keys(deed.subject)[:_LONGEST]
        entry = AuditEntry(now, deed.tenant, deed.actor, deed.action, subject, outcome, deed.request_id)
        self._store.append_audit(entry)

    def _failed(self, deed: Deed, error: BaseException) -> None:
        try:
            # The kind alone: a message may quote the id of a person.
            self.write(deed, f"failed: {type(error).__name__}")
        except StoreError:
            return  # It reads 'begun' and nothing after, which says as much.


async def _try(writing: Awaitable[None]) -> None:
    try:
        await asyncio.shield(writing)
    except StoreError:
        return
