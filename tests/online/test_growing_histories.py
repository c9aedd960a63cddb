"""Growing rows equal the plain lists they stand for, and stay small."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from zhiyin.online.growing import GrowingHistories


def append(live: GrowingHistories, rows: list[int], items: list[int]) -> None:
    items_ = np.array(items, dtype=np.int32)
    live.append(
        np.array(rows, dtype=np.int64),
        items_,
        (items_ % 7).astype(np.int16),
        items_.astype(np.int64) * 10,
        items_.astype(np.float32) / 2,
    )


STEPS = st.lists(
    st.one_of(
        st.lists(st.tuples(st.integers(0, 5), st.integers(0, 99)), max_size=12),
        st.integers(0, 5),
    ),
    max_size=30,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_rows_equal_plain_lists(steps: list) -> None:
    live, plain = GrowingHistories(), [[] for _ in range(6)]
    live.new_rows(6)
    for step in steps:
        if isinstance(step, int):
            live.clear(step)
            plain[step] = []
            continue
        append(live, [row for row, _ in step], [item for _, item in step])
        for row, item in step:
            plain[row].append(item)
    for row, expected in enumerate(plain):
        items, events, timestamps, values = live.row(row)
        assert items.tolist() == expected
        assert events.tolist() == [item % 7 for item in expected]
        assert timestamps.tolist() == [item * 10 for item in expected]
        assert values.tolist() == [item / 2 for item in expected]
    assert live.n_events == sum(map(len, plain))


def test_many_users_and_events_stay_small() -> None:
    live = GrowingHistories()
    rng = np.random.default_rng(0)
    plain: dict[int, list[int]] = {}
    n_events = 0
    for _ in range(60):
        live.new_rows(50)
        rows = (len(live) * rng.random(3_000) ** 3).astype(np.int64)
        items = rng.integers(0, 1_000, 3_000)
        append(live, rows.tolist(), items.tolist())
        n_events += 3_000
        for row, item in zip(rows.tolist(), items.tolist(), strict=True):
            plain.setdefault(row, []).append(item)
    assert live.n_events == n_events
    for row in rng.choice(list(plain), 200):
        assert live.row(row)[0].tolist() == plain[row]
    assert live.n_bytes < 5 * 18 * n_events


UNLIKELY = 1_987_654_321
"""An item that memory which was never written does not hold by chance."""


def test_what_was_cleared_is_overwritten() -> None:
    live = GrowingHistories()
    live.new_rows(1)
    append(live, [0] * 5, [UNLIKELY] * 5)
    live.clear(0)
    assert not (live._pool["item"] == UNLIKELY).any()
    assert live.row(0)[0].tolist() == []


@given(rows=st.lists(st.integers(0, 3), max_size=60))
def test_one_by_one_is_the_same_as_together(rows: list[int]) -> None:
    together, one_by_one = GrowingHistories(), GrowingHistories()
    together.new_rows(4), one_by_one.new_rows(4)
    said = np.arange(len(rows))
    expected = together.append(
        np.array(rows, dtype=np.int64),
        said.astype(np.int32),
        (said % 7).astype(np.int16),
        said * 10,
        (said / 2).astype(np.float32),
    )
    places = [one_by_one.append_one(row, n, n % 7, n * 10, n / 2) for n, row in enumerate(rows)]
    assert places == expected.tolist()
    assert one_by_one.newest_timestamp() == together.newest_timestamp()
    for row in range(4):
        for found, wanted in zip(one_by_one.row(row), together.row(row), strict=True):
            np.testing.assert_array_equal(found, wanted)
