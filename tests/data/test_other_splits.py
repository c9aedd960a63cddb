"""Splits by time, by user, by cold items and cold users: what must be foretold is never learned from."""

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from zhiyin.data.dataset import Dataset
from zhiyin.data.reading import read_dataset
from zhiyin.data.splits import by_time, by_user, cold_items, cold_users, leave_last_out
from zhiyin.domain import NO_TIMESTAMP, PAD, Catalogue, Histories, Vocabulary
from zhiyin.domain.errors import DataError

N_ITEMS = 30


def world(rows: list[list[tuple[int, int]]]) -> Dataset:
    """Users with (time, item) events; context ``at`` is the position in the flat events."""
    rows = [sorted(row) for row in rows]
    histories = Histories.of_items([np.array([item for _, item in row], dtype=np.int32) for row in rows])
    times = np.array([time for row in rows for time, _ in row], dtype=np.int64)
    histories = Histories(
        histories.offsets, histories.item_index, histories.event_index, times, histories.value
    )
    return Dataset(
        "world",
        Catalogue.from_table(pl.DataFrame({"item_id": [f"i{i}" for i in range(N_ITEMS)]})),
        Vocabulary([f"u{u}" for u in range(len(rows))]),
        histories,
        context={"at": pl.Series(np.arange(histories.n_events))},
    )


users = st.lists(
    st.lists(st.tuples(st.integers(0, 1000), st.integers(0, N_ITEMS - 1)), max_size=8),
    min_size=6,
    max_size=20,
)


def items_of(histories, row):
    return histories.item_index[histories.offsets[row] : histories.offsets[row + 1]].tolist()


@given(users)
def test_by_time_learns_only_from_before_the_first_target(rows):
    dataset = world(rows)
    assume(dataset.n_interactions)
    try:
        split = by_time(dataset, validation_share=0.2, test_share=0.2)
    except DataError:
        assume(False)
    times = dataset.histories.timestamp
    first = min(split.validation.queries.timestamp.min(initial=2000), split.test.queries.timestamp.min())
    assert (split.train.histories.timestamp < first).all()
    last_validation = [
        times[at : at + n].max()
        for at, n in zip(
            split.validation.queries.context["at"], split.validation.targets.lengths, strict=True
        )
    ]
    assert max(last_validation, default=0) < split.test.queries.timestamp.min()
    n_targets = len(split.validation.targets.values) + len(split.test.targets.values)
    assert split.train.n_interactions + n_targets == dataset.n_interactions


@given(users)
def test_by_time_knows_everything_before_the_first_target_of_a_user(rows):
    dataset = world(rows)
    assume(dataset.n_interactions)
    try:
        split = by_time(dataset, validation_share=0.2, test_share=0.2)
    except DataError:
        assume(False)
    for examples in (split.validation, split.test):
        assert (np.diff(examples.queries.user_index) > 0).all()
        for b, user in enumerate(examples.queries.user_index):
            known, targets = items_of(examples.queries.histories, b), examples.targets.row(b).tolist()
            assert (known + targets) == items_of(dataset.histories, user)[: len(known) + len(targets)]
            assert targets


@given(users, st.integers(0, 5))
def test_held_back_users_are_strangers(rows, seed):
    dataset = world(rows)
    assume((dataset.histories.lengths >= 2).sum() >= 6)
    split = by_user(dataset, validation_share=0.3, test_share=0.3, seed=seed)
    owner = dataset.histories.row_of_event
    held = []
    for examples in (split.validation, split.test):
        assert (examples.queries.user_index == PAD).all()
        of_users = owner[examples.queries.context["at"].astype(np.int64)]
        held += of_users.tolist()
        for b, user in enumerate(of_users):
            everything = items_of(dataset.histories, user)
            last_new = max(t for t, item in enumerate(everything) if item not in everything[:t])
            assert items_of(examples.queries.histories, b) == everything[:last_new]
            assert examples.targets.row(b).tolist() == [everything[last_new]]
    assert len(set(held)) == len(held)
    expected = np.where(np.isin(np.arange(len(rows)), held), 0, dataset.histories.lengths)
    assert split.train.histories.lengths.tolist() == expected.tolist()


@given(users, st.integers(0, 5))
def test_cold_users_are_strangers_whose_history_grows(rows, seed):
    dataset = world(rows)
    met = [list(dict.fromkeys(items_of(dataset.histories, user))) for user in range(len(rows))]
    assume(sum(len(items) > 2 for items in met) >= 6)
    split = cold_users(dataset, n_known=(0, 2, 1), validation_share=0.3, test_share=0.3, seed=seed)
    owner = dataset.histories.row_of_event
    assert list(split.steps) == [0, 1, 2]
    assert split.steps[0] is split.test
    asked = {n: owner[part.queries.context["at"].astype(np.int64)] for n, part in split.steps.items()}
    assert asked[0].tolist() == asked[1].tolist() == asked[2].tolist(), "the same users at every step"
    for n, examples in split.steps.items():
        assert (examples.queries.user_index == PAD).all()
        for b, user in enumerate(asked[n]):
            known = items_of(examples.queries.histories, b)
            assert list(dict.fromkeys(known)) == met[user][:n]
            assert items_of(dataset.histories, user)[: len(known)] == known
            assert examples.targets.row(b).tolist() == [met[user][n]]
    validation = owner[split.validation.queries.context["at"].astype(np.int64)]
    held = {*asked[0].tolist(), *validation.tolist()}
    assert len(held) == len(asked[0]) + len(validation)
    expected = np.where(np.isin(np.arange(len(rows)), list(held)), 0, dataset.histories.lengths)
    assert split.train.histories.lengths.tolist() == expected.tolist()


@given(users, st.integers(0, 5))
def test_cold_items_are_nowhere_but_among_the_test_targets(rows, seed):
    dataset = world(rows)
    plain = leave_last_out(dataset)
    assume(len(np.unique(plain.test.targets.values)) >= 4)
    split = cold_items(dataset, test_share=0.5, seed=seed)
    cold = set(np.unique(split.test.targets.values).tolist())
    everybody = split.everybody
    for known in (split.train.histories, split.validation.queries.histories, everybody.queries.histories):
        assert not cold & set(known.item_index.tolist())
    assert not cold & set(split.validation.targets.values.tolist())
    assert set(split.test.queries.user_index) <= set(everybody.queries.user_index)
    asked = dict(zip(plain.test.queries.user_index.tolist(), plain.test.targets.values.tolist(), strict=True))
    told = zip(everybody.queries.user_index.tolist(), everybody.targets.values.tolist(), strict=True)
    assert all(asked[user] == target for user, target in told), "the same targets as leave-last-out has"
    users_of_cold = [
        user
        for user, target in zip(everybody.queries.user_index, everybody.targets.values, strict=True)
        if target in cold
    ]
    assert split.test.queries.user_index.tolist() == users_of_cold
    for b, user in enumerate(everybody.queries.user_index):
        at = int(everybody.queries.context["at"][b])
        before = dataset.histories.item_index[dataset.histories.offsets[user] : at].tolist()
        drawn = set(before) - set(items_of(everybody.queries.histories, b))
        assert items_of(everybody.queries.histories, b) == [item for item in before if item not in drawn]
        assert not drawn & set(split.train.histories.item_index.tolist())


@pytest.mark.parametrize("split", [by_user, cold_users, cold_items])
def test_a_seed_decides_the_draw(split):
    rows = [[(t, (t * u) % N_ITEMS) for t in range(14)] for u in range(1, 60)]
    draws = [split(world(rows), seed=seed).test.queries.context["at"].tolist() for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_what_cannot_be_split_says_why():
    timeless = world([[(NO_TIMESTAMP, 1), (NO_TIMESTAMP, 2)]] * 4)
    with pytest.raises(DataError, match="has no timestamps, so it cannot be split by time"):
        by_time(timeless)
    with pytest.raises(DataError, match="too many events happened at the same moment"):
        by_time(world([[(5, 1), (5, 2)]] * 4))
    with pytest.raises(DataError, match="Each lies between 0 and 1, and so does their sum"):
        by_user(timeless, validation_share=0.6, test_share=0.6)
    with pytest.raises(
        DataError, match="There are 1 users who met two different items, too few to hold back 1 and 1"
    ):
        by_user(world([[(1, 1), (2, 2)]]))


def test_events_without_a_time_stay_with_the_one_before():
    rows = [[(time, time % N_ITEMS) for time in range(10)], [(3, 1), (8, 2), (9, 3)]]
    dataset = world(rows)
    times = dataset.histories.timestamp.copy()
    times[11] = NO_TIMESTAMP
    histories = Histories(
        dataset.histories.offsets,
        dataset.histories.item_index,
        dataset.histories.event_index,
        times,
        dataset.histories.value,
    )
    split = by_time(Dataset("w", dataset.catalogue, dataset.users, histories), test_share=0.2)
    assert items_of(split.train.histories, 1) == [1, 2]


@pytest.mark.real_data
def test_cold_items_of_beauty_are_as_many_as_asked_for(real_data):
    dataset = read_dataset(real_data / "amazon-beauty")
    split = cold_items(dataset)
    assert len(np.unique(split.test.targets.values)) == 415
    assert split.everybody is not None
    assert 900 < len(split.test) < 1300
    assert len(split.everybody) > 22_000
    time_split = by_time(dataset)
    assert time_split.train.n_interactions == pytest.approx(198_502 * 0.8, rel=0.01)
    assert all(
        a.queries.timestamp.min() <= b.queries.timestamp.min()
        for a, b in pairwise([time_split.validation, time_split.test])
    )
