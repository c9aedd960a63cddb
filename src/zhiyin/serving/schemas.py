"""What comes in over the wire: bodies of requests."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import (
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

from zhiyin.data.kinds import USUAL_KIND
from zhiyin.online.asked import LARGEST_BOOST, MOST_BOOSTS
from zhiyin.online.event_rules import (
    SentEvents,
    read_together,
)
from zhiyin.online.trials.definition import Trial
from zhiyin.serving.problems import MANY, ONE
from zhiyin.serving.wire import (
    FEW_EVENTS,
    MAX_EVENTS,
    MAX_HISTORY,
    Amount,
    Context,
    FilterBody,
    Id,
    Name,
    Timestamp,
    Wire,
    Word,
    whole,
)


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
    if isinstance(events, list) and FEW_EVENTS < len(events) <= MAX_EVENTS:
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
    by: Annotated[float, Field(allow_inf_nan=False, ge=-LARGEST_BOOST, le=LARGEST_BOOST)]
    """Added to their score; negative moves them down."""


_ABSENT: JsonValue = {"type": "null"}
_GIVEN: JsonValue = {"not": {"type": "null"}}


class SlateIn(Wire):
    """How a slate should be."""

    n: Annotated[
        int,
        BeforeValidator(whole, json_schema_input_type=Annotated[int, Field(ge=1, le=1_000)]),
        Field(ge=1, le=1_000),
    ] = 10
    """Places."""
    filter: FilterBody | None = None
    """Which items may be shown: an attribute and its value, or conditions on it (at_least, at_most, above,
    below, in, contains, starts_with, known); any, all and not join filters."""
    boost: Annotated[list[BoostIn], Field(max_length=MOST_BOOSTS)] = []  # noqa: RUF012 - pydantic copies it
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


class VerifyIn(Wire):
    """A receipt that somebody shows."""

    receipt: dict[str, Any]
    """As DELETE /v1/users/{user_id} returned it."""
    user_id: Id | None = None
    """Whom it should be about."""


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


KNOWN_FIELDS = sorted(
    {
        name
        for model in (EventIn, EventsIn, PastIn, BoostIn, RecommendIn, SimilarIn, SearchIn, VerifyIn)
        for name in model.model_fields
    }
)
"""Names to suggest for a misspelt field."""
