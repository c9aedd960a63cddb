"""Many events, column by column: thousands of them without an object for each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, overload

from zhiyin.stores.records import Event


@dataclass(frozen=True, eq=False, slots=True)
class EventColumns(Sequence[Event]):
    """T events in their order; an `Event` is made only for whoever asks for one.

    Attributes:
        event_ids: (T,) as `Event.event_id`; the other columns likewise.
        user_ids: (T,).
        item_ids: (T,).
        kinds: (T,).
        timestamps: (T,) UTC seconds.
        values: (T,) None where there is none.
        contexts: (T,) None or empty where there is none.
    """

    event_ids: Sequence[str]
    user_ids: Sequence[str]
    item_ids: Sequence[str]
    kinds: Sequence[str]
    timestamps: Sequence[int]
    values: Sequence[float | None]
    contexts: Sequence[Mapping[str, Any] | None]

    @classmethod
    def of(cls, events: Sequence[Event]) -> EventColumns:
        """Return the columns of events; columns come back as they are."""
        if isinstance(events, EventColumns):
            return events
        return cls(
            [event.event_id for event in events],
            [event.user_id for event in events],
            [event.item_id for event in events],
            [event.kind for event in events],
            [event.timestamp for event in events],
            [event.value for event in events],
            [event.context for event in events],
        )

    @property
    def columns(self) -> tuple[Sequence[Any], ...]:
        """All columns, in the order of the fields of an event."""
        return (
            self.event_ids,
            self.user_ids,
            self.item_ids,
            self.kinds,
            self.timestamps,
            self.values,
            self.contexts,
        )

    def where(self, keep: Sequence[bool]) -> EventColumns:
        """Return some of the events."""
        return self if all(keep) else EventColumns(*(list(compress(part, keep)) for part in self.columns))

    def __len__(self) -> int:
        return len(self.event_ids)

    def __iter__(self) -> Iterator[Event]:
        return (self[place] for place in range(len(self)))

    @overload
    def __getitem__(self, place: int) -> Event: ...
    @overload
    def __getitem__(self, place: slice) -> EventColumns: ...
    def __getitem__(self, place: int | slice) -> Event | EventColumns:
        if isinstance(place, slice):
            return EventColumns(*(part[place] for part in self.columns))
        return Event(
            self.event_ids[place],
            self.user_ids[place],
            self.item_ids[place],
            self.kinds[place],
            self.timestamps[place],
            self.values[place],
            self.contexts[place] or {},
        )
