"""Parts drawn at random."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from zhiyin.data.dataset import Dataset
from zhiyin.data.labelled import LabelledExamples, LabelRule, labelled_examples
from zhiyin.data.random_parts import split_at_random
from zhiyin.domain import NO_TIMESTAMP, Catalogue, Histories, Vocabulary
from zhiyin.domain.errors import DataError


def rated(n_users: int = 20, n_each: int = 15) -> LabelledExamples:
    n = n_users * n_each
    item = np.concatenate([np.random.default_rng(user).permutation(40)[:n_each] for user in range(n_users)])
    dataset = Dataset(
        name="rated",
        catalogue=Catalogue.from_table(pl.DataFrame({"item_id": [str(place) for place in range(40)]})),
        users=Vocabulary([str(place) for place in range(n_users)]),
        histories=Histories(
            np.arange(n_users + 1) * n_each,
            item.astype(np.int32),
            np.zeros(n, dtype=np.int16),
            np.full(n, NO_TIMESTAMP),
            np.arange(n, dtype=np.float32),
        ),
    )
    return labelled_examples(dataset, {"rating": LabelRule("value")})


def test_each_row_is_tested_in_one_part():
    parts = [split_at_random(rated(), n_parts=5, tested=tested) for tested in range(5)]
    in_test = np.concatenate([part.test.labels[:, 0] for part in parts])
    assert sorted(in_test) == list(range(300))
    for part in parts:
        held = [part.train.labels[:, 0], part.validation.labels[:, 0], part.test.labels[:, 0]]
        assert sorted(np.concatenate(held)) == list(range(300))


def test_only_rows_to_learn_from_are_known_and_each_finds_itself():
    split = split_at_random(rated(), n_parts=5, tested=2)
    train, test = split.train, split.test
    assert sorted(train.events.value) == sorted(train.labels[:, 0])
    own = train.events.offsets[:-1][train.user_index] + train.n_earlier
    np.testing.assert_array_equal(train.events.value[own], train.labels[:, 0])
    np.testing.assert_array_equal(train.n_known, train.events.lengths[train.user_index])
    # Values rise with time: so many known ones of the same user are smaller.
    for row in range(len(test)):
        known = test.events.row(int(test.user_index[row])).value
        assert (known < test.labels[row, 0]).sum() == test.n_earlier[row]
    assert len(test.take(np.array([3, 1])).n_earlier) == 2


def test_without_a_share_to_choose_by_the_test_takes_its_place():
    split = split_at_random(rated(), n_parts=5, tested=0, validation=0.0)
    assert len(split.train) == 240
    np.testing.assert_array_equal(split.validation.labels, split.test.labels)


def test_wrong_parts_are_named():
    with pytest.raises(DataError, match="no part 5 of 5"):
        split_at_random(rated(), n_parts=5, tested=5)
    with pytest.raises(DataError, match="one row for each event"):
        split_at_random(rated().take(np.arange(7)), n_parts=5, tested=0)
