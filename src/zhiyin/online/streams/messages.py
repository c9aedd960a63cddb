"""One message of a stream is one event, written as a JSON object."""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from zhiyin.data.kinds import USUAL_KIND
from zhiyin.domain.errors import RequestError, did_you_mean
from zhiyin.online.event_rules import (
    CONTROL,
    FIELDS,
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
from zhiyin.stores.records import Event

LONGEST_MESSAGE = 65_536
"""Bytes of one message."""
_HALVES = re.compile(r"[\ud800-\udfff]")
"""Halves of characters, which JSON can escape and no store can hold: the events would be tried for ever."""


@dataclass(frozen=True, slots=True)
class Message:
    """What a stream delivered.

    Attributes:
        position: Where it stands, such as ``events/1718000000000-0`` or ``clicks/3/4711@1718000000000``; the
            same at every delivery, and no other message ever stands there.
        payload: Its bytes as they came.
        arrived: UTC seconds when the stream took it in; the same at every delivery.
        mark: What the stream needs to be told when it is durable.
        problem: Why it can be no event, where the stream knows already.
    """

    position: str
    payload: bytes
    arrived: float
    mark: Any
    problem: str = ""


class MalformedMessage(RequestError):
    """A message that is no event, and never will be; the reason names the field but repeats no value."""


def event_of(message: Message, now: float | None = None) -> Event:
    """Read the event of a message.

    The fields are those of POST /v1/events. Without ``event_id`` the place in the stream is the id, so that a
    message delivered twice is one event; without ``timestamp`` it happened when the stream took it in.

    Args:
        message: As delivered.
        now: UTC seconds; what lies more than a day later is refused.

    Raises:
        MalformedMessage: with the reason.
    """
    if message.problem:
        _refuse(message.problem)
    body = _object(message.payload)
    for name in body:
        if name not in FIELDS:
            shown = f"'{name}'" if len(name) <= LONGEST_NAME and not CONTROL.search(name) else "A field"
            _refuse(f"{shown} is not known.{did_you_mean(name, FIELDS)} Known are {', '.join(FIELDS)}.")
    moment = body.get("timestamp")
    event_id = body.get("event_id")
    return Event(
        event_id=id_at(message.position) if event_id is None else _id(event_id, "event_id"),
        user_id=_id(body.get("user_id"), "user_id"),
        item_id=_id(body.get("item_id"), "item_id"),
        kind=_text(body.get("event", USUAL_KIND), "event", LONGEST_WORD),
        timestamp=_seconds(message.arrived if moment is None else moment, now or time.time()),
        value=_amount(body.get("value")),
        context=_context(body.get("context")),
    )


def id_at(position: str) -> str:
    """Return the event id of a message that brings none: the same for the same place."""
    event_id = f"stream:{position}"
    if len(event_id) > LONGEST_ID or CONTROL.search(event_id):
        return f"stream:{hashlib.sha256(position.encode('utf-8', 'surrogatepass')).hexdigest()}"
    return event_id


def _object(payload: bytes) -> dict[str, Any]:
    if not payload:
        _refuse("The message is empty.")
    if len(payload) > LONGEST_MESSAGE:
        _refuse(f"The message has more than {LONGEST_MESSAGE:,} bytes.")
    try:
        body = json.loads(payload)
    except (ValueError, RecursionError):
        raise MalformedMessage("The message is not JSON in UTF-8.") from None
    if not isinstance(body, dict):
        _refuse("The message is JSON, but no object with fields.")
    return body


def _id(value: object, field: str) -> str:
    if value is None:
        _refuse(f"'{field}' is missing.")
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**100:
        value = str(value)
    return _text(value, field, LONGEST_ID)


def _text(value: object, field: str, longest: int) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= longest or CONTROL.search(value):
        _refuse(f"'{field}' should be a text of 1 to {longest} characters without control characters.")
    return value


def _seconds(value: object, now: float) -> int:
    try:
        return utc_seconds(value, now)
    except ValueError as error:
        raise MalformedMessage(f"'timestamp' is wrong. {error}") from None


def _amount(value: object) -> float | None:
    if value is None:
        return None
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not -LARGEST_VALUE <= value <= LARGEST_VALUE:  # type: ignore[operator]
        _refuse(f"'value' should be a number from -{LARGEST_VALUE:.0e} to {LARGEST_VALUE:.0e}.")
    return float(value)  # type: ignore[arg-type]


def _context(value: object) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict) or len(value) > MOST_CONTEXT:
        _refuse(f"'context' should be an object with {MOST_CONTEXT} fields at most.")
    for name, inner in value.items():
        _text(name, "a name in context", LONGEST_NAME)
        if isinstance(inner, int) and not SMALLEST_WHOLE <= inner <= LARGEST_WHOLE:
            _refuse("Whole numbers of 'context' should have 64 bits at most; send others as text.")
        if isinstance(inner, str) and _HALVES.search(inner):
            _refuse("A text of 'context' holds half of a character (a surrogate alone).")
        is_long = isinstance(inner, str) and len(inner) > LONGEST_TEXT
        is_endless = isinstance(inner, float) and not math.isfinite(inner)
        is_plain = inner is None or isinstance(inner, (str, bool, int, float))
        if is_long or is_endless or not is_plain:
            _refuse(
                f"Values of 'context' should be texts of {LONGEST_TEXT} characters, numbers, true, false."
            )
    return value


def _refuse(reason: str) -> NoReturn:
    raise MalformedMessage(reason)
