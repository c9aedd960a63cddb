"""Small things that the faults brought to light, each by itself."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import polars as pl

from zhiyin.data.kinds import EventKinds
from zhiyin.domain import Histories, Vocabulary
from zhiyin.online.held import Held
from zhiyin.online.histories import LiveHistories


def histories_until(newest: int) -> LiveHistories:
    """One user with one event that the bundle remembers."""
    base = Histories(
        np.array([0, 1]),
        np.zeros(1, dtype=np.int32),
        np.zeros(1, dtype=np.int16),
        np.array([newest]),
        np.ones(1, dtype=np.float32),
    )
    return LiveHistories(Vocabulary(["u"]), base, EventKinds(["view"], base), ["i"])


def test_the_newest_moment_counts_what_the_bundle_remembers() -> None:
    # A bundle that learned the whole log leaves no later event to tell how far the clock had come.
    histories = histories_until(1_000)
    assert histories.newest_timestamp() == 1_000
    histories.record_batch(
        pl.DataFrame(
            {
                "sequence": [1],
                "user_id": ["u"],
                "item_id": ["i"],
                "event": ["view"],
                "timestamp": [1_500],
                "value": pl.Series([None], dtype=pl.Float32),
            }
        )
    )
    assert histories.newest_timestamp() == 1_500


def test_what_needs_no_wait_is_called_at_once_and_in_the_same_thread() -> None:
    called: list[threading.Thread] = []
    Held().call(lambda: called.append(threading.current_thread()), after_seconds=0.0)
    assert called == [threading.current_thread()]


def test_what_must_wait_is_called_in_order_and_not_before_its_time() -> None:
    held, order, done = Held(), [], threading.Event()
    began = time.monotonic()

    def note(number: int) -> None:
        order.append((number, time.monotonic() - began))
        if number == 19:
            done.set()

    with ThreadPoolExecutor(1) as pool:
        pool.map(lambda number: held.call(lambda: note(number), after_seconds=0.1), range(20))
    assert done.wait(10)
    assert [number for number, _ in order] == list(range(20))
    assert min(seconds for _, seconds in order) >= 0.1
