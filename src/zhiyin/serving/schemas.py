"""What goes over the wire: bodies of requests and of answers."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetPydanticSchema,
    JsonValue,
    StringConstraints,
    Tag,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
    model_validator,
)

from zhiyin.online.event_rules import (
    CONTROL,
    LARGEST_VALUE,
    LONGEST_ID,
    LONGEST_NAME,
    LONGEST_TEXT,
    LONGEST_WORD,
    MOST_CONTEXT,
    USUAL_KIND,
    SentEvents,
    read_together,
    utc_seconds,
)
from zhiyin.online.trials.definition import Trial
from zhiyin.serving.problems import MANY, ONE

MAX_EVENTS = 10_000
"""Events in one request."""
MAX_HISTORY = 1_000
"""Events of a history that comes with a request."""
_FEW = 4
"""Events up to which looking at each takes less time than looking at their columns."""
_PRINTABLE = r"^[^\u0000-\u001f\u007f-\u009f]*$"
"""The same for whoever reads the description of the routes."""
_LARGEST_WHOLE = 2**53
"""Up to here every whole number is exact as a float."""


def _without_control(text: str) -> str:
    if CONTROL.search(text):
        raise ValueError("It holds a control character.")
    return text


def _id_length(text: str) -> str:
    if not 1 <= len(text) <= LONGEST_ID:
        raise ValueError(f"It should have at least 1 character and at most {LONGEST_ID} characters.")
    return text


def _whole(value: object) -> object:
    """Take 5.0 for 5, as JSON does not tell them apart."""
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) <= _LARGEST_WHOLE
    return int(value) if isinstance(value, float) and is_whole else value


def _number_as_text(value: object) -> object:
    value = _whole(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _seconds(value: object) -> int:
    return utc_seconds(value, time.time())


def _plain(value: object, *, longest: int = LONGEST_TEXT) -> object:
    if isinstance(value, str) and len(value) > longest:
        raise ValueError(f"It should have {longest} characters at most.")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("It should be a finite number.")
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise ValueError("It should be a text, a number, true, false or null.")


def _plain_or_list(value: object) -> object:
    if not isinstance(value, list):
        return _plain(value, longest=100_000)
    if len(value) > 1_000:
        raise ValueError("It should have 1000 elements at most.")
    return [_plain(element) for element in value]


Id = Annotated[
    str,
    BeforeValidator(_number_as_text),
    AfterValidator(_id_length),
    AfterValidator(_without_control),
    WithJsonSchema(
        {
            "type": ["string", "integer"],
            "minLength": 1,
            "maxLength": LONGEST_ID,
            "pattern": _PRINTABLE,
        }
    ),
]
Word = Annotated[
    str,
    StringConstraints(min_length=1, max_length=LONGEST_WORD),
    AfterValidator(_without_control),
    Field(json_schema_extra={"pattern": _PRINTABLE}),
]
_Date = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Timestamp = Annotated[
    int, BeforeValidator(_seconds, json_schema_input_type=Annotated[float, Field(ge=0)] | _Date)
]
Amount = Annotated[float, Field(allow_inf_nan=False, ge=-LARGEST_VALUE, le=LARGEST_VALUE)]
Name = Annotated[
    str, StringConstraints(min_length=1, max_length=LONGEST_NAME), AfterValidator(_without_control)
]
_NAME_SCHEMA = {"type": "string", "minLength": 1, "maxLength": 100, "pattern": _PRINTABLE}
_PLAIN_SCHEMA = {"type": ["string", "number", "boolean", "null"], "maxLength": 1_000}
_ATTRIBUTE_SCHEMA = {
    "anyOf": [
        {**_PLAIN_SCHEMA, "maxLength": 100_000},
        {"type": "array", "items": _PLAIN_SCHEMA, "maxItems": 1_000},
    ]
}


def _named(value: Mapping[str, Any], most: int) -> WithJsonSchema:
    """Describe an object with names of one's own."""
    return WithJsonSchema(
        {
            "type": "object",
            "propertyNames": _NAME_SCHEMA,
            "additionalProperties": value,
            "maxProperties": most,
        }
    )


PlainValue = Annotated[Any, AfterValidator(_plain)]
AttributeValue = Annotated[Any, AfterValidator(_plain_or_list)]
Context = Annotated[
    dict[Name, PlainValue], Field(max_length=MOST_CONTEXT), _named(_PLAIN_SCHEMA, MOST_CONTEXT)
]
Attributes = Annotated[dict[Name, AttributeValue], Field(max_length=200), _named(_ATTRIBUTE_SCHEMA, 200)]
_VALUE_SCHEMA = {"type": ["string", "number", "boolean"]}
_CONDITIONS_SCHEMA = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": False,
    "properties": {
        **dict.fromkeys(("equals", "at_least", "at_most", "above", "below"), _VALUE_SCHEMA),
        "in": {"type": "array", "items": _VALUE_SCHEMA, "minItems": 1, "maxItems": 1_000},
        "contains": {"type": "string"},
        "starts_with": {"type": "string"},
        "known": {"type": "boolean"},
    },
}
_FILTERS_SCHEMA = {"type": "array", "items": {"type": "object"}, "minItems": 1}
FilterBody = Annotated[
    dict[str, Any],
    WithJsonSchema(
        {
            "type": "object",
            "properties": {"any": _FILTERS_SCHEMA, "all": _FILTERS_SCHEMA, "not": {"type": "object"}},
            "additionalProperties": {"anyOf": [_VALUE_SCHEMA, _CONDITIONS_SCHEMA]},
        }
    ),
]


class Wire(BaseModel):
    """Base of everything that comes in: no unknown fields, no silent conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)


class Told(BaseModel):
    """Base of everything that goes out: what stands under a field describes it."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class EventIn(Wire):
    """One thing a user did with an item."""

    user_id: Id
    """The shop's id of the user; a new one is a new user, at once."""
    item_id: Id
    """The shop's id of the item. An item the catalogue lacks is stored too, and counts once it arrives."""
    event: Word = USUAL_KIND
    """Kind of the event, such as view, cart, purchase, rating. A word the bundle was not trained on counts as
    the kind that means the same, else as the commonest kind; the answer tells."""
    timestamp: Timestamp | None = None
    """When it happened, UTC seconds or ISO 8601; the moment of arrival where it is missing."""
    value: Amount | None = None
    """Rating, amount or count."""
    context: Context | None = None
    """What else was true: hour, device, page, …; names and plain values."""
    event_id: Id | None = None
    """Makes sending again safe: an id that was stored already is counted as a duplicate, not stored twice.
    Made by the service where it is missing, and returned."""


class EventsIn(Wire):
    """Many events, stored all or none."""

    events: Annotated[list[EventIn], Field(min_length=1, max_length=MAX_EVENTS)]
    """Oldest first."""


def _form(value: object) -> str:
    return MANY if isinstance(value, dict) and "events" in value else ONE


def sent_one_by_one(events: Sequence[EventIn]) -> SentEvents:
    """Return the columns of events that were looked at one by one."""
    return SentEvents(
        [event.user_id for event in events],
        [event.item_id for event in events],
        [event.event for event in events],
        [event.timestamp for event in events],
        [event.value for event in events],
        [event.context for event in events],
        [event.event_id for event in events],
    )


def _sent(value: Any, look_closely: ValidatorFunctionWrapHandler) -> SentEvents:
    """Check many events at once where that is enough; whatever is unusual is looked at closely."""
    events = value.get("events") if isinstance(value, dict) and len(value) == 1 else None
    if isinstance(events, list) and _FEW < len(events) <= MAX_EVENTS:
        sent = read_together(events, time.time())
        if sent is not None:
            return sent
    looked_at: EventIn | EventsIn = look_closely(value)
    return sent_one_by_one(looked_at.events if isinstance(looked_at, EventsIn) else [looked_at])


_OneOrMany = Annotated[
    Annotated[EventIn, Tag(ONE)] | Annotated[EventsIn, Tag(MANY)], Discriminator(_form), WrapValidator(_sent)
]
EventsBody = Annotated[SentEvents, GetPydanticSchema(lambda _, handler: handler.generate_schema(_OneOrMany))]
"""One event or many on the wire, columns behind it."""


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


class PastIn(Wire):
    """One event of a history."""

    item_id: Id
    event: Word = USUAL_KIND
    timestamp: Timestamp | None = None
    value: Amount | None = None


def _as_past(value: object) -> object:
    return value if isinstance(value, (dict, PastIn)) else {"item_id": value}


Past = Annotated[PastIn, BeforeValidator(_as_past, json_schema_input_type=PastIn | Id)]


class BoostIn(Wire):
    """Items that should come earlier, or later."""

    filter: FilterBody
    """Which items."""
    by: Annotated[float, Field(allow_inf_nan=False, ge=-1_000, le=1_000)]
    """Added to their score; negative moves them down."""


_ABSENT: JsonValue = {"type": "null"}
_GIVEN: JsonValue = {"not": {"type": "null"}}


class SlateIn(Wire):
    """How a slate should be."""

    n: Annotated[
        int,
        BeforeValidator(_whole, json_schema_input_type=Annotated[int, Field(ge=1, le=1_000)]),
        Field(ge=1, le=1_000),
    ] = 10
    """Places."""
    filter: FilterBody | None = None
    """Which items may be shown: an attribute and its value, or conditions on it (at_least, at_most, above,
    below, in, contains, starts_with, known); any, all and not join filters."""
    boost: Annotated[list[BoostIn], Field(max_length=20)] = []
    """Which items should come earlier or later."""


class RecommendIn(SlateIn):
    """Who asks, by id or by what they did, and how the slate should be."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": ["user_id"], "properties": {"user_id": _GIVEN, "history": _ABSENT}},
                {"required": ["history"], "properties": {"history": _GIVEN, "user_id": _ABSENT}},
            ]
        }
    )

    user_id: Id | None = None
    """A user of the shop; somebody nobody has seen yet is served as a new user."""
    history: Annotated[list[Past], Field(max_length=MAX_HISTORY)] | None = None
    """What a visitor did, oldest first: item ids, or objects with event and timestamp. Instead of user_id; an
    empty list is a visitor nothing is known of."""
    context: Context | None = None
    """Hour, device, … of this request."""
    diversity: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.0
    """0 orders by score alone, 1 by difference from what already stands above."""
    explain: bool = False
    """Whether to say why, and which source proposed what."""
    repeat: bool = False
    """Whether items the user already has may come again."""

    @model_validator(mode="after")
    def _one_of_two(self) -> RecommendIn:
        if (self.user_id is None) == (self.history is None):
            raise ValueError(
                "Exactly one of 'user_id' and 'history' is needed; a visitor nothing is known of has the"
                " history []."
            )
        return self


class SimilarIn(SlateIn):
    """An item, and how the slate should be."""

    item_id: Id
    """An item of the catalogue."""
    diversity: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.0
    """0 orders by score alone, 1 by difference from what already stands above."""


class SearchIn(SlateIn):
    """Free text, and how the slate should be."""

    text: Annotated[
        str,
        StringConstraints(min_length=1, max_length=1_000, strip_whitespace=True),
        Field(json_schema_extra={"pattern": r"\S"}),
    ]
    """What is looked for, in any words."""
    user_id: Id | None = None
    """Whose taste orders what was found."""


class RecommendationOut(Told):
    """One place of a slate."""

    item_id: str
    rank: int
    """1 for the first place."""
    score: float
    """Higher is better; comparable within one slate only."""
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


class PersonOut(Told):
    """Everything that is stored about a person."""

    user_id: str
    """As it is stored; a pseudonym where pseudonyms are used."""
    attributes: dict[str, Any]
    events: list[StoredEventOut]
    """Oldest first."""
    shown: list[StoredSlateOut]
    """Slates, oldest first."""


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


class VerifyIn(Wire):
    """A receipt that somebody shows."""

    receipt: dict[str, Any]
    """As DELETE /v1/users/{user_id} returned it."""
    user_id: Id | None = None
    """Whom it should be about."""


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


def _trial_schema() -> dict[str, Any]:
    """What an experiment may hold, without its name, which stands in the path."""
    schema = Trial.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs")
    schema["properties"] = {name: what for name, what in schema["properties"].items() if name != "name"}
    schema["required"] = [name for name in schema["required"] if name != "name"]
    return schema


def trial_parts() -> dict[str, Any]:
    """Schemas that the description of an experiment refers to."""
    parts: dict[str, Any] = Trial.model_json_schema(ref_template="#/components/schemas/{model}")["$defs"]
    return parts


ExperimentIn = Annotated[
    dict[Name, Any],
    Field(max_length=20),
    WithJsonSchema(_trial_schema()),
]


class ExperimentOut(Told):
    """One experiment."""

    is_over: bool
    trial: dict[str, Any]
    """What was asked for."""
    buckets: list[list[int]]
    """Ranges of the 10,000 buckets of users that it holds."""
    stopped: int | None
    """UTC seconds when somebody stopped it."""


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
    lag: int
    """Changes this process has heard of and not yet taken in."""


KNOWN_FIELDS = sorted(
    {
        name
        for model in (EventIn, EventsIn, PastIn, BoostIn, RecommendIn, SimilarIn, SearchIn, VerifyIn)
        for name in model.model_fields
    }
)
"""Names to suggest for a misspelt field."""
