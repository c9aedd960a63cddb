"""Shuffling events of equal time."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiyin.data.dataset import Dataset
from zhiyin.data.splits import leave_last_out
from zhiyin.data.ties import are_tied, shuffled_ties
from zhiyin.domain import NO_TIMESTAMP, Catalogue, Histories, Vocabulary
from zhiyin.domain.arrays import offsets_of
from zhiyin.domain.errors import RequestError

NEVER = NO_TIMESTAMP


def dataset_of(times: list[list[int]]) -> Dataset:
    """Users whose events have these times; each event its own item, value and context."""
    n = sum(map(len, times))
    histories = Histories(
        offsets_of(np.array([len(row) for row in times])),
        np.arange(n, dtype=np.int32),
        (np.arange(n) % 3).astype(np.int16),
        np.array([moment for row in times for moment in row], dtype=np.int64),
        np.arange(n).astype(np.float32) / 2,
    )
    catalogue = Catalogue.from_table(pl.DataFrame({"item_id": [f"i{item}" for item in range(n)]}))
    users = Vocabulary([f"u{user}" for user in range(len(times))])
    kinds = ("a", "b", "c")
    weights = np.ones(3, dtype=np.float32)
    context = {"hour": pl.Series("hour", np.arange(n))}
    return Dataset("days", catalogue, users, histories, kinds, weights, context=context)


moments = st.lists(st.lists(st.sampled_from([NEVER, 1, 2]), max_size=6).map(sorted), min_size=1, max_size=5)


@given(moments, st.integers(0, 5))
def test_events_move_whole_and_only_within_their_moment(times, seed):
    dataset = dataset_of(times)
    if not dataset.has_timestamps:
        with pytest.raises(RequestError, match="no time stamps"):
            shuffled_ties(dataset, seed=seed)
        return
    before, after = dataset.histories, shuffled_ties(dataset, seed=seed).histories
    np.testing.assert_array_equal(after.timestamp, before.timestamp)
    np.testing.assert_array_equal(after.offsets, before.offsets)
    moved = after.item_index
    np.testing.assert_array_equal(np.sort(moved), before.item_index)
    np.testing.assert_array_equal(after.event_index, before.event_index[moved])
    np.testing.assert_array_equal(after.value, before.value[moved])
    np.testing.assert_array_equal(before.timestamp[moved], before.timestamp)
    np.testing.assert_array_equal(before.row_of_event[moved], before.row_of_event)
    hours = shuffled_ties(dataset, seed=seed).context["hour"].to_numpy()
    np.testing.assert_array_equal(hours, moved)
    still = ~are_tied(before)
    np.testing.assert_array_equal(moved[still], before.item_index[still])


def test_events_without_a_time_stay_where_they_are():
    dataset = dataset_of([[5, NEVER, 5, 5, NEVER]])
    assert are_tied(dataset.histories).tolist() == [False, False, True, True, False]
    orders = {tuple(shuffled_ties(dataset, seed=seed).histories.item_index.tolist()) for seed in range(20)}
    assert orders == {(0, 1, 2, 3, 4), (0, 1, 3, 2, 4)}


def test_every_order_of_a_day_is_as_probable_and_a_seed_names_one():
    dataset = dataset_of([[1, 2, 2, 2]] * 3000)
    first, again, other = (shuffled_ties(dataset, seed=seed).histories.item_index for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    orders = first.reshape(-1, 4) - 4 * np.arange(3000)[:, None]
    assert (orders[:, 0] == 0).all()
    seen = np.unique(orders, axis=0, return_counts=True)[1]
    assert len(seen) == 6
    assert seen.min() > 400


def test_the_last_of_a_day_is_another_target_then():
    """Two thirds of the users whose last day holds three items have another test target."""
    dataset = dataset_of([[1, 2, 3, 3, 3]] * 3000)
    targets = [leave_last_out(data).test.targets.values for data in (dataset, shuffled_ties(dataset, seed=4))]
    assert (targets[0] != targets[1]).mean() == pytest.approx(2 / 3, abs=0.03)
