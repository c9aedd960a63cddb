"""Steps that wait until they are counted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiyin.contracts import Steps
from zhiyin.domain import Histories
from zhiyin.sources.waiting_steps import WaitingSteps, columns_of


def steps_of(first: int, n: int) -> Steps:
    index = np.arange(first, first + n)
    return Steps(Histories.empty(n), index.astype(np.int32), (index % 2).astype(np.int16), 10 * index)


@given(st.lists(st.integers(0, 7), max_size=12), st.sampled_from([10, 3000, 5999]))
def test_every_thousandth_of_the_items_is_due_in_whatever_portions_they_come(portions, n_items):
    every = max(1, n_items // 1000)
    waiting, counted = WaitingSteps(), []
    for portion in portions:
        due, waiting = waiting.plus(steps_of(waiting.n_absorbed, portion), n_items=n_items)
        counted += [item for steps in due for item in steps.item_index.tolist()]
        held = [item for steps in waiting.portions for item in steps.item_index.tolist()]
        assert len(counted) == waiting.n_absorbed // every * every
        assert counted + held == list(range(waiting.n_absorbed))
    assert waiting.n_absorbed == sum(portions)
    assert waiting.emptied().n_absorbed == waiting.n_absorbed
    assert waiting.emptied().portions == ()


def test_columns_stand_in_the_order_of_the_portions():
    items, weights, moments = columns_of((steps_of(0, 2), steps_of(2, 1)), np.float32([1.0, 3.0]))
    assert (items.tolist(), moments.tolist()) == ([0, 1, 2], [0, 10, 20])
    assert weights.tolist() == pytest.approx([1.0, 3.0, 1.0])
