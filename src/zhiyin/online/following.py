"""Staying level with the change log, whichever process writes it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from zhiyin.domain.errors import StoreError
from zhiyin.online.live import Live
from zhiyin.stores.events import EventStore
from zhiyin.stores.records import Changes

_LOG = logging.getLogger(__name__)


ITEM_SECONDS = 0.2
"""How long an answer waits for items that another process put; few take as long."""
ITEM_PAUSE_SECONDS = 2.0
"""How long no answer waits for any after one has waited in vain."""


class Heads(Protocol):
    """The newest position of each tenant's log, known to all processes faster than the database tells it.

    Attributes:
        trust_seconds: How long a process may believe an older position that it was told.
    """

    trust_seconds: float

    def current(self, tenant: str, ask_database: Callable[[], int]) -> int:
        """Return the newest position, asking the database where it is not known otherwise.

        Raises:
            StoreError: when the database has to be asked and does not answer.
        """
        ...

    def raise_to(self, tenant: str, position: int) -> bool:
        """Announce a position; lower ones are ignored. Returns whether nobody believes less from now on."""
        ...


class AskTheLog:
    """Heads where nothing faster than the database is there."""

    trust_seconds = 0.0

    def current(self, tenant: str, ask_database: Callable[[], int]) -> int:  # noqa: ARG002
        """Ask the database."""
        return ask_database()

    def raise_to(self, tenant: str, position: int) -> bool:  # noqa: ARG002
        """Tell nobody; everybody asks the database."""
        return True


class Following:
    """Brings every change of one tenant's log into every live bundle, once and in order.

    What this process writes arrives through `reflect`, without being read again. What others wrote is read
    from the log, before an answer (`catch_up`) or when a position was left out (`reflect`).

    Args:
        store: The log.
        heads: Who knows the newest position.
        is_shared: Whether other processes write too; otherwise nothing is ever asked.
        on_changes: Told of changes that were read from the log, after they are reflected.
    """

    def __init__(
        self, store: EventStore, heads: Heads, *, is_shared: bool, on_changes: Callable[[Changes], None]
    ) -> None:
        self._store = store
        self._heads = heads
        self._is_shared = is_shared
        self._on_changes = on_changes
        self._lock = threading.RLock()
        self.lives: tuple[Live, ...] = ()
        self.applied = 0
        self._newest = 0
        self._announcing = threading.Lock()
        self._announced = 0
        self._hold_seconds = 0.0
        self.is_stale = False
        self._items_late_until = 0.0

    def start(self, position: int) -> None:
        """Follow from here on; what came before was read elsewhere."""
        self.applied = position

    def add(self, live: Live) -> None:
        """Bring a live bundle level, then keep it level.

        Most of the log is read while others answer; only the last of it is read while they wait.
        """
        live.catch_up(self._store, self._store.position())
        live.await_items()
        with self._lock:
            self._read_until(max(self._store.position(), live.applied))
            live.catch_up(self._store, self.applied)
            self.lives = (*self.lives, live)
        live.await_items()

    def drop(self, live: Live) -> None:
        """Stop following with a live bundle."""
        with self._lock:
            self.lives = tuple(other for other in self.lives if other is not live)

    def reflect(self, position: int, apply: Callable[[Live], None] | None) -> None:
        """Reflect a change of this process; `announce` it before it is acknowledged.

        Args:
            position: Its place in the log.
            apply: Brings it into a live bundle; None when nothing changed.
        """
        with self._lock:
            if apply is not None and self.applied == position - 1:
                for live in self.lives:
                    if live.applied == position - 1:
                        apply(live)
                        live.applied = position
                    else:
                        live.catch_up(self._store, position)
                self.applied = position
            elif self.applied < position:
                self._read_until(position)

    def announce(self, position: int) -> float:
        """Tell the other processes of a change that is reflected here, and of all others that are by now.

        So the changes of one commit cost one message together.

        Returns:
            Seconds that must pass before the change is acknowledged, because other processes may believe for
            so long that it was not made; 0 nearly always.
        """
        with self._announcing:
            if position > self._announced:
                self._announced = max(position, self.applied)
                was_told = self._heads.raise_to(self._store.tenant, self._announced)
                self._hold_seconds = 0.0 if was_told else self._heads.trust_seconds
            return self._hold_seconds

    def catch_up(self) -> bool:
        """Reflect everything that was acknowledged by anybody so far; call it before an answer.

        Items of others whose texts take longer to encode than an answer can wait come a moment later.

        Returns:
            Whether that was possible; when the log cannot be read, answers come from what is known.
        """
        if not self._is_shared:
            return True
        try:
            newest = self._heads.current(self._store.tenant, self._store.position)
            self._newest = max(self._newest, newest)
            if newest > self.applied:
                with self._lock:
                    self._read_until(newest)
            self._await_items()  # not while the lock is held, for which those wait who write
        except StoreError as error:
            if not self.is_stale:
                _LOG.warning("the change log of %s cannot be read: %s", self._store.tenant, error)
            self.is_stale = True
            return False
        self.is_stale = False
        return True

    def _await_items(self) -> None:
        """Wait a moment for items of others; where they come faster than they can be taken, seldom."""
        if time.monotonic() < self._items_late_until:
            return
        if not all(live.await_items(ITEM_SECONDS) for live in self.lives):
            self._items_late_until = time.monotonic() + ITEM_PAUSE_SECONDS

    def read_log(self) -> None:
        """Reflect everything in the log, whatever the heads say.

        Raises:
            StoreError: when the log cannot be read.
        """
        self._newest = max(self._newest, self._store.position())
        if self._newest > self.applied:
            with self._lock:
                self._read_until(self._newest)
            # Not every change is announced where it is made, and who keeps the heads may have lost them.
            self._heads.raise_to(self._store.tenant, self.applied)

    def lag(self) -> int:
        """Return by how many positions this process is behind the newest it has heard of."""
        return max(0, self._newest - self.applied)

    def _read_until(self, position: int) -> None:
        while self.applied < position:
            changes = self._store.changes_after(self.applied)
            for live in self.lives:
                # One may be ahead, having joined while others wrote, or behind, having failed once.
                if live.applied == self.applied:
                    live.take(changes)
                else:
                    live.catch_up(self._store, changes.position)
            if changes.position == self.applied and self._store.position() < position:
                _LOG.warning(
                    "position %d of the log of %s was announced, and the log ends before it",
                    position,
                    self._store.tenant,
                )
                return
            self.applied = changes.position
            self._on_changes(changes)
