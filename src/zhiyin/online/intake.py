"""Everything that comes in: made durable first, then reflected, then acknowledged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import compress
from typing import Any, TypeVar

from zhiyin.domain import PAD
from zhiyin.domain.errors import UnknownUser
from zhiyin.online.asked import Accepted
from zhiyin.online.following import Following
from zhiyin.online.held import Held
from zhiyin.online.impressions import ImpressionLog
from zhiyin.online.live import Live
from zhiyin.online.unknown import unknown_item
from zhiyin.stores.event_columns import EventColumns
from zhiyin.stores.events import EventStore
from zhiyin.stores.records import Erased, Event, Impression, StoredItem, StoredUser

T = TypeVar("T")


@dataclass(frozen=True)
class Erasure:
    """What was removed with a user, and where in the log that stands."""

    erased: Erased
    position: int


@dataclass(frozen=True)
class Exported:
    """Everything that is stored about a user."""

    user_id: str
    attributes: Mapping[str, Any]
    events: tuple[Event, ...]
    impressions: tuple[Impression, ...]


class Intake:
    """Accepts events, items and users of one tenant.

    Args:
        store: Where everything durable goes.
        following: Brings what is durable into the live bundles.
        impressions: Where shown slates wait.
        live: Returns the bundle that says which items and event kinds are known.
    """

    def __init__(
        self,
        store: EventStore,
        following: Following,
        impressions: ImpressionLog,
        live: Callable[[], Live],
    ) -> None:
        self._store = store
        self._following = following
        self._impressions = impressions
        self._live = live
        self._held = Held()
        self._events_came: Callable[[EventColumns], None] = _nobody_listens
        self._user_left: Callable[[str], None] = _nobody_listens

    def listen(self, events_came: Callable[[EventColumns], None], user_left: Callable[[str], None]) -> None:
        """Tell somebody of events and erasures that became durable in this process."""
        self._events_came, self._user_left = events_came, user_left

    def accept(self, events: Sequence[Event]) -> Future[Accepted]:
        """Store events; when the future is done, they are durable and the next answer reflects them."""
        accepted: Future[Accepted] = Future()
        columns = EventColumns.of(events)
        hold: list[float] = []

        def record(is_new: list[bool], position: int) -> None:
            new = columns.where(is_new)
            hold.append(self._following.reflect(position, (lambda live: live.record(new)) if new else None))
            self._events_came(new)

        stored = self._store.append_events(columns, on_durable=record)
        self._settle(stored, accepted, lambda new: self._told(columns, new), hold)
        return accepted

    def put_item(self, item_id: str, attributes: Mapping[str, Any]) -> Future[tuple[StoredItem, list[str]]]:
        """Add or change an item; when the future is done it is durable and can be recommended.

        Returns:
            What the store knows of the item, and the attributes the catalogue did not have so far.

        Raises:
            UnfitAttribute: when a value does not fit; nothing is stored then.
        """
        fit, new_names = self._live().catalogue.fit(attributes)
        taken: list[Future[None]] = []
        hold: list[float] = []

        def take(item: StoredItem, position: int) -> None:
            hold.append(
                self._following.reflect(position, lambda live: taken.append(live.catalogue.put(item)))
            )

        stored = self._store.put_item(item_id, fit, on_durable=take)
        result: Future[tuple[StoredItem, list[str]]] = Future()
        self._settle(_when_taken(stored, taken), result, lambda item: (item, new_names), hold)
        return result

    def delete_item(self, item_id: str) -> Future[None]:
        """Never recommend an item again, until it is put again.

        Raises:
            UnknownItem: when neither the catalogue nor the store has it.
        """
        if self._live().histories.item_index(item_id) == PAD:
            raise unknown_item(item_id)
        taken: list[Future[None]] = []
        hold: list[float] = []
        marked = StoredItem(item_id, {}, deleted=True)

        def take(_: bool, position: int) -> None:
            mark: Callable[[Live], None] = lambda live: taken.append(live.catalogue.put(marked))  # noqa: E731
            hold.append(self._following.reflect(position, mark))

        stored = self._store.delete_item(item_id, on_durable=take)
        result: Future[None] = Future()
        self._settle(_when_taken(stored, taken), result, lambda _: None, hold)
        return result

    def put_user(self, user_id: str, attributes: Mapping[str, Any]) -> Future[StoredUser]:
        """Store attributes of a user."""
        described: Future[StoredUser] = Future()
        hold: list[float] = []

        def describe(user: StoredUser, position: int) -> None:
            hold.append(
                self._following.reflect(position, lambda live: live.histories.describe([user.user_id]))
            )

        stored = self._store.put_user(user_id, attributes, on_durable=describe)
        self._settle(stored, described, lambda user: user, hold)
        return described

    def delete_user(self, user_id: str) -> Future[Erasure]:
        """Remove everything about a user, from the store, from memory, and from what bundles remember.

        The future raises `UnknownUser` when there was nothing to remove.
        """
        was_live = self._live().histories.is_user(user_id)
        positions: list[int] = []
        hold: list[float] = []

        def forget(_: Erased, position: int) -> None:
            positions.append(position)
            hold.append(self._following.reflect(position, lambda live: live.forget(user_id)))
            self._user_left(user_id)

        def settle(erased: Erased) -> Erasure:
            if not erased.found_anything and not was_live:
                raise UnknownUser(f"Nobody has the user id {user_id!r}; there was nothing to remove.")
            return Erasure(erased, positions[0])

        result: Future[Erasure] = Future()
        self._impressions.hand_over()
        stored = self._store.delete_user(user_id, on_durable=forget)
        self._settle(stored, result, settle, hold)
        return result

    def export_user(self, user_id: str) -> Exported:
        """Return everything that is stored about a user.

        Raises:
            UnknownUser: when nothing is.
            StoreError: when the store cannot be read.
        """
        self._impressions.store_all()
        stored = self._store.user(user_id)
        events = self._store.events_of(user_id)
        shown = self._store.impressions_of(user_id)
        if stored is None and not events and not shown and not self._live().histories.is_user(user_id):
            raise UnknownUser(f"Nobody has the user id {user_id!r}; there is nothing to export.")
        return Exported(user_id, {} if stored is None else stored.attributes, tuple(events), tuple(shown))

    def _settle(
        self, done: Future[Any], waiting: Future[Any], turn: Callable[[Any], Any], hold: Sequence[float]
    ) -> None:
        """Settle a future with what another one brings, once nobody can believe that it did not happen."""

        def settle(done: Future[Any]) -> None:
            self._held.call(lambda: _pass_on(done, waiting, turn), after_seconds=max(hold, default=0.0))

        done.add_done_callback(settle)

    def _told(self, events: EventColumns, is_new: list[bool]) -> Accepted:
        n_stored = sum(is_new)
        histories = self._live().histories
        return Accepted(
            tuple(events.event_ids),
            n_stored,
            len(events) - n_stored,
            histories.unknown_items(events.item_ids),
            histories.kinds.unknown(set(events.kinds)),
            Counter(events.kinds if n_stored == len(events) else compress(events.kinds, is_new)),
        )


def _nobody_listens(_: Any) -> None:
    """Hear nothing."""


def _when_taken(stored: Future[T], taken: Sequence[Future[None]]) -> Future[T]:
    """Settle once every live bundle has taken in what became durable.

    Args:
        stored: Done when the change is durable.
        taken: By then, one future for each live bundle.
    """
    result: Future[T] = Future()

    def follow(done: Future[Any], nth: int = 0) -> None:
        if done.exception() is not None:
            result.set_exception(done.exception())
        elif nth < len(taken):
            taken[nth].add_done_callback(lambda reflected: follow(reflected, nth + 1))
        else:
            _pass_on(stored, result, lambda what: what)

    stored.add_done_callback(follow)
    return result


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
