"""Everything that comes in: made durable first, then reflected, then acknowledged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from zhiyin.domain import PAD
from zhiyin.domain.errors import UnknownItem, UnknownUser
from zhiyin.online.asked import Accepted
from zhiyin.online.catalogue import LiveCatalogue
from zhiyin.online.histories import LiveHistories
from zhiyin.online.impressions import ImpressionLog
from zhiyin.stores.events import EventStore
from zhiyin.stores.records import Event, StoredItem, StoredUser


class Intake:
    """Accepts events, items and users.

    Args:
        store: Where everything durable goes.
        histories: Reflects events.
        catalogue: Reflects items.
        impressions: Where shown slates wait.
    """

    def __init__(
        self,
        store: EventStore,
        histories: LiveHistories,
        catalogue: LiveCatalogue,
        impressions: ImpressionLog,
    ) -> None:
        self._store = store
        self._impressions = impressions
        self._histories = histories
        self._catalogue = catalogue

    def accept(self, events: Sequence[Event]) -> Future[Accepted]:
        """Store events; when the future is done, they are durable and the next answer reflects them."""
        accepted: Future[Accepted] = Future()

        def record(is_new: list[bool]) -> None:
            self._histories.record([event for event, new in zip(events, is_new, strict=True) if new])

        stored = self._store.append_events(events, on_durable=record)
        stored.add_done_callback(lambda done: _pass_on(done, accepted, lambda new: self._told(events, new)))
        return accepted

    def put_item(self, item_id: str, attributes: Mapping[str, Any]) -> Future[tuple[StoredItem, list[str]]]:
        """Add or change an item; when the future is done it is durable and can be recommended.

        Returns:
            What the store knows of the item, and the attributes the catalogue did not have so far.

        Raises:
            UnfitAttribute: when a value does not fit; nothing is stored then.
        """
        fit, new_names = self._catalogue.fit(attributes)
        result: Future[tuple[StoredItem, list[str]]] = Future()
        taken: list[Future[None]] = []
        stored = self._store.put_item(
            item_id, fit, on_durable=lambda item: taken.append(self._catalogue.put(item))
        )

        def follow(done: Future[StoredItem]) -> None:
            if done.exception() is not None:
                result.set_exception(done.exception())
            else:
                taken[0].add_done_callback(
                    lambda reflected: _pass_on(reflected, result, lambda _: (done.result(), new_names))
                )

        stored.add_done_callback(follow)
        return result

    def delete_item(self, item_id: str) -> Future[None]:
        """Never recommend an item again, until it is put again.

        Raises:
            UnknownItem: when neither the catalogue nor the store has it.
        """
        if self._histories.item_index(item_id) == PAD:
            raise unknown_item(item_id)
        result: Future[None] = Future()
        taken: list[Future[None]] = []
        marked = StoredItem(item_id, {}, deleted=True)
        stored = self._store.delete_item(
            item_id, on_durable=lambda _: taken.append(self._catalogue.put(marked))
        )

        def follow(done: Future[bool]) -> None:
            if done.exception() is not None:
                result.set_exception(done.exception())
            else:
                taken[0].add_done_callback(lambda reflected: _pass_on(reflected, result, lambda none: none))

        stored.add_done_callback(follow)
        return result

    def put_user(self, user_id: str, attributes: Mapping[str, Any]) -> Future[StoredUser]:
        """Store attributes of a user."""
        return self._store.put_user(
            user_id, attributes, on_durable=lambda user: self._histories.describe([user.user_id])
        )

    def delete_user(self, user_id: str) -> Future[None]:
        """Remove everything about a user, from the store, from memory, and from what the bundle remembers.

        The future raises `UnknownUser` when there was nothing to remove.
        """
        result: Future[None] = Future()
        was_live = self._histories.is_user(user_id)

        def settle(was_stored: bool) -> None:
            if not was_stored and not was_live:
                raise UnknownUser(f"Nobody has the user id {user_id!r}; there was nothing to remove.")

        self._impressions.hand_over()
        stored = self._store.delete_user(user_id, on_durable=lambda _: self._histories.forget(user_id))
        stored.add_done_callback(lambda done: _pass_on(done, result, settle))
        return result

    def _told(self, events: Sequence[Event], is_new: list[bool]) -> Accepted:
        n_stored = sum(is_new)
        unknown = dict.fromkeys(e.item_id for e in events if self._histories.item_index(e.item_id) == PAD)
        return Accepted(
            tuple(event.event_id for event in events),
            n_stored,
            len(events) - n_stored,
            tuple(unknown),
            self._histories.kinds.unknown({event.kind for event in events}),
        )


def _pass_on(done: Future[Any], waiting: Future[Any], turn: Callable[[Any], Any]) -> None:
    """Settle a future with what another one brought, turned into what its waiter expects."""
    error = done.exception()
    if error is None:
        try:
            waiting.set_result(turn(done.result()))
        except Exception as failed:
            waiting.set_exception(failed)
    else:
        waiting.set_exception(error)


def unknown_item(item_id: str) -> UnknownItem:
    """Say that the catalogue does not hold an item."""
    return UnknownItem(
        f"The catalogue does not hold the item {item_id!r}.",
        remedy="Add it with PUT /v1/items/{id}; it can be recommended at once.",
    )
