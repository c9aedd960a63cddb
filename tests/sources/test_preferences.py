"""What histories say about items, against the definition event by event."""

from itertools import groupby

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhiyin.domain import Histories
from zhiyin.sources.preferences import Preferences

WEIGHTS = np.array([1.0, 0.25, 0.0], dtype=np.float32)
"""Purchase, view, and a kind that says nothing."""
N_ITEMS = 5


def histories_of(rows: list[list[tuple[int, int]]]) -> Histories:
    plain = Histories.of_items([np.array([item for item, _ in row], dtype=np.int32) for row in rows])
    kinds = np.array([kind for row in rows for _, kind in row], dtype=np.int16)
    return Histories(plain.offsets, plain.item_index, kinds, plain.timestamp, plain.value)


def slow(row: list[tuple[int, int]], length: int, decay: float) -> list[tuple[int, float]]:
    worth = [(item, WEIGHTS[kind]) for item, kind in row if WEIGHTS[kind] > 0]
    runs = [(item, max(w for _, w in run)) for item, run in groupby(worth, key=lambda pair: pair[0])]
    newest = runs[-length:]
    return [(item, w * decay ** (len(newest) - 1 - place)) for place, (item, w) in enumerate(newest)]


event = st.tuples(st.integers(0, N_ITEMS), st.integers(0, 2))


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(st.lists(event, max_size=7), max_size=4),
    length=st.integers(1, 4),
    decay=st.sampled_from([0.5, 1.0]),
)
def test_sums_and_strongest_equal_the_definition(rows, length, decay):
    read = Preferences.of(histories_of(rows), WEIGHTS, length=length)
    summed, strongest = np.zeros((len(rows), N_ITEMS)), np.zeros((len(rows), N_ITEMS))
    for place, row in enumerate(rows):
        for item, weight in slow(row, length, decay):
            if item < N_ITEMS:  # the last item came after training
                summed[place, item] += weight
                strongest[place, item] = max(strongest[place, item], weight)
    np.testing.assert_allclose(read.summed(N_ITEMS, decay=decay).toarray(), summed, rtol=1e-6)
    np.testing.assert_allclose(read.strongest(N_ITEMS, decay=decay).toarray(), strongest, rtol=1e-6)


@pytest.mark.parametrize("row", [[(0, 1), (0, 0)], [(0, 0), (0, 1)], [(0, 1), (3, 2), (0, 0), (2, 2)]])
def test_a_run_is_worth_its_strongest_event_and_age_passes_over_what_says_nothing(row):
    read = Preferences.of(histories_of([row]), WEIGHTS, length=9)
    assert read.events.item_index.tolist() == [0]
    assert read.aged(0.5).tolist() == [1.0]


def test_weights_have_indices_as_narrow_as_what_they_are_multiplied_with():
    """Otherwise each product would widen a copy of the other matrix, which may be that of the catalogue."""
    preferences = Preferences.of(histories_of([[(0, 0), (2, 0)], [(1, 0)]]), np.ones(1, np.float32), length=5)
    for matrix in (preferences.summed(3), preferences.strongest(3)):
        assert matrix.indices.dtype == matrix.indptr.dtype == np.int32
