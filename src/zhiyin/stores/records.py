"""What a store keeps, in the shop's own ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """One thing a user did with an item.

    Attributes:
        event_id: Distinct for every event; a second event with the same id is the same event sent twice.
        user_id: The shop's id of the user.
        item_id: The shop's id of the item, whether the catalogue holds it or not.
        kind: The word the shop sent, such as ``view``.
        timestamp: UTC seconds.
        value: Rating, amount or count; None where there is none.
        context: Anything else that was true at that moment, as JSON can hold it.
    """

    event_id: str
    user_id: str
    item_id: str
    kind: str
    timestamp: int
    value: float | None = None
    context: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoredItem:
    """What was said about an item after training.

    Attributes:
        item_id: The shop's id.
        attributes: Attribute → value; an explicit None removes what the trained catalogue says.
        deleted: Whether it must not be recommended.
    """

    item_id: str
    attributes: Mapping[str, Any]
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class StoredUser:
    """Attributes of a user."""

    user_id: str
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Impression:
    """One slate that was shown; the place in ``item_ids`` is the rank, first place first.

    Attributes:
        request_id: The answer it belongs to.
        user_id: Who saw it; None for an anonymous visitor.
        timestamp: UTC seconds.
        route: ``recommend``, ``similar`` or ``search``.
        bundle: Version of the bundle that chose.
        item_ids: The items, first place first.
        propensities: How probable each place was under the policy that chose it, 0 to 1.
    """

    request_id: str
    user_id: str | None
    timestamp: int
    route: str
    bundle: str
    item_ids: tuple[str, ...]
    propensities: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class StoreCounts:
    """How much a store holds."""

    events: int
    items: int
    users: int
    impressions: int
