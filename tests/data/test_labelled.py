"""Labels, what was known before them, and how rows are divided."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from zhiyin.data.dataset import Dataset
from zhiyin.data.labelled import (
    LabelRule,
    labelled_examples,
    next_items,
    split_by_column,
    split_by_time,
)
from zhiyin.domain import NO_TIMESTAMP, Catalogue, Histories, Vocabulary
from zhiyin.domain.errors import DataError


def shop() -> Dataset:
    """Two users: five ratings and two."""
    item = np.array([0, 1, 2, 0, 3, 1, 3], dtype=np.int32)
    return Dataset(
        name="shop",
        catalogue=Catalogue.from_table(pl.DataFrame({"item_id": list("abcd")})),
        users=Vocabulary(["u", "v"]),
        histories=Histories(
            np.array([0, 5, 7]),
            item,
            np.array([0, 1, 0, 0, 1, 0, 1], dtype=np.int16),
            np.array([10, 20, 30, 40, 50, 15, 25]),
            np.array([5, 3, np.nan, 4, 1, 2, 4], dtype=np.float32),
        ),
        event_kinds=("view", "buy"),
        context={"part": pl.Series(["train", "train", "train", "val", "test", "train", "TEST"])},
        positive_value=3.0,
    )


def test_a_label_is_a_number_a_bound_or_a_word() -> None:
    rules = {
        "rating": LabelRule("value"),
        "liked": LabelRule("value", yes_from=4),
        "bought": LabelRule("event", yes_words=("buy",)),
    }
    examples = labelled_examples(shop(), rules)
    np.testing.assert_array_equal(examples.labels[:, 0], [5, 3, np.nan, 4, 1, 2, 4])
    np.testing.assert_array_equal(examples.labels[:, 1], [1, 0, np.nan, 1, 0, 0, 1])
    np.testing.assert_array_equal(examples.labels[:, 2], [0, 1, 0, 0, 1, 0, 1])


def test_rows_without_any_label_are_left_out() -> None:
    examples = labelled_examples(shop(), {"rating": LabelRule("value")})
    assert len(examples) == 6
    assert examples.item_index.tolist() == [0, 1, 0, 3, 1, 3]


def test_a_history_holds_what_came_before_and_nothing_else() -> None:
    examples = labelled_examples(shop(), {"bought": LabelRule("event", yes_words=("buy",))})
    histories = examples.histories()
    assert histories.lengths.tolist() == [0, 1, 2, 3, 4, 0, 1]
    assert histories.row(4).item_index.tolist() == [0, 1, 2, 0]
    newest = examples.take(np.array([4, 6])).histories(newest=2)
    assert newest.row(0).item_index.tolist() == [2, 0]
    assert newest.row(1).item_index.tolist() == [1]


def test_impressions_know_only_older_events() -> None:
    shown = pl.DataFrame(
        {
            "user_id": ["v", "u", "u", "stranger"],
            "item_id": ["a", "d", "b", "a"],
            "timestamp": [25, 35, 5, 1],
            "clicked": [True, False, True, True],
        }
    )
    examples = labelled_examples(replace(shop(), impressions=shown), {"click": LabelRule("clicked")})
    assert examples.timestamp.tolist() == [5, 25, 35]
    assert examples.labels[:, 0].tolist() == [1, 1, 0]
    assert examples.n_known.tolist() == [0, 1, 3], "the event of the same second is not older"


def test_an_event_without_a_time_is_as_old_as_the_one_before_it() -> None:
    dataset = shop()
    seconds = np.array([10, NO_TIMESTAMP, 30, NO_TIMESTAMP, 50, 15, 25])
    shown = pl.DataFrame(
        {"user_id": ["u"] * 3, "item_id": ["d"] * 3, "timestamp": [15, 31, 60], "clicked": [1, 0, 1]}
    )
    partly = replace(dataset, histories=replace(dataset.histories, timestamp=seconds), impressions=shown)
    assert labelled_examples(partly, {"click": LabelRule("clicked")}).n_known.tolist() == [2, 4, 5]


def test_interactions_come_before_impressions() -> None:
    shown = pl.DataFrame({"user_id": ["u"], "item_id": ["a"], "value": [1.0]})
    examples = labelled_examples(replace(shop(), impressions=shown), {"rating": LabelRule("value")})
    assert len(examples) == 6


def test_the_newest_rows_of_each_user_are_held_back() -> None:
    examples = labelled_examples(shop(), {"rating": LabelRule("value")})
    split = split_by_time(examples, validation=0.1, test=0.3)
    assert split.test.timestamp.tolist() == [50], "a user with two rows is learned from only"
    assert split.validation.timestamp.tolist() == [40]
    assert sorted(split.train.timestamp.tolist()) == [10, 15, 20, 25]


def test_large_shares_leave_a_row_to_learn_from() -> None:
    examples = labelled_examples(shop(), {"rating": LabelRule("value")})
    split = split_by_time(examples, validation=0.49, test=0.49)
    for user in np.unique(split.test.user_index):
        assert (split.train.user_index == user).any()
    assert len(split.train) + len(split.validation) + len(split.test) == len(examples)


def test_a_column_divides_too() -> None:
    split = split_by_column(labelled_examples(shop(), {"rating": LabelRule("value")}), "part")
    assert split.train.timestamp.tolist() == [10, 20, 15]
    assert split.validation.timestamp.tolist() == [40]
    assert split.test.timestamp.tolist() == [50, 25]


def test_validation_is_drawn_where_no_row_says_so() -> None:
    dataset = shop()
    column = dataset.context["part"].replace("val", "train")
    examples = labelled_examples(replace(dataset, context={"part": column}), {"rating": LabelRule("value")})
    split = split_by_column(examples, "part", seed=3)
    assert len(split.validation) == 1
    assert len(split.train) == 3
    assert split_by_column(examples, "part", seed=3).validation.timestamp == split.validation.timestamp


def test_next_items_are_first_meetings_that_were_liked_and_have_something_before_them() -> None:
    examples = next_items(shop())
    # u: b (3 stars), c (no value) count; a again and d (1 star) do not. v: d (4 stars).
    assert examples.item_index.tolist() == [1, 2, 3]
    assert examples.n_known.tolist() == [1, 2, 1]
    assert examples.labels.tolist() == [[1], [1], [1]]
    assert next_items(shop(), newest=1).item_index.tolist() == [2, 3]


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (LabelRule("valeu"), "Did you mean 'value'"),
        (LabelRule("part"), "holds words"),
        (LabelRule("event", yes_words=("sold",)), "No row says sold"),
    ],
)
def test_what_cannot_be_a_label_is_said(rule: LabelRule, said: str) -> None:
    with pytest.raises(DataError, match=said):
        labelled_examples(shop(), {"task": rule})


def test_an_empty_column_is_no_label() -> None:
    dataset = shop()
    nothing = replace(dataset.histories, value=np.full(7, np.nan, dtype=np.float32))
    with pytest.raises(DataError, match="empty throughout"):
        labelled_examples(replace(dataset, histories=nothing), {"rating": LabelRule("value")})


@pytest.mark.parametrize("column", ["parts", "event"])
def test_a_column_that_divides_nothing_is_refused(column: str) -> None:
    examples = labelled_examples(shop(), {"rating": LabelRule("value")})
    with pytest.raises(DataError, match=r"no column 'parts'|does not say"):
        split_by_column(examples, column)
