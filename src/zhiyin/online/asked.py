"""What a request asks of the live engine, and what it gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from zhiyin.data.kinds import USUAL_KIND
from zhiyin.domain import Recommendation


@dataclass(frozen=True, slots=True)
class Past:
    """One event of a history that came with a request.

    Attributes:
        item_id: The shop's id.
        kind: Word for the event kind.
        timestamp: UTC seconds, or None.
        value: Rating, amount or count, or None.
    """

    item_id: str
    kind: str = USUAL_KIND
    timestamp: int | None = None
    value: float | None = None


LARGEST_BOOST, MOST_BOOSTS = 1_000, 20
"""What a boost may add to a score, up or down, and how many a slate may have."""


@dataclass(frozen=True)
class Wanted:
    """How the slate should be.

    Attributes:
        n: Places.
        filter: Which items may be shown, in the grammar of `zhiyin.policy.filters`.
        boost: Pairs of a filter and what it adds to the score of the items it lets through.
        diversity: 0 orders by score alone, 1 by difference.
        repeat: Whether items of the history may come again.
        explain: Whether to say why.
        context: Hour, device, … of the request.
    """

    n: int = 10
    filter: Mapping[str, Any] | None = None
    boost: Sequence[tuple[Mapping[str, Any], float]] = ()
    diversity: float = 0.0
    repeat: bool = False
    explain: bool = False
    context: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AskedSlate:
    """A request for recommendations.

    Attributes:
        who: A user id, or a history, oldest event first.
        wanted: How the slate should be.
        request_id: Stored with what is shown.
    """

    who: str | Sequence[Past]
    wanted: Wanted
    request_id: str

    @property
    def user_id(self) -> str | None:
        """The user, where one is named."""
        return self.who if isinstance(self.who, str) else None


@dataclass(frozen=True)
class AskedSimilar:
    """A request for items that go with one item."""

    item_id: str
    wanted: Wanted
    request_id: str


@dataclass(frozen=True)
class AskedSearch:
    """A request for items that fit a free text, in an order for the user where one is named."""

    text: str
    wanted: Wanted
    request_id: str
    user_id: str | None = None


Asked: TypeAlias = AskedSlate | AskedSimilar | AskedSearch


@dataclass(frozen=True)
class Answer:
    """A slate and what should be known about it.

    Attributes:
        items: Best first; fewer than asked for where fewer may be shown.
        bundle: Version of the bundle that chose.
        known_user: Whether anything was known of the user; None where none was named.
        unknown_items: Item ids of the request that the catalogue does not hold.
        degraded: Why this is less than the best answer: ``stale`` when the log could not be read, ``cached``
            or ``popular`` when time ran out; None for a full answer.
        experiment: The experiment and the arm that answered, where one runs.
    """

    items: tuple[Recommendation, ...]
    bundle: str
    known_user: bool | None = None
    unknown_items: tuple[str, ...] = ()
    degraded: str | None = None
    experiment: tuple[str, str] | None = None


@dataclass(frozen=True)
class Accepted:
    """What became of sent events.

    Attributes:
        event_ids: One an event, in the order sent.
        n_stored: Events that are new.
        n_duplicates: Events whose id was there already; nothing was stored for them.
        unknown_items: Item ids the catalogue does not hold; their events are stored, and count from the
            moment the item arrives.
        event_kinds: Words for event kinds that the bundle does not have → the kind they count as.
        stored_kinds: Event kind → how many new events have it.
    """

    event_ids: tuple[str, ...]
    n_stored: int
    n_duplicates: int
    unknown_items: tuple[str, ...]
    event_kinds: Mapping[str, str]
    stored_kinds: Mapping[str, int] = field(default_factory=dict)
