"""Counting the events of items, as they come."""

import numpy as np

from zhiyin.contracts import Steps
from zhiyin.domain import Candidates, Histories
from zhiyin.policy.item_counts import N_EVENTS, ItemCounts


def steps(*items: int) -> Steps:
    n = len(items)
    return Steps(Histories.empty(n), np.array(items, np.int32), np.zeros(n, np.int16), np.zeros(n, np.int64))


def of(counts: ItemCounts, *items: int) -> list[float]:
    asked = np.array([items], dtype=np.int32)
    beside = counts.beside(Candidates(asked, {"score": np.zeros(asked.shape, dtype=np.float32)}))
    return beside.column(N_EVENTS)[0].tolist()


def test_items_beyond_and_padding_have_none():
    counts = ItemCounts(np.array([5, 7]))
    assert of(counts, 1, 0, 2, 900, -1) == [7, 5, 0, 0, 0]
    assert of(ItemCounts(), 0, -1) == [0, 0]


def test_events_are_counted_each_and_on_items_that_came_later():
    counts = ItemCounts(np.array([5, 7]))
    counts.absorb(steps())
    counts.absorb(steps(1, -1, 1, 4))
    assert of(counts, 0, 1, 2, 3, 4, 5, -1) == [5, 9, 0, 0, 1, 0, 0]


def test_a_twin_counts_apart():
    counts = ItemCounts(np.array([5, 7]))
    twin = counts.twin()
    counts.absorb(steps(0))
    twin.absorb(steps(1))
    assert of(counts, 0, 1) == [6, 7]
    assert of(twin, 0, 1) == [5, 8]


def test_more_events_than_some_number():
    counts = ItemCounts(np.array([5, 7, 6]))
    assert counts.exceed(5, n_items=2).tolist() == [False, True]
    assert counts.exceed(5, n_items=5).tolist() == [False, True, True, False, False]


def test_counts_survive_their_state():
    counts = ItemCounts(np.array([5, 7]))
    restored = ItemCounts.from_state(counts.state())
    counts.absorb(steps(0))
    assert of(restored, 0, 1, 2) == [5, 7, 0]
