"""Events without a time get that of their arrival, whatever others claimed and over restarts."""

import time
from pathlib import Path

import pytest

from zhiyin.online.clock import Claims
from zhiyin.online.engine import LiveEngine
from zhiyin.online.versions import Loaded
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.stores.events import EventStore
from zhiyin.stores.opening import open_database
from zhiyin.stores.records import Event

HOUR = 3_600


def until_written(store: EventStore) -> None:
    """Wait for what was handed over: writes are made in their order."""
    store.put_document("nothing", "nothing", {}).result()


def clock_after(pipeline: Pipeline, folder: Path, *ahead: int) -> float:
    """Send an event for each number of seconds ahead, start anew, and say how far ahead the clock is."""
    database = open_database(f"sqlite:///{folder}/store.db")
    for number in range(2):
        engine = LiveEngine(Loaded(pipeline, "v"), database.store())
        try:
            if number:
                return engine.clock.now() - time.time()
            for place, seconds in enumerate(ahead):
                moment = int(time.time()) + seconds
                engine.intake.accept([Event(f"e{place}", "u1", "i1", "view", moment)]).result()
            until_written(database.store())
        finally:
            engine.close()
    raise AssertionError


@pytest.mark.parametrize("ahead", [(8 * HOUR,), (8 * HOUR, 0), (5, 86_000, 8 * HOUR)])
def test_a_sender_ahead_of_its_time_moves_nobody_elses(
    pipeline: Pipeline, tmp_path: Path, ahead: tuple[int, ...]
) -> None:
    assert abs(clock_after(pipeline, tmp_path, *ahead)) < 30


def test_a_clock_that_was_set_back_stands_still(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = open_database(f"sqlite:///{tmp_path}/store.db")
    first = LiveEngine(Loaded(pipeline, "v"), database.store())
    arrived = first.clock.now()
    first.intake.accept([Event("e", "u1", "i1", "view", arrived)]).result()
    first.close()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 2 * HOUR)
    monkeypatch.setattr("zhiyin.online.clock.ArrivalClock.__init__.__defaults__", (0, time.time))
    second = LiveEngine(Loaded(pipeline, "v"), database.store())
    assert second.clock.now() >= arrived
    second.close()


def test_a_smaller_claim_of_another_process_hides_no_larger_one(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path}/store.db")
    store, now = database.store(), int(time.time())
    one, other = Claims(store), Claims(store)
    one.take([now + 5 * HOUR], now)
    until_written(store)
    other.hear(store.changes_after(0).documents)
    other.take([now + HOUR], now)
    until_written(store)
    assert Claims(store).newest_arrival(now + 5 * HOUR) == now
    database.close()
