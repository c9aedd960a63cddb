"""What a store keeps, in the shop's own ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl


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


MOST_ATTRIBUTES = 200
"""Attributes of one user, and of one request about a user or an item."""


@dataclass(frozen=True, slots=True)
class StoredUser:
    """Attributes of a user, at most `MOST_ATTRIBUTES`; none of them is None."""

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
        experiment: Name of the running experiment that decided; None where none did.
        arm: Its arm that this user was in; for interleaving, the arms of the places joined by commas. With
            ``/late`` after it where time ran out, and this slate stood in for that of the arm.
    """

    request_id: str
    user_id: str | None
    timestamp: int
    route: str
    bundle: str
    item_ids: tuple[str, ...]
    propensities: tuple[float, ...]
    experiment: str | None = None
    arm: str | None = None


@dataclass(frozen=True, slots=True)
class StoreCounts:
    """How much a store holds."""

    events: int
    items: int
    users: int
    impressions: int


@dataclass(frozen=True, slots=True)
class Erased:
    """What was removed with a user.

    Attributes:
        n_events: Events of the log.
        n_impressions: Shown slates.
        had_attributes: Whether attributes were stored.
        was_erased_before: Whether the user had been removed already.
    """

    n_events: int
    n_impressions: int
    had_attributes: bool
    was_erased_before: bool

    @property
    def found_anything(self) -> bool:
        """Whether the store held anything about the user, an earlier removal included."""
        return bool(self.n_events or self.n_impressions or self.had_attributes or self.was_erased_before)


@dataclass(frozen=True, slots=True)
class StoredBundle:
    """One version of a trained pipeline that the store holds.

    Attributes:
        version: Short digest of what the bundle holds.
        position: Place in the change log up to which its training data reach; events after it are new to it.
        timestamp: UTC seconds when it was stored.
        facts: How it was trained and how good it was, as JSON can hold it.
        is_active: Whether it is the one to serve.
    """

    version: str
    position: int
    timestamp: int
    facts: Mapping[str, Any]
    is_active: bool


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A small JSON document that every process of the service must agree on, such as an experiment.

    Attributes:
        kind: ``experiment``, ``receipt``, ….
        name: Distinct within its kind.
        body: Its content; None when it was removed.
    """

    kind: str
    name: str
    body: Mapping[str, Any] | None


@dataclass(frozen=True, eq=False, slots=True)
class Changes:
    """What changed in one tenant between two positions of its log.

    To apply: forget users first, then take in items, then users, then events, then documents, then the
    bundle. Events that were erased since are not there any more, so nothing forgotten comes back.

    Attributes:
        position: Everything up to here is included.
        forgotten: Users that were removed.
        items: Newest word on every item that changed.
        described: Users whose attributes changed, with all they have now.
        events: Columns as in `zhiyin.stores.events.BATCH_SCHEMA`, in the order of acceptance.
        documents: Newest word on every document that changed.
        bundle: Version of the bundle that became active, None where that did not change.
    """

    position: int
    forgotten: tuple[str, ...]
    items: tuple[StoredItem, ...]
    described: tuple[StoredUser, ...]
    events: pl.DataFrame
    documents: tuple[StoredDocument, ...]
    bundle: str | None


@dataclass(frozen=True, slots=True)
class StoredKey:
    """An API key as the store knows it: never the key itself.

    Attributes:
        key_id: Public part of the key; names it in logs and lists.
        digest: Hash of the secret part.
        tenant: Whose data it opens.
        name: What it is for, in words.
        scopes: Of ``ingest``, ``recommend``, ``admin``.
        created: UTC seconds.
        expires: UTC seconds after which it is refused; None for never.
        revoked: UTC seconds when it was taken back; None while it is valid.
        requests_per_second: Its own limit; None for the limit of the service.
    """

    key_id: str
    digest: str
    tenant: str
    name: str
    scopes: tuple[str, ...]
    created: int
    expires: int | None = None
    revoked: int | None = None
    requests_per_second: float | None = None


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One thing that was done with power: a deletion, an export, a key, a swap of bundles, a refusal.

    Attributes:
        timestamp: UTC seconds.
        tenant: Whose data; empty for the whole service.
        actor: Key id, or ``cli``.
        action: A word such as ``user.erase`` or ``key.create``.
        subject: What it was done to, pseudonymised where it is a person.
        outcome: ``done`` or why it was not.
        request_id: The request it came with, or empty.
    """

    timestamp: int
    tenant: str
    actor: str
    action: str
    subject: str
    outcome: str
    request_id: str = ""
