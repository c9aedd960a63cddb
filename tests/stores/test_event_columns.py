"""Columns are the events they were made of."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from zhiyin.stores.event_columns import EventColumns
from zhiyin.stores.records import Event

TEXTS = st.text(max_size=3)
EVENTS = st.lists(
    st.builds(
        Event,
        *(TEXTS, TEXTS, TEXTS, TEXTS),
        st.integers(0, 10),
        st.none() | st.floats(allow_nan=False),
        st.dictionaries(TEXTS, st.integers(), max_size=2),
    ),
    max_size=8,
)


@given(events=EVENTS, data=st.data())
def test_columns_are_a_sequence_of_their_events(events: list[Event], data: st.DataObject) -> None:
    found = EventColumns.of(events)
    assert list(found) == events
    assert [found[place] for place in range(len(found))] == events
    assert list(found[1:]) == events[1:]
    assert EventColumns.of(found) is found
    keep = data.draw(st.lists(st.booleans(), min_size=len(events), max_size=len(events)))
    assert list(found.where(keep)) == [event for event, kept in zip(events, keep, strict=True) if kept]


def test_nothing_is_left_out_of_the_database_whatever_is_written(postgres_url: str) -> None:
    from zhiyin.stores.opening import open_database

    words = [
        '"',
        "\\",
        '\\"',
        "\\\\n",
        "a\nb",
        "\t",
        "NULL",
        "null",
        "{}",
        "{a,b}",
        "茶",
        " ",
        ",",
        "\u2028",
        "\x7f",
    ]
    written: list[Any] = [
        Event(f"{kind}{number}", word, word, word, number, value, {word: word})
        for kind, chosen in (("all", words), ("plain", [word for word in words if word.isprintable()]))
        for number, (word, value) in enumerate(zip(chosen, [0.1, None, -1e300] * 9, strict=False))
    ]
    database = open_database(postgres_url)
    try:
        half = len(words)
        for part in (written[:half], written[half:]):
            assert all(database.store().append_events(part).result())
        for word in words:
            found = database.store().events_of(word)
            assert found == [event for event in written if event.user_id == word]
    finally:
        database.close()
