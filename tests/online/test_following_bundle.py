"""One live bundle: what it reflects when events are handed to it, and when it reads them from the log."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zhiyin.domain import PAD, Vocabulary
from zhiyin.online.following import AskTheLog, Following
from zhiyin.online.live import Live
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.stores.events import EventStore
from zhiyin.stores.opening import open_database
from zhiyin.stores.records import Event


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EventStore]:
    database = open_database(f"sqlite:///{tmp_path}/store.db")
    yield database.store()
    database.close()


@pytest.fixture
def live(pipeline: Pipeline) -> Iterator[Live]:
    live = Live(pipeline, version="v1", position=2)
    yield live
    live.close()


def items_of(live: Live, user_id: str) -> list[str]:
    known = live.histories.of_user(user_id).histories
    return live.histories.item_ids(known.item_index.tolist())


def test_the_log_is_read_from_where_training_ended_and_no_further_than_asked(
    store: EventStore, live: Live
) -> None:
    for number in range(1, 6):
        store.append_events([Event(f"e{number}", "new", f"i{number}", "view", number)]).result()
    live.catch_up(store, 2)
    assert (live.applied, items_of(live, "new")) == (2, [])
    live.catch_up(store, 3)
    assert live.applied == 5
    assert items_of(live, "new") == ["i3", "i4", "i5"]
    live.catch_up(store, 4)
    assert items_of(live, "new") == ["i3", "i4", "i5"]


def test_users_items_and_events_of_the_log_are_reflected_in_their_order(
    store: EventStore, live: Live
) -> None:
    trained = items_of(live, "u1")
    assert trained
    store.append_events([Event("a", "u1", "i1", "view", 1)]).result()
    store.append_events([Event("b", "u2", "i2", "view", 1)]).result()
    store.put_item("fresh", {}).result()
    store.append_events([Event("c", "visitor", "fresh", "view", 3)]).result()
    store.delete_user("u1").result()
    store.put_user("described", {"city": "Wien"}).result()
    live.catch_up(store, store.position())
    live.await_items()
    assert items_of(live, "u1") == []
    assert not live.histories.is_user("u1")
    assert items_of(live, "visitor") == ["fresh"]
    assert live.histories.is_user("described")
    assert live.applied == store.position() == 6


def test_what_is_handed_over_and_what_is_read_give_the_same_history(
    store: EventStore, pipeline: Pipeline, live: Live
) -> None:
    events = [Event(f"e{n}", "new", f"i{n % 7}", "view", 100 - n, float(n)) for n in range(20)]
    store.append_events(events[:8]).result()
    store.append_events(events[8:]).result()
    reading = Live(pipeline, version="v1")
    reading.catch_up(store, 2)
    live.record(events[:8])
    live.record(events[8:])
    assert items_of(live, "new") == items_of(reading, "new")
    assert items_of(live, "new") == [event.item_id for event in reversed(events)]
    reading.close()


def test_people_of_the_bundle_may_be_called_otherwise_in_the_store(pipeline: Pipeline) -> None:
    names = Vocabulary([f"hidden-{user_id}" for user_id in pipeline.users.ids.to_list()])
    live = Live(pipeline, version="v1", users=names)
    assert live.histories.is_user("hidden-u1")
    assert not live.histories.is_user("u1")
    live.forget("hidden-u1")
    assert not live.histories.is_user("hidden-u1")
    live.close()


def test_a_slow_item_of_another_process_holds_up_neither_answers_nor_writers(
    store: EventStore, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process has put an item whose text takes long; this one goes on answering and writing."""
    may_come = threading.Event()
    add_items = Pipeline.add_items

    def slowly(self: Pipeline, *items: Any) -> None:
        assert may_come.wait(30)
        add_items(self, *items)

    monkeypatch.setattr(Pipeline, "add_items", slowly)
    following = Following(store, AskTheLog(), is_shared=True, on_changes=lambda _: None)
    live = Live(pipeline, version="v1")
    following.add(live)
    store.put_item("fresh", {}).result()
    event = Event("e1", "ann", "i1", "view", 1)
    assert following.catch_up()
    assert following.applied == 1
    assert live.histories.item_index("fresh") == PAD
    waiting = threading.Thread(target=live.await_items)
    waiting.start()
    store.append_events(
        [event],
        on_durable=lambda _, position: following.reflect(position, lambda live: live.record([event])),
    ).result(timeout=5)
    assert items_of(live, "ann") == ["i1"]
    may_come.set()
    waiting.join(10)
    assert following.catch_up()
    assert live.histories.item_index("fresh") != PAD
    live.close()
