"""Which rows a task learns from, and that no other task learns from what one holds back."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from zhiyin.domain.errors import DataError
from zhiyin.language.finetuning.rows import rows_of
from zhiyin.language.finetuning.settings import FinetuningConfig
from zhiyin.testing.word_shop import word_shop

PARTS = ("train", "validation", "test")


def rows(dataset, seed=0, **settings):
    return rows_of(dataset, FinetuningConfig.model_validate(settings), seed=seed)


def places(split):
    """User and number of the event of each row, part by part."""
    return [
        set(zip(part.user_index.tolist(), part.n_known.tolist(), strict=True))
        for part in (split.train, split.validation, split.test)
    ]


def ragged_shop():
    """Users with 1 to 12 events, some of them without a value."""
    shop = word_shop("rating", n_users=30, seed=3)
    keep = np.arange(shop.n_interactions) % 12 < 1 + np.arange(shop.n_interactions) // 12 % 12
    shop = shop.with_events(keep)
    value = shop.histories.value.copy()
    value[::7] = np.nan
    return replace(shop, histories=replace(shop.histories, value=value))


def test_what_the_labels_hold_back_is_no_lesson_for_the_next_item():
    found = rows(ragged_shop(), tasks={"stars": {"kind": "rating"}, "next": {"kind": "next"}})
    labelled, following = places(found.labelled), places(found.following)
    for train, others in ((labelled[0], following), (following[0], labelled)):
        assert not train & (others[1] | others[2])
    assert not labelled[1] & following[2]
    assert all(labelled)
    assert all(following)
    # A user's next items are cut where the labels are.
    first_held = {}
    for user, number in labelled[1] | labelled[2]:
        first_held[user] = min(number, first_held.get(user, number))
    assert all(number < first_held.get(user, 99) for user, number in following[0])
    assert all(number >= first_held[user] for user, number in following[1] | following[2])


def test_a_column_divides_the_next_items_too():
    shop = word_shop("rating", n_users=12)
    words = np.array(["train", "validation", "test"])[np.random.default_rng(0).integers(3, size=144)]
    shop = replace(shop, context={"part": pl.Series(words)})
    holding = {"column": "part"}
    for tasks in ({"next": {"kind": "next"}}, {"stars": {"kind": "rating"}, "next": {"kind": "next"}}):
        found = rows(shop, tasks=tasks, holding=holding)
        for name in PARTS:
            part = getattr(found.following, name)
            said = words[part.user_index.astype(int) * 12 + part.timestamp // 3600]
            assert set(said.tolist()) == {name}


@pytest.mark.parametrize("says_validation", [True, False])
def test_what_a_column_holds_back_is_in_no_history_that_is_learned_from(says_validation):
    shop = word_shop("rating", n_users=12)
    random = np.random.default_rng(0)
    words = np.array(["train", "validation" if says_validation else "train", "test"])[
        random.integers(3, size=144)
    ]
    shop = replace(shop, context={"part": pl.Series(words)})
    tasks = {"stars": {"kind": "rating"}, "next": {"kind": "next"}}
    found = rows(shop, tasks=tasks, holding={"column": "part"})
    labelled = [
        set(zip(p.user_index.tolist(), p.timestamp.tolist(), strict=True)) for p in parts(found.labelled)
    ]
    following = [
        set(zip(p.user_index.tolist(), p.timestamp.tolist(), strict=True)) for p in parts(found.following)
    ]
    assert not following[0] & (labelled[1] | labelled[2])
    assert not labelled[0] & (following[1] | following[2])
    for split in (found.labelled, found.following):
        hidden = [labelled[1] | labelled[2], labelled[2], set()]
        for part, unseen in zip(parts(split), hidden, strict=True):
            histories = part.histories()
            user = part.user_index[histories.row_of_event]
            seen = set(zip(user.tolist(), histories.timestamp.tolist(), strict=True))
            assert not seen & unseen
            assert (histories.timestamp < part.timestamp[histories.row_of_event]).all()
    test = found.labelled.test
    assert (test.n_known == test.timestamp // 3600).all(), "the test knows all that came before"


def parts(split):
    return split.train, split.validation, split.test


def test_next_items_are_cut_at_impressions_that_a_column_holds_back():
    shop = word_shop("match", n_users=8)
    parts = pl.Series("part", (["train"] * 8 + ["validation"] * 2 + ["test"] * 2) * 8)
    shop = replace(shop, impressions=shop.impressions.with_columns(parts))
    tasks = {"click": {"column": "clicked"}, "next": {"kind": "next"}}
    found = rows(shop, tasks=tasks, holding={"column": "part"})
    assert set(found.labelled.train.context["part"]) == {"train"}
    # Impression k was seen after k + 1 events, and those at 8 and 10 begin the parts that are held back.
    assert found.following.train.n_known.max() < 9
    assert set(found.following.validation.n_known.tolist()) <= {9, 10}
    assert set(found.following.test.n_known.tolist()) <= {11}


@pytest.mark.parametrize(
    "names", [("stars", "next", "liked"), ("liked", "stars", "next"), ("next", "liked", "stars")]
)
def test_every_task_has_its_column_whatever_their_order(names):
    tasks = {
        "stars": {"kind": "rating"},
        "liked": {"kind": "yes_no", "yes_from": 2.5},
        "next": {"kind": "next"},
    }
    found = rows(word_shop("rating"), tasks={name: tasks[name] for name in names})
    assert tuple(found.tasks) == names
    for part in PARTS:
        labelled, following = getattr(found.labelled, part), getattr(found.following, part)
        columns = {name: labelled.labels[:, found.column(name)] for name in names}
        assert labelled.tasks == following.tasks == names
        assert np.isnan(columns["next"]).all()
        np.testing.assert_array_equal(columns["liked"], columns["stars"] >= 2.5)
        assert (following.labels[:, found.column("next")] == 1).all()
        assert np.isnan(np.delete(following.labels, found.column("next"), axis=1)).all()


def test_rows_to_learn_from_are_drawn_alike_by_a_seed_and_nothing_else_changes():
    whole, few = rows(word_shop("follow")), rows(word_shop("follow"), seed=4, holding={"most_train": 16})
    again, other = (rows(word_shop("follow"), seed=seed, holding={"most_train": 16}) for seed in (4, 5))
    assert len(few.following.train) == 16
    for one, same in zip(places(few.following), places(again.following), strict=True):
        assert one == same
    assert places(few.following)[0] != places(other.following)[0]
    assert places(few.following)[0] < places(whole.following)[0]
    assert places(few.following)[1:] == places(whole.following)[1:]


def test_rows_that_are_to_be_ordered_are_drawn_user_by_user():
    tasks, holding = {"order": {"kind": "pairwise"}}, {"most_train": 30, "most_judged": 6, "validation": 0.25}
    found = rows(word_shop("rating"), tasks=tasks, holding=holding)
    assert len(found.labelled.train) == 30
    assert len(set(found.labelled.train.user_index.tolist())) <= 5
    assert len(set(found.labelled.validation.user_index.tolist())) == 2


def test_usual_tasks_are_clicks_where_values_tell_and_the_next_item_elsewhere():
    assert {name: task.kind for name, task in rows(word_shop("word")).tasks.items()} == {"click": "yes_no"}
    assert {name: task.kind for name, task in rows(word_shop("follow")).tasks.items()} == {"next": "next"}


def test_what_means_yes_is_told_by_the_data():
    assert rows(word_shop("word"), tasks={"c": {}}).tasks["c"].yes_from == 1.0
    with pytest.raises(DataError, match=r"(?s)does not say from which value.*tasks\.c\.yes_from"):
        rows(word_shop("rating"), tasks={"c": {}})
    binary = replace(word_shop("word"), positive_value=None)
    assert rows(binary, tasks={"c": {}}).tasks["c"].yes_from == 0.5


def same_values(shop):
    ones = np.ones(shop.n_interactions, dtype=np.float32)
    return replace(shop, histories=replace(shop.histories, value=ones))


def one_value_a_user(shop):
    value = (shop.histories.row_of_event % 2).astype(np.float32)
    return replace(shop, histories=replace(shop.histories, value=value))


@pytest.mark.parametrize(
    ("dataset", "settings", "said"),
    [
        (same_values(word_shop("word")), {"tasks": {"c": {}}}, r"'c' cannot be learned: all .* labels are 1"),
        (one_value_a_user(word_shop("word")), {"tasks": {"o": {"kind": "listwise"}}}, "no user has two rows"),
        (word_shop("word"), {"tasks": {"c": {"column": "valeu"}}}, "Did you mean 'value'"),
        (word_shop("follow"), {"tasks": {"c": {}}}, "empty throughout"),
        (word_shop("word", n_events=2), {"tasks": {"c": {}}}, "No user has three rows"),
        (word_shop("word", n_events=1), {"tasks": {"n": {"kind": "next"}}}, "no next item to foretell"),
        (word_shop("word"), {"tasks": {"c": {}}, "wording": {"state": ["value"]}}, "answer of task 'c'"),
        (word_shop("word"), {"tasks": {"c": {}}, "holding": {"column": "part"}}, "no column 'part'"),
    ],
)
def test_what_cannot_be_learned_is_said(dataset, settings, said):
    with pytest.raises(DataError, match=said):
        rows(dataset, **settings)
