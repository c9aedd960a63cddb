"""What single fields of bodies may be: ids, moments, amounts, names, filters."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)

from zhiyin.online.event_rules import (
    CONTROL,
    LARGEST_VALUE,
    LARGEST_WHOLE,
    LONGEST_ID,
    LONGEST_NAME,
    LONGEST_TEXT,
    LONGEST_WORD,
    MOST_CONTEXT,
    SMALLEST_WHOLE,
    utc_seconds,
)
from zhiyin.stores.records import MOST_ATTRIBUTES

MAX_EVENTS = 10_000
"""Events in one request."""
MAX_HISTORY = 1_000
"""Events of a history that comes with a request."""
FEW_EVENTS = 4
"""Events up to which looking at each takes less time than looking at their columns."""
_PRINTABLE = r"^[^\u0000-\u001f\u007f-\u009f]*$"
"""The same for whoever reads the description of the routes."""
_LARGEST_EXACT = 2**53
"""Up to here every whole number is exact as a float."""


def _without_control(text: str) -> str:
    if CONTROL.search(text):
        raise ValueError("It holds a control character.")
    return text


def _id_length(text: str) -> str:
    if not 1 <= len(text) <= LONGEST_ID:
        raise ValueError(f"It should have at least 1 character and at most {LONGEST_ID} characters.")
    return text


def whole(value: object) -> object:
    """Take 5.0 for 5, as JSON does not tell them apart."""
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) <= _LARGEST_EXACT
    return int(value) if isinstance(value, float) and is_whole else value


def _number_as_text(value: object) -> object:
    value = whole(value)
    if isinstance(value, float):
        raise ValueError("As a number it should be whole and of 64 bits at most; send others as text.")
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
            "minimum": SMALLEST_WHOLE,
            "maximum": LARGEST_WHOLE,
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
Attributes = Annotated[
    dict[Name, AttributeValue],
    Field(max_length=MOST_ATTRIBUTES),
    _named(_ATTRIBUTE_SCHEMA, MOST_ATTRIBUTES),
]
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
