"""What every store promises; SQLite is the first, and one shared suite checks each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

import polars as pl

from zhiyin.stores.records import Event, Impression, StoreCounts, StoredItem, StoredUser

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


class EventStore(Protocol):
    """Keeps events, items, users and impressions, so that a restart loses nothing.

    Every writing method returns a future that is done when the change is **durable**: it survives a killed
    process and a power cut. Writes take effect in the order in which they were handed over. ``on_durable``
    is called with the result, in that same order, after the change is durable and before the future is
    done; whoever keeps a live copy keeps it there. A write that fails changes nothing and its future raises
    `StoreError`.
    """

    def append_events(
        self, events: Sequence[Event], *, on_durable: Callable[[list[bool]], None] | None = None
    ) -> Future[list[bool]]:
        """Add events to the log, all or none.

        Returns:
            For each event True when it is new, False when its id was already there (and nothing was stored).
        """
        ...

    def put_item(
        self,
        item_id: str,
        attributes: Mapping[str, Any],
        *,
        on_durable: Callable[[StoredItem], None] | None = None,
    ) -> Future[StoredItem]:
        """Add attributes to an item, or change them; attributes not named stay. Revives a deleted item.

        Returns:
            Everything the store now knows about the item.
        """
        ...

    def delete_item(self, item_id: str, *, on_durable: Callable[[bool], None] | None = None) -> Future[bool]:
        """Mark an item as not to be recommended; its attributes and events stay.

        Returns:
            Whether it was marked already.
        """
        ...

    def put_user(
        self,
        user_id: str,
        attributes: Mapping[str, Any],
        *,
        on_durable: Callable[[StoredUser], None] | None = None,
    ) -> Future[StoredUser]:
        """Add attributes to a user, or change them; attributes not named stay."""
        ...

    def delete_user(self, user_id: str, *, on_durable: Callable[[bool], None] | None = None) -> Future[bool]:
        """Remove events, attributes and impressions of a user, and remember that they were removed.

        Returns:
            Whether the store held anything about the user, an earlier removal included.
        """
        ...

    def append_impressions(self, impressions: Sequence[Impression]) -> Future[None]:
        """Add shown slates."""
        ...

    def event_batches(self, size: int = 200_000) -> Iterator[pl.DataFrame]:
        """Yield the whole event log in the order of acceptance, columns as in `BATCH_SCHEMA`."""
        ...

    def events_of(self, user_id: str) -> list[Event]:
        """Return one user's events in the order of acceptance."""
        ...

    def items(self) -> list[StoredItem]:
        """Return every item that was put or deleted, in the order in which they first came."""
        ...

    def users(self) -> list[StoredUser]:
        """Return every user with attributes."""
        ...

    def deleted_users(self) -> list[str]:
        """Return the ids of users that were removed."""
        ...

    def impressions(self) -> list[Impression]:
        """Return the shown slates in the order in which they were stored."""
        ...

    def counts(self) -> StoreCounts:
        """Return how much there is."""
        ...

    def check(self) -> None:
        """Return when the store can be written to.

        Raises:
            StoreError: when it cannot.
        """
        ...

    def close(self) -> None:
        """Finish the writes that were handed over, then let go of the files or connections."""
        ...
