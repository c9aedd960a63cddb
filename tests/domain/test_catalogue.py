"""Vocabulary and catalogue: ids become indices and back, and indices never move."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiyin.domain import PAD, Catalogue, Vocabulary
from zhiyin.domain.errors import ShapeMismatch, did_you_mean

ids = st.lists(st.text(max_size=4), unique=True, max_size=10)


@given(ids, st.lists(st.text(max_size=4), max_size=10))
def test_many_ids_are_looked_up_like_one(known, asked):
    vocabulary = Vocabulary(known)
    expected = [known.index(identifier) if identifier in known else PAD for identifier in asked]
    assert vocabulary.indices(asked).tolist() == expected
    assert vocabulary.indices(asked).dtype == np.int32
    assert [vocabulary.index(identifier) for identifier in asked] == expected
    assert [identifier in vocabulary for identifier in asked] == [place != PAD for place in expected]


@given(ids, st.lists(st.text(max_size=4), max_size=10))
def test_extending_moves_no_index(known, added):
    vocabulary = Vocabulary(known)
    longer = vocabulary.extended(added)
    assert longer.ids.to_list() == list(dict.fromkeys([*known, *added]))
    assert [longer.id(index) for index in range(len(vocabulary))] == known
    assert len(vocabulary) == len(known)


def catalogue():
    return Catalogue.from_table(pl.DataFrame({"item_id": ["a", "b", "c"], "title": ["A", "B", None]}))


def test_rows_come_in_the_order_asked_for():
    rows = catalogue().rows(np.array([2, 0]))
    assert rows.items.ids.to_list() == ["c", "a"]
    assert rows.table["title"].to_list() == [None, "A"]


def test_new_items_come_last_and_missing_columns_are_null():
    new = Catalogue.from_table(pl.DataFrame({"item_id": ["d"], "price": [2.5]}))
    longer = catalogue().extended(new)
    assert longer.items.ids.to_list() == ["a", "b", "c", "d"]
    assert longer.table["title"].to_list() == ["A", "B", None, None]
    assert longer.table["price"].to_list() == [None, None, None, 2.5]


def test_a_changed_item_keeps_its_index():
    new = Catalogue.from_table(pl.DataFrame({"item_id": ["b"], "title": ["Bee"]}))
    changed = catalogue().changed(np.array([1]), new)
    assert changed.items.ids.to_list() == ["a", "b", "c"]
    assert changed.table["title"].to_list() == ["A", "Bee", None]


def test_ids_and_rows_must_be_equally_many():
    with pytest.raises(ShapeMismatch, match="1 item ids, but 2 rows of items"):
        Catalogue(Vocabulary(["a"]), pl.DataFrame({"item_id": ["a", "b"]}))


def test_a_close_word_is_suggested_and_a_far_one_is_not():
    assert did_you_mean("itme_id", ["user_id", "item_id"]) == " Did you mean 'item_id'?"
    assert did_you_mean("zebra", ["user_id", "item_id"]) == ""
