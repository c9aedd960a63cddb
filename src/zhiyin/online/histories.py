"""What users did, up to this moment: the bundle's histories and every event since."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl

from zhiyin.contracts.updating import REACH, Steps
from zhiyin.data.kinds import EventKinds
from zhiyin.domain import NO_TIMESTAMP, PAD, BoolArray, Histories, IndexArray, LongArray, Vocabulary
from zhiyin.online.growing import GrowingHistories
from zhiyin.pipeline.moments import readable
from zhiyin.stores.event_columns import EventColumns
from zhiyin.stores.records import Event, StoredUser

NOTHING = Histories.empty(1)
"""The history of somebody who did nothing yet."""
_NOTHING_SAID: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of one user.

    Attributes:
        user_index: Row in the bundle, -1 for somebody it does not hold or must not remember.
        histories: One history, oldest event first.
        is_known: Whether there is anything at all.
    """

    user_index: int
    histories: Histories
    is_known: bool


@dataclass(frozen=True, eq=False)
class KnownTogether:
    """What is known of B users.

    Attributes:
        user_index: (B,) int32, as in `Known`.
        histories: B histories.
        is_known: B answers to whether there is anything at all.
    """

    user_index: IndexArray
    histories: Histories
    is_known: Sequence[bool]

    @classmethod
    def of(cls, known: Sequence[Known]) -> KnownTogether:
        """Put what is known of each under each other."""
        user_index = np.array([one.user_index for one in known], dtype=np.int32)
        histories = Histories.stacked([one.histories for one in known])
        return cls(user_index, histories, [one.is_known for one in known])


@dataclass(frozen=True, eq=False)
class Recorded:
    """Where T events were written.

    Attributes:
        rows: (T,) int64, rows of live histories.
        places: (T,) int64, the place of each event in its row.
    """

    rows: LongArray
    places: LongArray

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, keep: BoolArray) -> Recorded:
        """Return some of the events."""
        return Recorded(self.rows[keep], self.places[keep])

    @classmethod
    def together(cls, parts: Sequence[Recorded]) -> Recorded:
        """Return all events of several parts, one part after the other."""
        nothing = np.zeros(0, dtype=np.int64)
        rows = np.concatenate([nothing, *(part.rows for part in parts)])
        return cls(rows, np.concatenate([nothing, *(part.places for part in parts)]))


class LiveHistories:
    """Histories that reflect every accepted event.

    Events for items the catalogue does not hold wait here, and count from the moment the item arrives.
    All methods may be called from any thread.

    Args:
        users: The bundle's users.
        histories: What they did.
        kinds: How words for event kinds are understood.
        item_ids: The catalogue, in the order of the item index.
        reads: Attributes of users that the bundle reads; no others are remembered.
    """

    def __init__(
        self,
        users: Vocabulary,
        histories: Histories,
        kinds: EventKinds,
        item_ids: Iterable[str],
        reads: Collection[str] = (),
    ) -> None:
        self.kinds = kinds
        self._users = users
        self._base = histories
        # One more than there are users: a stranger, at -1, is never masked.
        self._is_masked = np.zeros(len(users) + 1, dtype=np.bool_)
        self._live = GrowingHistories()
        self._row: dict[str, int] = {}
        self._user_of_row = np.full(64, PAD, dtype=np.int64)
        self._n_new = 0
        self._reads = tuple(reads)
        self._described: dict[str, Mapping[str, Any]] = {}
        self._item_ids = list(item_ids)
        self._index = {item_id: index for index, item_id in enumerate(self._item_ids)}
        # An unknown item number k stands in a history as -2 - k until it arrives.
        self._waiting: dict[str, int] = {}
        self._n_waited = 0
        self._arrived = np.full(64, PAD, dtype=np.int32)
        self._lock = threading.Lock()

    def item_index(self, item_id: str) -> int:
        """Return an item's index, -1 when the catalogue does not hold it."""
        return self._index.get(item_id, PAD)

    def item_ids(self, item_index: Sequence[int]) -> list[str]:
        """Return the ids of items of the catalogue."""
        names = self._item_ids
        return [names[index] for index in item_index]

    def unknown_items(self, item_ids: Iterable[str]) -> tuple[str, ...]:
        """Return the distinct ids that the catalogue does not hold, in the order given."""
        index = self._index
        return tuple(dict.fromkeys([item_id for item_id in item_ids if item_id not in index]))

    def is_user(self, user_id: str) -> bool:
        """Whether the bundle or an event since knows this user."""
        with self._lock:
            return self._is_user(user_id)

    @property
    def n_users(self) -> int:
        """Users of the bundle that may be remembered, and those who came since."""
        with self._lock:
            return len(self._users) - int(self._is_masked.sum()) + self._n_new

    def newest_timestamp(self, *, of_bundle: bool = True) -> int:
        """Return the latest moment of any event, UTC seconds; 0 where none is.

        Args:
            of_bundle: Whether what the bundle was trained on counts too.
        """
        with self._lock:
            base = int(self._base.timestamp.max(initial=0)) if of_bundle else 0
            return max(self._live.newest_timestamp(), base)

    def n_events_of(self, user_id: str) -> int:
        """Return how many events are known of a user since training; it changes with every event."""
        with self._lock:
            row = self._row.get(user_id)
            return 0 if row is None else self._live.length(row)

    def record(self, events: Sequence[Event]) -> Recorded:
        """Append accepted events."""
        if len(events) == 1:
            return self._record_one(events[0])
        columns = EventColumns.of(events)
        kind_of = {kind: self.kinds.index(kind) for kind in set(columns.kinds)}
        kinds = np.array([kind_of[kind] for kind in columns.kinds], dtype=np.int16)
        timestamps = np.array(columns.timestamps, dtype=np.int64)
        values = np.array(columns.values, dtype=np.float32)  # None becomes NaN
        with self._lock:
            row, index = self._row, self._index
            rows = np.array(
                [row[user] if user in row else self._row_of(user) for user in columns.user_ids],
                dtype=np.int64,
            )
            codes = np.array(
                [index[item] if item in index else self._code_of(item) for item in columns.item_ids],
                dtype=np.int32,
            )
            return Recorded(rows, self._live.append(rows, codes, kinds, timestamps, values))

    def _record_one(self, event: Event) -> Recorded:
        kind = self.kinds.index(event.kind)
        value = np.nan if event.value is None else event.value
        with self._lock:
            row = self._row_of(event.user_id)
            place = self._live.append_one(row, self._code_of(event.item_id), kind, event.timestamp, value)
        return Recorded(np.array([row]), np.array([place]))

    def record_batch(self, batch: pl.DataFrame) -> Recorded:
        """Append a batch of the event log, columns as in `zhiyin.stores.events.BATCH_SCHEMA`."""
        with self._lock:
            rows = _places(batch["user_id"], self._row_of)
            places = self._live.append(
                rows,
                _places(batch["item_id"], self._code_of).astype(np.int32),
                _places(batch["event"], self.kinds.index).astype(np.int16),
                batch["timestamp"].to_numpy(),
                batch["value"].fill_null(np.nan).to_numpy(),
            )
            return Recorded(rows, places)

    def steps(self, recorded: Recorded) -> tuple[Steps, Recorded]:
        """Return recorded events with what their users did before, for sources that learn from them.

        Events whose user was forgotten meanwhile are left out.

        Returns:
            The steps on items of the catalogue, and what was recorded on items that have not arrived.
        """
        with self._lock:
            there = recorded.places < self._live.lengths(recorded.rows)
            recorded = recorded.where(there)
            rows, row_of_event = np.unique(recorded.rows, return_inverse=True)
            lengths = self._live.lengths(rows)
            oldest = np.full(len(rows), np.iinfo(np.int64).max)
            np.minimum.at(oldest, row_of_event, recorded.places)
            reach = int((lengths - oldest).max(initial=0)) + REACH
            live = self._live.newest(rows, reach)
            live = self._arrived_items(live)
            base = self._base_of(rows).newest(REACH)
        whole = base.beside(live)
        # The newest event of a row stands at its end, so places are counted from there.
        positions = whole.offsets[1:][row_of_event] - (lengths[row_of_event] - recorded.places)
        is_known = whole.item_index[positions] != PAD
        steps = Steps.of_histories(whole, positions[is_known])
        return steps, recorded.where(~is_known)

    def items_come(self, item_ids: Sequence[str]) -> None:
        """Learn the ids of items that are about to be appended to the catalogue."""
        with self._lock:
            self._item_ids.extend(item_ids)

    def items_arrived(self, item_ids: Sequence[str], first_index: int) -> None:
        """Take in items that were appended to the catalogue; events that waited for them count now."""
        with self._lock:
            for index, item_id in enumerate(item_ids, start=first_index):
                self._index[item_id] = index
                waiting = self._waiting.pop(item_id, None)
                if waiting is not None:
                    self._arrived[waiting] = index

    def describe(self, users: Iterable[StoredUser]) -> None:
        """Remember that there are attributes of these users, and what the bundle reads of them."""
        described = {user.user_id: self._read(user.attributes) for user in users}
        with self._lock:
            self._described.update(described)

    def attributes_of(self, user_id: str) -> Mapping[str, Any]:
        """Return what the bundle reads of the attributes that were put for a user."""
        return self._described.get(user_id, _NOTHING_SAID)

    def forget(self, user_id: str) -> None:
        """Drop everything about a user, what the bundle remembers included."""
        with self._lock:
            self._described.pop(user_id, None)
            is_remembered = self._base_index(user_id) != PAD
            row = self._row.pop(user_id, None)
            if row is not None:
                self._live.clear(row)
                self._n_new -= not is_remembered
            if is_remembered:
                self._is_masked[self._users.index(user_id)] = True

    def of_user(self, user_id: str) -> Known:
        """Return what is known of a user; events of items that are still unknown are left out."""
        with self._lock:
            is_known = self._is_user(user_id)
            user_index = self._base_index(user_id)
            row = self._row.get(user_id)
            live = None if row is None else self._histories_of(row)
        base = NOTHING if user_index == PAD else self._base.row(user_index)
        return Known(user_index, base if live is None else _joined([base, live]), is_known)

    def of_bundle(self, user_id: str) -> Histories:
        """Return what the bundle remembers of a user, one history; none of somebody who was erased."""
        with self._lock:
            user_index = self._base_index(user_id)
        return NOTHING if user_index == PAD else self._base.row(user_index)

    def of_users(self, user_ids: Sequence[str]) -> KnownTogether:
        """Return what is known of each of B users, the same as `of_user` in a fraction of the time."""
        with self._lock:
            index, rows, described = self._users.index, self._row, self._described
            user_index = np.array([index(user_id) for user_id in user_ids], dtype=np.int32)
            held = np.flatnonzero(user_index != PAD)
            user_index[held[self._is_masked[user_index[held]]]] = PAD
            base_index = user_index.tolist()
            is_known = [
                at != PAD or user_id in rows or user_id in described
                for at, user_id in zip(base_index, user_ids, strict=True)
            ]
            since = [(place, rows[user_id]) for place, user_id in enumerate(user_ids) if user_id in rows]
            live = [(place, self._histories_of(row)) for place, row in since]
        starts = self._base.offsets[np.maximum(user_index, 0)]
        # One below the first user there is offset 0, so a stranger, at -1, has a run of no length.
        histories = self._base.runs(starts, self._base.offsets[user_index + 1] - starts)
        if live:
            histories = _with_live(histories, live)
        return KnownTogether(user_index, histories, is_known)

    def _read(self, attributes: Mapping[str, Any]) -> Mapping[str, Any]:
        return readable(attributes, self._reads) or _NOTHING_SAID

    def _is_user(self, user_id: str) -> bool:
        known_since = user_id in self._row or user_id in self._described
        return known_since or self._base_index(user_id) != PAD

    def _base_index(self, user_id: str) -> int:
        user_index = self._users.index(user_id)
        return PAD if user_index != PAD and self._is_masked[user_index] else user_index

    def _histories_of(self, row: int) -> Histories:
        codes, events, timestamps, values = self._live.row(row)
        items = np.where(codes < PAD, self._arrived[np.maximum(-2 - codes, 0)], codes).astype(np.int32)
        known = items != PAD
        offsets = np.array([0, known.sum()], dtype=np.int64)
        return Histories(offsets, items[known], events[known], timestamps[known], values[known])

    def _arrived_items(self, live: Histories) -> Histories:
        """Return histories with the index of every item that has arrived, -1 for those that have not."""
        codes = live.item_index
        items = np.where(codes < PAD, self._arrived[np.maximum(-2 - codes, 0)], codes).astype(np.int32)
        return replace(live, item_index=items)

    def _base_of(self, rows: LongArray) -> Histories:
        """Return what the bundle remembers of the users of some rows."""
        users = self._user_of_row[rows]
        users = np.where(self._is_masked[users], PAD, users)
        starts = self._base.offsets[np.maximum(users, 0)]
        # One below the first user there is offset 0, so a stranger, at -1, has a run of no length.
        return self._base.runs(starts, self._base.offsets[users + 1] - starts)

    def _row_of(self, user_id: str) -> int:
        row = self._row.get(user_id)
        if row is None:
            row = self._row[user_id] = self._live.new_rows(1)
            if row >= len(self._user_of_row):
                self._user_of_row = np.concatenate(
                    [self._user_of_row, np.full(len(self._user_of_row), PAD, dtype=np.int64)]
                )
            self._user_of_row[row] = self._base_index(user_id)
            self._n_new += self._base_index(user_id) == PAD
        return row

    def _code_of(self, item_id: str) -> int:
        index = self._index.get(item_id)
        if index is not None:
            return index
        number = self._waiting.get(item_id)
        if number is None:
            number = self._waiting[item_id] = self._n_waited
            self._n_waited += 1
            if self._n_waited > len(self._arrived):
                longer = np.full(2 * len(self._arrived), PAD, dtype=np.int32)
                longer[: len(self._arrived)] = self._arrived
                self._arrived = longer
        return -2 - number


def _places(words: pl.Series, place: Callable[[str], int]) -> LongArray:
    """Look each distinct word up once; return (T,) int64."""
    distinct = words.unique(maintain_order=True)
    places = pl.Series([place(word) for word in distinct.to_list()], dtype=pl.Int64)
    return words.replace_strict(distinct, places, return_dtype=pl.Int64).to_numpy()


def _with_live(histories: Histories, live: Sequence[tuple[int, Histories]]) -> Histories:
    """Return the histories, those at some rising places joined with what happened since."""
    parts, start = [], 0
    for place, since in live:
        if place > start:
            parts.append(histories.slice(start, place))
        parts.append(_joined([histories.row(place), since]))
        start = place + 1
    if start < len(histories):
        parts.append(histories.slice(start, len(histories)))
    return Histories.stacked(parts)


def _joined(parts: Sequence[Histories]) -> Histories:
    """One history out of several, in time order; events without a time stay after those they followed."""
    items = np.concatenate([part.item_index for part in parts])
    events = np.concatenate([part.event_index for part in parts])
    timestamps = np.concatenate([part.timestamp for part in parts])
    values = np.concatenate([part.value for part in parts])
    offsets = np.array([0, len(items)], dtype=np.int64)
    moment = np.where(timestamps == NO_TIMESTAMP, np.maximum.accumulate(timestamps), timestamps)
    if bool((moment[1:] >= moment[:-1]).all()):
        return Histories(offsets, items, events, timestamps, values)
    order = np.argsort(moment, kind="stable")
    return Histories(offsets, items[order], events[order], timestamps[order], values[order])
