"""Splits: nothing that must be foretold is in what may be learned from."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiyin.data.dataset import Dataset
from zhiyin.data.reading import read_dataset
from zhiyin.data.splits import leave_last_out
from zhiyin.domain import Catalogue, Histories, Vocabulary

N_ITEMS = 7


def dataset_of(rows: list[list[int]]) -> Dataset:
    histories = Histories.of_items([np.array(row, dtype=np.int32) for row in rows])
    histories = Histories(
        histories.offsets,
        histories.item_index,
        histories.event_index,
        np.arange(histories.n_events, dtype=np.int64) * 10,
        histories.value,
    )
    return Dataset(
        "world",
        Catalogue.from_table(pl.DataFrame({"item_id": [f"i{i}" for i in range(N_ITEMS)]})),
        Vocabulary([f"u{u}" for u in range(len(rows))]),
        histories,
        context={"hour": pl.Series(np.arange(histories.n_events))},
    )


histories_of_users = st.lists(st.lists(st.integers(0, N_ITEMS - 1), max_size=9), min_size=1, max_size=12)


@given(histories_of_users)
def test_leave_last_out_equals_its_definition(rows):
    split = leave_last_out(dataset_of(rows), repeat=True)
    held = [u for u, row in enumerate(rows) if len(row) >= 3]

    for u, row in enumerate(rows):
        start, stop = split.train.histories.offsets[u : u + 2]
        assert split.train.histories.item_index[start:stop].tolist() == (row[:-2] if u in held else row)
    for examples, n_after in ((split.validation, 2), (split.test, 1)):
        assert examples.queries.user_index.tolist() == held
        for b, u in enumerate(held):
            start, stop = examples.queries.histories.offsets[b : b + 2]
            assert examples.queries.histories.item_index[start:stop].tolist() == rows[u][:-n_after]
            assert examples.targets.row(b).tolist() == [rows[u][-n_after]]


@given(histories_of_users)
def test_without_repeats_only_items_new_to_the_user_are_targets(rows):
    split = leave_last_out(dataset_of(rows))
    firsts = [[t for t, item in enumerate(row) if item not in row[:t]] for row in rows]
    held = [u for u, places in enumerate(firsts) if len(places) >= 3]

    for u, row in enumerate(rows):
        start, stop = split.train.histories.offsets[u : u + 2]
        known = row[: firsts[u][-2]] if u in held else row
        assert split.train.histories.item_index[start:stop].tolist() == known
    for examples, n_after in ((split.validation, 2), (split.test, 1)):
        assert examples.queries.user_index.tolist() == held
        for b, u in enumerate(held):
            place = firsts[u][-n_after]
            start, stop = examples.queries.histories.offsets[b : b + 2]
            assert examples.queries.histories.item_index[start:stop].tolist() == rows[u][:place]
            assert examples.targets.row(b).tolist() == [rows[u][place]]


@given(histories_of_users)
def test_time_and_context_of_a_query_are_those_of_its_target(rows):
    dataset = dataset_of(rows)
    split = leave_last_out(dataset)
    for examples in (split.validation, split.test):
        assert (examples.queries.timestamp == examples.queries.context["hour"] * 10).all()
        at = examples.queries.context["hour"].astype(int)
        assert (dataset.histories.item_index[at] == examples.targets.values).all()


@pytest.mark.real_data
def test_beauty_is_split_as_the_field_splits_it(real_data):
    dataset = read_dataset(real_data / "amazon-beauty")
    assert (dataset.n_users, dataset.n_items, dataset.n_interactions) == (22_363, 12_101, 198_502)
    split = leave_last_out(dataset)
    assert len(split.test) == len(split.validation) == 22_363
    unseen = split.train.item_counts[split.test.targets.values] == 0
    assert unseen.sum() == 138
