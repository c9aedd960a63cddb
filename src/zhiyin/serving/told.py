"""What goes out over the wire: bodies of answers."""

from __future__ import annotations

from typing import Any

from pydantic import (
    ConfigDict,
)

from zhiyin.serving.wire import Told


class EventsOut(Told):
    """What became of sent events."""

    accepted: int
    """Events received; every one of them is durable now."""
    stored: int
    """Events that were new."""
    duplicates: int
    """Events whose event_id was there already."""
    event_ids: list[str]
    """One an event, in the order sent."""
    unknown_items: list[str]
    """Items the catalogue does not hold; their events count once the item is put."""
    event_kinds: dict[str, str]
    """Words for kinds the bundle does not have → the kind they count as."""


class BulkOut(Told):
    """A line of progress of a stream of events; the last line has `done`, or says what stopped it."""

    lines: int
    """Lines read so far; all of them are stored or were refused."""
    stored: int
    """Events that were new."""
    duplicates: int
    """Events whose event_id was there already."""
    refused: int
    """Lines that were no event."""
    done: bool | None = None
    """Whether the whole stream was read; on the last line."""
    problem: str | None = None
    """What stopped the stream; on the last line."""
    remedy: str | None = None
    """What to do then."""
    errors: list[LineError] | None = None
    """The first refused lines; on the last line."""


class LineError(Told):
    """A line that was no event."""

    line: int
    problem: str


class RecommendationOut(Told):
    """One place of a slate."""

    item_id: str
    rank: int
    """1 for the first place."""
    score: float
    """Higher is better; comparable within one slate only."""
    chance: float | None = None
    """How probable it is that the user takes this item next; where the bundle can tell: not under a filter,
    with repeats, in a search or beside an item."""
    predictions: dict[str, float] | None = None
    """Task → chance or number that the bundle's ranker predicts; where it has one."""
    reasons: list[str] | None = None
    """Sentences for the user; where explain was asked for."""
    sources: dict[str, float] | None = None
    """Source → what it added to the score; where explain was asked for."""


class SlateOut(Told):
    """A slate, best first; fewer places than asked for where fewer items may be shown."""

    items: list[RecommendationOut]
    bundle: str
    """Version of the bundle that chose."""
    request_id: str
    """Also in the header X-Request-ID, and stored with what was shown."""
    known_user: bool | None = None
    """Whether anything was known of the user; where one was named."""
    unknown_items: list[str] | None = None
    """Items of the history the catalogue does not hold; they were left out."""
    degraded: str | None = None
    """Why this is less than the best answer: stale while the log cannot be read, cached or popular when time
    ran out."""
    experiment: str | None = None
    """The experiment this user is in."""
    arm: str | None = None
    """The arm of the experiment that answered."""


class ItemOut(Told):
    """What is known of an item beyond the bundle."""

    item_id: str
    attributes: dict[str, Any]
    """Everything that was put so far; null where something of the bundle was removed."""
    new_attributes: list[str]
    """Attributes no item had before: new on purpose, or misspelt."""


class UserOut(Told):
    """Attributes of a user."""

    user_id: str
    attributes: dict[str, Any]


class StoredEventOut(Told):
    """One event as it is stored."""

    event_id: str
    item_id: str
    event: str
    timestamp: int
    value: float | None
    context: dict[str, Any]


class StoredSlateOut(Told):
    """One slate that was shown, as it is stored."""

    request_id: str
    timestamp: int
    route: str
    bundle: str
    item_ids: list[str]
    experiment: str | None
    arm: str | None
    """For an interleaving, the arms of the places joined by commas. With /late after it where time ran out,
    and this slate stood in for that of the arm."""


class RememberedOut(Told):
    """One event that the bundle in use was trained on."""

    item_id: str
    event: str
    timestamp: int | None
    """UTC seconds; null where the training data had no times."""
    value: float | None


class PersonOut(Told):
    """Everything that is kept about a person."""

    user_id: str
    """As it is stored; a pseudonym where pseudonyms are used."""
    attributes: dict[str, Any]
    events: list[StoredEventOut]
    """Oldest first."""
    shown: list[StoredSlateOut]
    """Slates, oldest first."""
    trained_on: list[RememberedOut]
    """What the bundle in use remembers, oldest first."""


class ReceiptOut(Told):
    """Proof that a person was erased; it names nobody."""

    receipt_id: str
    tenant: str
    person: str
    """Keyed hash of the user id."""
    erased_at: int
    """UTC seconds."""
    n_events: int
    n_impressions: int
    had_attributes: bool
    was_erased_before: bool
    position: int
    """Place in the change log; a model trained on the log after it holds nothing of what was removed."""
    statement: str
    key: str
    """Names the secret that signed it."""
    signature: str


class VerifiedOut(Told):
    """What came out of a verification."""

    is_valid: bool
    reason: str | None = None
    """Why it is not valid."""


class AuditEntryOut(Told):
    """One thing that was done with power."""

    timestamp: int
    actor: str
    """Public part of the key, or cli."""
    action: str
    subject: str
    """What it was done to; a person stands as a pseudonym."""
    outcome: str
    request_id: str


class AuditOut(Told):
    """The newest entries of the audit log, newest first."""

    entries: list[AuditEntryOut]


class BundleOut(Told):
    """One version of the model."""

    version: str
    position: int
    """Place in the change log up to which its training data reach."""
    timestamp: int
    """UTC seconds when it was stored."""
    is_active: bool
    facts: dict[str, Any]
    """How it was trained and how good it was."""


class BundlesOut(Told):
    """The versions of the model."""

    serving: str
    """The version this process answers with."""
    bundles: list[BundleOut]


class ActivatedOut(Told):
    """The version that serves now."""

    serving: str


class ExperimentOut(Told):
    """One experiment."""

    is_over: bool
    trial: dict[str, Any]
    """What was asked for."""
    buckets: list[list[int]]
    """Ranges of the 10,000 buckets of users that it holds."""
    stopped: int | None
    """UTC seconds when somebody stopped it."""
    notes_slow_answers: bool
    """Whether slow answers are counted; not in experiments that an older version started."""


class ExperimentsOut(Told):
    """The experiments of the tenant."""

    experiments: list[ExperimentOut]


class ExperimentReportOut(Told):
    """What an experiment has shown so far."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)


class HealthOut(Told):
    """The process is alive."""

    status: str


class ReadyOut(Told):
    """The service can answer."""

    status: str
    bundle: str
    """Versions that serve."""
    items: int
    """Items that may be recommended, of all tenants."""
    users: int
    """Users with a history, of all tenants."""
    unserved: int
    """Tenants that have bundles of which none can be loaded; the log names them."""
    lag: int
    """Changes this process has heard of and not yet taken in."""
