"""Checking many events by their columns finds exactly what checking one by one finds."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from zhiyin.online.event_rules import SentEvents, read_together, utc_seconds
from zhiyin.serving.schemas import EventIn, EventsBody, sent_one_by_one

NOW = 1_750_000_000.0
ONE = TypeAdapter(EventIn)
BODY = TypeAdapter(EventsBody)
COLUMNS = SentEvents.__dataclass_fields__

TEXTS = st.text(max_size=5) | st.sampled_from(["u1", "茶", "a\nb", "\x85", "x" * 257, "x" * 65, "\u2028", ""])
NUMBERS = st.sampled_from([0, 1, -1, 2.5, 1e12, -1e13, 10**400, 1_700_000_000, 1_700_000_000_000, 1e300])
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
NAMES = ("user_id", "item_id", "event", "timestamp", "value", "context", "event_id", "itemid")
VALUES = SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(TEXTS, SCALARS | st.just([1]), max_size=2)
RIGHT: dict[str, Any] = {
    "user_id": st.sampled_from(["u1", "茶"]),
    "item_id": st.sampled_from(["i1", "i2"]),
    "event": st.sampled_from(["view", "加购"]),
    "timestamp": st.integers(0, 1_700_000_000) | st.floats(0, 1_700_000_000),
    "value": st.none() | st.integers(-5, 5) | st.floats(-5, 5),
    "context": st.none() | st.dictionaries(st.sampled_from(["a", "b"]), st.integers() | st.text(max_size=2)),
    "event_id": st.none() | st.sampled_from(["e1", "e2"]),
}


def columns(sent: SentEvents) -> dict[str, list[Any]]:
    return {name: list(getattr(sent, name)) for name in COLUMNS}


def problems_of(reader: TypeAdapter[Any], value: object) -> set[str]:
    try:
        reader.validate_python(value)
    except ValidationError as wrong:
        return {error["msg"] for error in wrong.errors()}
    return set()


@st.composite
def sent_events(draw: st.DrawFn) -> list[Any]:
    """Right events, of which some fields of some are anything at all."""
    events = []
    for _ in range(draw(st.integers(1, 6))):
        names = draw(st.sets(st.sampled_from(sorted(RIGHT)))) | {"user_id", "item_id"}
        events.append({name: draw(RIGHT[name]) for name in sorted(names)})
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(events) - 1))
        events[place] = draw(st.just({**events[place], draw(st.sampled_from(NAMES)): draw(VALUES)}) | SCALARS)
        if not isinstance(events[place], dict):
            break
    return events


@given(events=sent_events())
def test_whatever_is_read_together_is_what_is_read_one_by_one(events: list[Any]) -> None:
    together = read_together(events, time.time())
    if together is not None:
        assert columns(together) == columns(sent_one_by_one([ONE.validate_python(event) for event in events]))


def test_plain_events_are_read_together() -> None:
    events = [
        {
            "user_id": f"u{n}",
            "item_id": "茶 杯",
            "event": "加购",
            "timestamp": n,
            "value": n / 2,
            "event_id": f"e{n}",
        }
        for n in range(50)
    ] + [
        {"user_id": "a", "item_id": "b"},
        {"user_id": "a", "item_id": "b", "context": {"hour": 3, "page": "茶"}},
    ]
    found = read_together(events, NOW)
    assert found is not None
    assert columns(found) == columns(sent_one_by_one([ONE.validate_python(event) for event in events]))


@given(events=sent_events())
def test_a_request_is_refused_exactly_when_one_of_its_events_is_wrong(events: list[Any]) -> None:
    problems = {problem for event in events for problem in problems_of(ONE, event)}
    found = problems_of(BODY, {"events": events})
    assert found == problems
    if not problems:
        expected = columns(sent_one_by_one([ONE.validate_python(event) for event in events]))
        assert columns(BODY.validate_python({"events": events})) == expected


@pytest.mark.parametrize(
    "value", [10**400, -(10**400), float("nan"), float("inf"), -1, NOW + 86_401, NOW * 1000, True, None, "x"]
)
def test_moments_that_nobody_means(value: object) -> None:
    with pytest.raises(ValueError, match=r"^It (should|looks)"):
        utc_seconds(value, NOW)
