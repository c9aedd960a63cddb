"""What every store promises; SQLite is the first, and one shared suite checks each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

import polars as pl

from zhiyin.stores.records import (
    AuditEntry,
    Changes,
    Erased,
    Event,
    Impression,
    StoreCounts,
    StoredBundle,
    StoredDocument,
    StoredItem,
    StoredKey,
    StoredUser,
)

T = TypeVar("T")
DEFAULT_TENANT = "default"
EVENTS_AT_ONCE = 10_000
"""Events that are read from the log together: more take memory, and are no faster, and fewer cost time."""
"""Whose data it is where nobody says."""

BATCH_SCHEMA = pl.Schema(
    {
        "sequence": pl.Int64,
        "user_id": pl.String,
        "item_id": pl.String,
        "event": pl.String,
        "timestamp": pl.Int64,
        "value": pl.Float32,
    }
)
"""Columns of a batch of the event log; ``sequence`` rises with the order of acceptance."""


OnDurable: TypeAlias = Callable[[T, int], None]
"""Told the result of a change and its position in the change log, once the change is durable."""


class EventStore(Protocol):
    """Keeps what one tenant knows: events, items, users, impressions, bundles. A restart loses nothing.

    Every writing method returns a future that is done when the change is **durable**: it survives a killed
    process and a power cut. A write that fails changes nothing and its future raises `StoreError`; only where
    it took too long, or its connection broke at its end, nobody knows whether it was stored, or will be.
    Where too much waits already, the method itself raises `StoreOverloaded`, and nothing is stored.

    Every change that live state must reflect gets the next **position** of the tenant's change log:
    1, 2, 3, … without gaps, in the order in which the changes become visible, whichever process makes them.
    Sending only known events again makes no position (their listener is told the newest one). ``on_durable``
    is called with the result and the position, in the order of positions within this process, after the
    change is durable and before the future is done; whoever keeps a live copy keeps it there, and asks
    `changes_after` for the positions other processes took in between.
    """

    tenant: str

    def append_events(
        self, events: Sequence[Event], *, on_durable: OnDurable[list[bool]] | None = None
    ) -> Future[list[bool]]:
        """Add events to the log, all or none.

        Returns:
            For each event True when it is new, False when its id was already there (and nothing was stored).
        """
        ...

    def put_item(
        self, item_id: str, attributes: Mapping[str, Any], *, on_durable: OnDurable[StoredItem] | None = None
    ) -> Future[StoredItem]:
        """Add attributes to an item, or change them; attributes not named stay. Revives a deleted item.

        Returns:
            Everything the store now knows about the item.
        """
        ...

    def delete_item(self, item_id: str, *, on_durable: OnDurable[bool] | None = None) -> Future[bool]:
        """Mark an item as not to be recommended; its attributes and events stay.

        Returns:
            Whether it was marked already.
        """
        ...

    def put_user(
        self, user_id: str, attributes: Mapping[str, Any], *, on_durable: OnDurable[StoredUser] | None = None
    ) -> Future[StoredUser]:
        """Add attributes to a user, or change them; those not named stay, those that are None are removed.

        The future raises `RequestError` when there would be more than `MOST_ATTRIBUTES`; nothing is stored.
        """
        ...

    def delete_user(self, user_id: str, *, on_durable: OnDurable[Erased] | None = None) -> Future[Erased]:
        """Remove events, attributes and impressions of a user, and remember that they were removed."""
        ...

    def append_impressions(self, impressions: Sequence[Impression]) -> Future[None]:
        """Add shown slates; they take no position.

        Slates of a user who was erased since they were shown are dropped.
        """
        ...

    def put_document(
        self,
        kind: str,
        name: str,
        body: Mapping[str, Any] | None,
        *,
        on_durable: OnDurable[None] | None = None,
    ) -> Future[None]:
        """Store a document in place of the one of this name; None removes it."""
        ...

    def documents(self, kind: str) -> list[StoredDocument]:
        """Return the documents of a kind by name, without removed ones."""
        ...

    def put_bundle(self, version: str, folder: Path, *, position: int, facts: Mapping[str, Any]) -> None:
        """Store the files of a bundle, whole or not at all.

        A version that is there already stays as it is; where a file of it is damaged, its files are replaced.
        """
        ...

    def fetch_bundle(self, version: str, folder: Path) -> None:
        """Write the files of a bundle into a new folder, which appears whole or not at all.

        Raises:
            StoreError: when there is no such version, or the folder exists.
            BundleError: when a file is not what was stored.
        """
        ...

    def bundles(self) -> list[StoredBundle]:
        """Return the versions, oldest first."""
        ...

    def activate_bundle(self, version: str, *, on_durable: OnDurable[str] | None = None) -> Future[str]:
        """Make a stored version the one to serve; every process learns it from the change log.

        The future raises `StoreError` when there is no such version.
        """
        ...

    def drop_bundle(self, version: str) -> None:
        """Remove a version and its files.

        Raises:
            StoreError: when it is the active one.
        """
        ...

    def position(self) -> int:
        """Return the newest position of the change log; 0 before the first change."""
        ...

    def changes_after(self, position: int, *, limit: int = EVENTS_AT_ONCE) -> Changes:
        """Return what changed after a position, whole positions only.

        Args:
            position: What the caller has seen.
            limit: Events after which the batch ends with the position it is in; call again from
                ``changes.position`` until it equals `position`.
        """
        ...

    def event_batches(self, size: int = EVENTS_AT_ONCE) -> Iterator[pl.DataFrame]:
        """Yield the whole event log in the order of acceptance, columns as in `BATCH_SCHEMA`."""
        ...

    def events_of(self, user_id: str) -> list[Event]:
        """Return one user's events in the order of acceptance."""
        ...

    def impressions_of(self, user_id: str) -> list[Impression]:
        """Return what one user was shown, in the order in which it was stored."""
        ...

    def user(self, user_id: str) -> StoredUser | None:
        """Return the attributes of one user."""
        ...

    def items(self) -> list[StoredItem]:
        """Return every item that was put or deleted, in the order in which they first came."""
        ...

    def user_batches(self, size: int = 10_000) -> Iterator[list[StoredUser]]:
        """Yield every user with attributes, by their ids; there may be very many."""
        ...

    def deleted_users(self) -> list[str]:
        """Return the ids of users that were removed."""
        ...

    def impression_batches(self, since: int = 0, size: int = 50_000) -> Iterator[list[Impression]]:
        """Yield the slates shown since a moment (UTC seconds), in the order in which they were stored."""
        ...

    def counts(self) -> StoreCounts:
        """Return how much there is."""
        ...


class AccessStore(Protocol):
    """Keeps API keys and the audit log of a whole database. Methods return when the change is durable."""

    def put_key(self, key: StoredKey) -> None:
        """Add a key, or change the one with this id, whose end and revocation never move to a later time."""
        ...

    def key(self, key_id: str) -> StoredKey | None:
        """Return one key."""
        ...

    def keys(self, tenant: str | None = None) -> list[StoredKey]:
        """Return the keys, of one tenant or of all, oldest first."""
        ...

    def append_audit(self, entry: AuditEntry) -> None:
        """Add to the audit log, which nobody can change."""
        ...

    def audit(self, tenant: str | None = None, *, limit: int = 1_000) -> list[AuditEntry]:
        """Return the newest entries, newest first."""
        ...


class Database(Protocol):
    """The stores of all tenants behind one URL.

    Attributes:
        is_shared: Whether several processes may use it at once.
        access: Keys and audit log.
        queue_capacity: Writes that may wait to become durable; a long one counts as several.
    """

    is_shared: bool
    access: AccessStore
    queue_capacity: int

    def store(self, tenant: str = DEFAULT_TENANT) -> EventStore:
        """Return the store of one tenant, which is made when it is new; the same object each time."""
        ...

    def tenants(self) -> list[str]:
        """Return the tenants that have anything stored, by name."""
        ...

    def identity(self) -> str:
        """Return what names this database alone, alike in every process, however it is reached.

        Raises:
            StoreError: when it cannot be asked.
        """
        ...

    def queue_depth(self) -> int:
        """Return how many writes wait to become durable, a long one counted as several."""
        ...

    def end_within(self, seconds: float) -> None:
        """Let nobody wait longer than that for a database that does not answer; the process is to end then.

        It may be called where signals are handled.
        """
        ...

    def check(self) -> None:
        """Return when the database can be written to.

        Raises:
            StoreError: when it cannot.
        """
        ...

    def close(self) -> None:
        """Finish the writes that were handed over, then let go of files and connections."""
        ...
