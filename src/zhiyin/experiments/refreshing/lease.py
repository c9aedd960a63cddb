"""One loop a tenant: a lease that its holder keeps renewing, and that runs out when the holder dies."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from types import TracebackType

from zhiyin.domain.errors import StoreError
from zhiyin.stores.events import EventStore

_LOG = logging.getLogger(__name__)
KIND, NAME = "lease", "learning-loop"
_RENEWALS = 3
"""Renewals in the time of a lease."""
_LONGEST_SECONDS = 3_600.0
"""A claim for longer than this is none."""
SETTLE_SECONDS = 0.5
"""Between writing a claim and looking whether it stands: two who claim at once both see the later one."""


class LeaseHeld(StoreError):
    """Another loop works for this tenant."""


class Lease:
    """The right to work for a tenant, kept in a document of its store while inside ``with``.

    The store has no compare-and-swap, so a claim is written, left to settle, and read again: of two loops
    that claim at once, the one whose word stands last has it. A holder that is paused for longer than the
    lease finds out at its next renewal; ask `is_lost` before anything that must not happen twice.

    Args:
        store: Of the tenant.
        seconds: How long a claim stands without being renewed.
        now: UTC seconds.
        settle_seconds: How long to wait before looking whether a claim stands.
    """

    def __init__(
        self,
        store: EventStore,
        seconds: float,
        *,
        now: Callable[[], float] = time.time,
        settle_seconds: float = SETTLE_SECONDS,
    ) -> None:
        self._store = store
        self._seconds = seconds
        self._now = now
        self._settle_seconds = settle_seconds
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._stop = threading.Event()
        self._lost = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def is_lost(self) -> bool:
        """Whether another loop has taken over."""
        return self._lost.is_set()

    def __enter__(self) -> Lease:
        """Claim it.

        Raises:
            LeaseHeld: when another loop has it.
        """
        held = self._read()
        # Nobody claims for so long: the clock was set back since.
        latest = self._now() + max(_LONGEST_SECONDS, self._seconds)
        if held is not None and held[0] != self.holder and self._now() < held[1] <= latest:
            raise self._taken(held)
        self._write(self._now() + self._seconds)
        if self._settle_seconds:
            time.sleep(self._settle_seconds)
        held = self._read()
        if held is None or held[0] != self.holder:
            raise self._taken(held or ("?", self._now()))
        self._stop.clear()
        self._thread = threading.Thread(target=self._renew_forever, name="zhiyin-lease", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give it back."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if not self.is_lost:
            try:
                self._store.put_document(KIND, NAME, None).result()
            except StoreError:
                _LOG.warning("the lease of %s was not given back; it runs out by itself", self._store.tenant)

    def _renew_forever(self) -> None:
        while not self._stop.wait(self._seconds / _RENEWALS):
            try:
                held = self._read()
                if held is None or held[0] != self.holder:
                    _LOG.error("the lease of %s was taken over by another loop", self._store.tenant)
                    self._lost.set()
                    return
                self._write(self._now() + self._seconds)
            except StoreError as error:
                _LOG.warning("the lease of %s was not renewed: %s", self._store.tenant, error)

    def _read(self) -> tuple[str, float] | None:
        for document in self._store.documents(KIND):
            if document.name == NAME and document.body is not None:
                return str(document.body["holder"]), float(document.body["until"])
        return None

    def _write(self, until: float) -> None:
        self._store.put_document(KIND, NAME, {"holder": self.holder, "until": until}).result()

    def _taken(self, held: tuple[str, float]) -> LeaseHeld:
        seconds = max(0.0, held[1] - self._now())
        return LeaseHeld(
            f"Another loop works for the tenant '{self._store.tenant}': {held[0]}.",
            remedy=f"Stop that one; if it was killed, its lease runs out in {seconds:.0f} seconds.",
        )
