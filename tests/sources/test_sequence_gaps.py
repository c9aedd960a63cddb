"""The time between events, as the transformer reads it."""

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiyin.contracts import TrainingData
from zhiyin.domain import NO_TIMESTAMP, Histories, Queries
from zhiyin.sources.sequence.gaps import (
    UNKNOWN_GAP,
    gap_kinds,
    gaps_of_events,
    gaps_until,
    some_hidden,
)
from zhiyin.sources.sequence.source import SequenceTransformer
from zhiyin.testing.worlds import checkerboard

DAY = 86_400


def histories_of(*rows):
    """Rows of (item, moment) pairs."""
    made = Histories.of_items([np.array([item for item, _ in row], dtype=np.int32) for row in rows])
    moments = np.array([moment for row in rows for _, moment in row], dtype=np.int64)
    return Histories(made.offsets, made.item_index, made.event_index, moments, made.value)


def test_gaps_grow_with_the_logarithm_of_seconds():
    before = np.zeros(7, dtype=np.int64)
    after = np.array([0, 1, 3, 60, DAY, 365 * DAY, 10**12])
    assert gap_kinds(before, after).tolist() == [0, 2, 4, 11, 32, 49, UNKNOWN_GAP - 1]


@given(st.lists(st.integers(0, 2**40), min_size=2, max_size=9))
def test_a_longer_gap_is_never_a_smaller_kind(seconds):
    kinds = gap_kinds(np.zeros(len(seconds), dtype=np.int64), np.sort(np.array(seconds)))
    assert (np.diff(kinds) >= 0).all()
    assert kinds.max() < UNKNOWN_GAP


def test_times_that_run_backwards_or_are_not_there():
    nothing = NO_TIMESTAMP
    before, after = np.array([9, nothing, 9, nothing]), np.array([5, 5, nothing, nothing])
    assert gap_kinds(before, after).tolist() == [0, UNKNOWN_GAP, UNKNOWN_GAP, UNKNOWN_GAP]


def test_a_gap_never_reaches_into_the_next_history():
    histories = histories_of([(0, 0), (1, 3)], [], [(2, 100)], [(3, 0), (4, 1), (5, 1)])
    unknown = UNKNOWN_GAP
    assert gaps_of_events(histories).tolist() == [4, unknown, unknown, 2, 0, unknown]


def test_the_newest_event_looks_at_the_request():
    histories = histories_of([(0, 0), (1, 3)], [(2, 100)])
    assert gaps_until(histories, np.array([4, 100 + DAY])).tolist() == [4, 2, 32]
    now = int(time.time())
    asked_now = gaps_until(histories_of([(0, now - 3)]), np.array([NO_TIMESTAMP]))
    assert asked_now.tolist() in ([4], [5])


def test_about_a_tenth_is_hidden():
    gaps = np.zeros(20_000, dtype=np.int8)
    hidden = some_hidden(gaps, np.random.default_rng(0))
    assert set(hidden.tolist()) == {0, UNKNOWN_GAP}
    assert (hidden == UNKNOWN_GAP).mean() == pytest.approx(0.1, abs=0.01)


def late_or_soon(**settings):
    """After any item comes item 0 within the hour and item 1 after a month: nothing else tells them apart."""
    random = np.random.default_rng(0)
    rows = []
    for _ in range(300):
        late = random.integers(0, 2)
        gap = 30 * DAY if late else 600
        rows.append([(int(random.integers(2, 6)), 1000), (int(late), 1000 + gap)])
    histories = histories_of(*rows)
    source = SequenceTransformer(
        dimension=16,
        training={"max_epochs": 25, "epochs_without_validation": 25, "learning_rate": 0.01, "devices": "cpu"},
        **settings,
    )
    world = checkerboard(n_users=300, n_items=6)
    dataset = replace(world.training.dataset, histories=histories)
    source.fit(TrainingData(dataset, world.training.language))
    known = histories_of([(3, 1000)], [(3, 1000)])
    queries = Queries(np.array([0, 1], dtype=np.int32), known, np.array([1000 + 600, 1000 + 30 * DAY]))
    return source.score_all(queries)


def test_what_follows_depends_on_the_time_that_has_passed():
    scores = late_or_soon()
    assert scores[0, 0] > scores[0, 1]
    assert scores[1, 1] > scores[1, 0]


def test_without_gaps_the_time_changes_nothing():
    soon, late = late_or_soon(use_gaps=False)
    np.testing.assert_array_equal(soon, late)
