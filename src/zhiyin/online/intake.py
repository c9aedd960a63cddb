"""Everything that comes in: made durable first, then reflected, then acknowledged."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from itertools import compress
from typing import Any, TypeAlias, TypeVar

from zhiyin.domain import NO_TIMESTAMP, PAD
from zhiyin.domain.errors import UnknownUser
from zhiyin.online.asked import Accepted
from zhiyin.online.following import Following
from zhiyin.online.held import Held
from zhiyin.online.histories import LiveHistories
from zhiyin.online.impressions import ImpressionLog
from zhiyin.online.live import Live
from zhiyin.online.unknown import unknown_item
from zhiyin.stores.event_columns import EventColumns
from zhiyin.stores.events import EventStore
from zhiyin.stores.records import Erased, Event, Impression, StoredItem, StoredUser

T = TypeVar("T")
R = TypeVar("R")
_Bring: TypeAlias = Callable[[Live], Future[None] | None]


@dataclass(frozen=True)
class Erasure:
    """What was removed with a user, and where in the log that stands."""

    erased: Erased
    position: int


@dataclass(frozen=True)
class Exported:
    """Everything that is kept about a user.

    Attributes:
        user_id: Whose.
        attributes: As they were put.
        events: The log, oldest first.
        impressions: What was shown, oldest first.
        remembered: What the bundles in use were trained on, those of experiments too, oldest first.
    """

    user_id: str
    attributes: Mapping[str, Any]
    events: tuple[Event, ...]
    impressions: tuple[Impression, ...]
    remembered: tuple[Remembered, ...]


@dataclass(frozen=True, slots=True)
class Remembered:
    """One event that a bundle was trained on.

    Attributes:
        item_id: On what.
        kind: The bundle's word for it.
        timestamp: UTC seconds; None where the training data had no times.
        value: Such as stars; None where there was none.
    """

    item_id: str
    kind: str
    timestamp: int | None
    value: float | None


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
        columns = EventColumns.of(events)

        def bring(is_new: list[bool]) -> _Bring | None:
            new = columns.where(is_new)
            self._events_came(new)
            return (lambda live: live.record(new)) if new else None

        write = partial(self._store.append_events, columns)
        return self._take(write, bring, lambda is_new, _: self._told(columns, is_new))

    def put_item(self, item_id: str, attributes: Mapping[str, Any]) -> Future[tuple[StoredItem, list[str]]]:
        """Add or change an item; when the future is done it is durable and can be recommended.

        Returns:
            What the store knows of the item, and the attributes the catalogue did not have so far.

        Raises:
            UnfitAttribute: when a value does not fit; nothing is stored then.
        """
        fit, new_names = self._live().catalogue.fit(attributes)
        write = partial(self._store.put_item, item_id, fit)
        return self._take(write, _into_catalogue, lambda item, _: (item, new_names))

    def delete_item(self, item_id: str) -> Future[None]:
        """Never recommend an item again, until it is put again.

        Raises:
            UnknownItem: when neither the catalogue nor the store has it.
        """
        if self._live().histories.item_index(item_id) == PAD:
            raise unknown_item(item_id)
        marked = StoredItem(item_id, {}, deleted=True)
        write = partial(self._store.delete_item, item_id)
        return self._take(write, lambda _: _into_catalogue(marked), lambda _, __: None)

    def put_user(self, user_id: str, attributes: Mapping[str, Any]) -> Future[StoredUser]:
        """Store attributes of a user."""
        write = partial(self._store.put_user, user_id, attributes)
        return self._take(
            write,
            lambda user: lambda live: live.histories.describe([user]),
            lambda user, _: user,
        )

    def delete_user(self, user_id: str) -> Future[Erasure]:
        """Remove everything about a user, from the store, from memory, and from what bundles remember.

        The future raises `UnknownUser` when there was nothing to remove.
        """
        was_live = any(live.histories.is_user(user_id) for live in self._following.lives)

        def bring(_: Erased) -> _Bring:
            self._user_left(user_id)
            return lambda live: live.forget(user_id)

        def told(erased: Erased, position: int) -> Erasure:
            if not erased.found_anything and not was_live:
                raise UnknownUser(f"Nobody has the user id {user_id!r}; there was nothing to remove.")
            return Erasure(erased, position)

        self._impressions.hand_over()
        return self._take(partial(self._store.delete_user, user_id), bring, told)

    def export_user(self, user_id: str) -> Exported:
        """Return everything that is kept about a user.

        Raises:
            UnknownUser: when nothing is.
            StoreError: when the store cannot be read.
        """
        self._following.catch_up()  # another process may have erased them
        self._impressions.store_all()
        stored = self._store.user(user_id)
        events = self._store.events_of(user_id)
        shown = self._store.impressions_of(user_id)
        histories = [live.histories for live in self._following.lives]
        is_live = any(one.is_user(user_id) for one in histories)
        if stored is None and not events and not shown and not is_live:
            raise UnknownUser(f"Nobody has the user id {user_id!r}; there is nothing to export.")
        attributes = {} if stored is None else stored.attributes
        remembered = _remembered_by_any([_remembered(one, user_id) for one in histories])
        return Exported(user_id, attributes, tuple(events), tuple(shown), remembered)

    def _take(
        self,
        write: Callable[..., Future[T]],
        bring: Callable[[T], _Bring | None],
        told: Callable[[T, int], R],
    ) -> Future[R]:
        """Take a change the whole way: durable, in every live bundle, announced, and then acknowledged.

        Args:
            write: Hands the change to the store; takes ``on_durable``.
            bring: Of what became durable, what brings it into a live bundle; None when nothing changed.
            told: Of what became durable and its position, what the caller is told.
        """
        waiting: Future[R] = Future()
        taken: list[Future[None]] = []
        at = 0

        def reflect(result: T, position: int) -> None:
            nonlocal at
            at = position
            apply = bring(result)
            self._following.reflect(position, apply and partial(_gather, apply, taken))

        def settle(done: Future[Any], n_taken: int = 0) -> None:
            error = done.exception()
            if error is not None:
                waiting.set_exception(error)
            elif n_taken < len(taken):
                taken[n_taken].add_done_callback(lambda done: settle(done, n_taken + 1))
            else:
                hold = self._following.announce(at)
                # Until then another process could still believe that it did not happen.
                self._held.call(lambda: _pass_on(stored, waiting, at, told), after_seconds=hold)

        stored = write(on_durable=reflect)
        stored.add_done_callback(settle)
        return waiting

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


def _into_catalogue(item: StoredItem) -> _Bring:
    return lambda live: live.catalogue.put(item)


def _gather(apply: _Bring, taken: list[Future[None]], live: Live) -> None:
    """Bring a change into a live bundle; where that takes a while, its future is waited for."""
    future = apply(live)
    if future is not None:
        taken.append(future)


def _pass_on(done: Future[T], waiting: Future[R], position: int, told: Callable[[T, int], R]) -> None:
    """Settle a future with what another one brought, turned into what its waiter expects."""
    try:
        waiting.set_result(told(done.result(), position))
    except Exception as failed:
        waiting.set_exception(failed)


def _remembered_by_any(by_bundle: Sequence[tuple[Remembered, ...]]) -> tuple[Remembered, ...]:
    """Join what several bundles remember: most of it is the same."""
    if len(by_bundle) == 1:
        return by_bundle[0]
    together: Counter[Remembered] = Counter()
    for remembered in by_bundle:
        together |= Counter(remembered)
    return tuple(sorted(together.elements(), key=lambda one: one.timestamp or 0))


def _remembered(live: LiveHistories, user_id: str) -> tuple[Remembered, ...]:
    history = live.of_bundle(user_id)
    known = live.kinds.known
    return tuple(
        Remembered(
            item_id,
            known[kind],
            None if timestamp == NO_TIMESTAMP else timestamp,
            None if math.isnan(value) else value,
        )
        for item_id, kind, timestamp, value in zip(
            live.item_ids(history.item_index.tolist()),
            history.event_index.tolist(),
            history.timestamp.tolist(),
            history.value.tolist(),
            strict=True,
        )
    )
