"""What is an event, what is not, and why."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiyin.online.streams.messages import LONGEST_MESSAGE, MalformedMessage, Message, event_of
from zhiyin.stores.records import Event

NOW = 1_750_000_000.0
ARRIVED = 1_749_999_000.25


def message(payload: Any, position: str = "events/1-0") -> Message:
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return Message(position, raw, ARRIVED, None)


def event(**fields: Any) -> Event:
    return event_of(message({"user_id": "u", "item_id": "i", **fields}), NOW)


def test_everything_said_is_kept() -> None:
    assert event(
        event="cart", timestamp=1_700_000_000.9, value=3, context={"page": "茶", "n": 1}, event_id=7
    ) == Event("7", "u", "i", "cart", 1_700_000_000, 3.0, {"page": "茶", "n": 1})


def test_the_largest_numbers_are_taken_as_they_are() -> None:
    context = {"most": 2**64 - 1, "least": -(2**63), "is": True}
    assert event(context=context).context == context


def test_what_is_not_said_is_the_same_at_every_delivery() -> None:
    expected = Event("stream:events/1-0", "u", "i", "interaction", int(ARRIVED), None, {})
    assert event() == expected
    assert event_of(message({"user_id": "u", "item_id": "i"}), NOW + 5_000) == expected


@pytest.mark.parametrize(
    ("moment", "seconds"),
    [
        (0, 0),
        ("2024-12-31T23:59:59Z", 1_735_689_599),
        ("2024-12-31T23:59:59", 1_735_689_599),
        ("2025-01-01T07:59:59+08:00", 1_735_689_599),
        (NOW + 86_400, int(NOW) + 86_400),
    ],
)
def test_moments(moment: Any, seconds: int) -> None:
    assert event(timestamp=moment).timestamp == seconds


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"user_id": None}, "'user_id' is missing"),
        ({"user_id": ""}, "'user_id' should be a text of 1 to 256 characters"),
        ({"user_id": "u" * 257}, "'user_id' should be"),
        ({"user_id": "a\x00b"}, "without control characters"),
        ({"user_id": "\ud800"}, "without control characters"),
        ({"user_id": True}, "'user_id' should be"),
        ({"item_id": ["i"]}, "'item_id' should be"),
        ({"event": ""}, "'event' should be a text of 1 to 64"),
        ({"event": None}, "'event' should be"),
        ({"event_id": ""}, "'event_id' should be"),
        ({"timestamp": NOW + 86_401}, "between 1970 and tomorrow"),
        ({"timestamp": NOW * 1000}, "looks like milliseconds"),
        ({"timestamp": 10**400}, "between 1970 and tomorrow"),
        ({"timestamp": -(10**400)}, "between 1970 and tomorrow"),
        ({"value": 10**400}, "'value' should be a number"),
        ({"user_id": 10**400}, "'user_id' should be"),
        ({"timestamp": -1}, "between 1970 and tomorrow"),
        ({"timestamp": "yesterday"}, "UTC seconds or a date"),
        ({"timestamp": True}, "UTC seconds or a date"),
        ({"timestamp": float("nan")}, "between 1970 and tomorrow"),
        ({"timestamp": float("inf")}, "between 1970 and tomorrow"),
        ({"value": float("nan")}, "'value' should be a number"),
        ({"value": 1e13}, "'value' should be a number"),
        ({"value": "3"}, "'value' should be a number"),
        ({"value": True}, "'value' should be a number"),
        ({"context": []}, "'context' should be an object"),
        ({"context": {str(n): n for n in range(51)}}, "50 fields at most"),
        ({"context": {"a": {"b": 1}}}, "Values of 'context'"),
        ({"context": {"a": "x" * 1_001}}, "Values of 'context'"),
        ({"context": {"a": float("inf")}}, "Values of 'context'"),
        ({"context": {"a": 2**64}}, "64 bits at most; send others as text"),
        ({"context": {"a": -(2**63) - 1}}, "64 bits at most"),
        ({"context": {"a": 10**400}}, "64 bits at most"),
        ({"context": {"a": "tea \ud83c"}}, "half of a character"),
        ({"context": {"": 1}}, "a name in context"),
        ({"itemid": "i"}, "Did you mean 'item_id'"),
        ({"\n": "i"}, "A field is not known"),
    ],
)
def test_reasons(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(MalformedMessage, match=reason):
        event(**fields)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"3",
        b"null",
        b'{"a":1}}',
        b"\xff",
        b"[" * 60_000,
        b"1" * 5_000,
        b" " * LONGEST_MESSAGE + b"{}",
    ],
)
def test_what_is_no_object(raw: bytes) -> None:
    with pytest.raises(MalformedMessage, match="The message"):
        event_of(message(raw), NOW)


@given(raw=st.binary(max_size=200))
def test_any_bytes_are_an_event_or_malformed(raw: bytes) -> None:
    with pytest.raises(MalformedMessage):
        event_of(message(raw), NOW)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = ("user_id", "item_id", "event", "timestamp", "value", "context", "event_id")


@given(fields=st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_any_fields_are_an_event_or_malformed_and_no_reason_repeats_a_value(fields: dict[str, Any]) -> None:
    secret = {"user_id": "tea-secret-1", "item_id": "tea-secret-2"}
    try:
        found = event_of(message({**secret, **fields}), NOW)
    except MalformedMessage as error:
        reason = error.problem
    else:
        reason = ""
        assert 1 <= len(found.user_id) <= 256
        assert 0 <= found.timestamp <= NOW + 86_400
        assert orjson.loads(orjson.dumps(dict(found.context))) == found.context, "as an export writes it"
    assert "tea-secret" not in reason


@given(one=st.text(max_size=300), other=st.text(max_size=300))
def test_places_and_ids_go_together(one: str, other: str) -> None:
    ids = [event_of(message({"user_id": "u", "item_id": "i"}, place), NOW).event_id for place in (one, other)]
    assert (ids[0] == ids[1]) == (one == other)
    assert all(1 <= len(event_id) <= 256 for event_id in ids)
