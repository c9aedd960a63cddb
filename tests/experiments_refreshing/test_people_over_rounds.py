"""Attributes of users that were put into the store are learned from, and stand in the next bundle."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from zhiyin.domain import Vocabulary
from zhiyin.experiments.refreshing.gathering import grow, read_news
from zhiyin.experiments.refreshing.people import _column, attributes_put, people_now
from zhiyin.experiments.refreshing.versions import publish
from zhiyin.experiments.training import train
from zhiyin.pipeline.bundle import load_bundle
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.pipeline.recipes import recipe

READING = {
    "ranker.network.dimension": 4,
    "ranker.network.hidden": 8,
    "ranker.network.training.max_epochs": 2,
    "ranker.network.training.tokens_per_batch": 256,
    "ranker.network.training.devices": "cpu",
    "ranker.network.context": '["club", "age"]',
    "ranker.tasks.odd.column": "event",
    "ranker.tasks.odd.yes_words": '["purchase"]',
}


@pytest.fixture(scope="module")
def bundle(circle_shop, tmp_path_factory):
    """A ranker that reads a club and an age; the first ten users have none."""
    item, ids = circle_shop.histories.item_index, circle_shop.users.ids
    histories = replace(circle_shop.histories, event_index=(item % 2).astype(np.int16))
    place = np.arange(len(ids))
    table = pl.DataFrame({"user_id": ids, "club": np.where(place % 2, "red", "blue"), "age": 20 + place % 50})
    dataset = replace(circle_shop, histories=histories, user_table=table[10:])
    folder = tmp_path_factory.mktemp("bundles") / "clubs"
    train(dataset, recipe("fast", READING), folder)
    return folder


def people(pipeline):
    """User id → what the ranker reads of the user."""
    table = pipeline.ranker.people
    assert len(table) == len(pipeline.users)
    return dict(zip(pipeline.users.ids.to_list(), table.select("club", "age").rows(), strict=True))


@pytest.mark.parametrize("way", ["incremental", "full"])
def test_the_next_bundle_knows_what_was_put(store, bundle, new_walks, learn_once, tmp_path, way):
    publish(store, bundle, activate=True)
    store.append_events(new_walks(200, step=3, seed=1)).result()
    newcomer = "n1-0"
    store.put_user("u20", {"club": "green", "city": "Wien"}).result()
    store.put_user("u3", {"age": 71.0}).result()
    store.put_user(newcomer, {"club": "red", "age": "old"}).result()
    store.put_user("n1-1", {"club": "red"}).result()
    store.delete_user("n1-1").result()
    done = learn_once(store, way)
    store.fetch_bundle(done.version, tmp_path / "fetched")
    before, after = people(load_bundle(bundle)), people(load_bundle(tmp_path / "fetched"))
    assert after["u20"] == ("green", before["u20"][1])
    assert after["u3"] == (None, 71)
    assert after[newcomer] == ("red", None), "an age that is none is passed over"
    assert "n1-1" not in after
    assert after["u50"] == before["u50"] == ("blue", 20)
    assert after["u4"] == (None, None)


def test_nothing_put_changes_nothing(store, bundle):
    pipeline = load_bundle(bundle)
    put = attributes_put(store, pipeline.reads_of_users)
    assert put == {}
    table = people_now(pipeline, pipeline.users, put)
    assert table.schema["age"] == pipeline.ranker.people.schema["age"]
    assert table.select("club", "age").equals(pipeline.ranker.people.select("club", "age"))
    grown = grow(pipeline, {}, read_news(store, 0), put)
    assert grown.dataset.user_table.equals(table)


def test_where_nothing_reads_users_there_is_no_table_and_nobody_is_read(store, monkeypatch):
    pipeline = Pipeline(recipe("fast"))
    monkeypatch.setattr(type(store), "user_batches", lambda _: 1 / 0)
    assert attributes_put(store, pipeline.reads_of_users) == {}
    assert people_now(pipeline, Vocabulary(["u1"]), {}) is None


@pytest.mark.parametrize(
    ("known", "put", "expected"),
    [
        (pl.Series([1, 2], dtype=pl.Int64), [3, 3.0, "3", "x", True], [3, 3, 3, None, None]),
        (pl.Series([1.5, None]), [3, 2.25, "2.5", "x", True], [3.0, 2.25, 2.5, None, None]),
        (pl.Series([True, None]), [3, 0.5, "true", "x", False], [None, None, None, None, False]),
        (pl.Series(["a", None]), [3, 0.5, "b", "x", True], ["3", "0.5", "b", "x", "true"]),
    ],
)
def test_values_take_the_type_that_the_bundle_knows(known, put, expected):
    column = _column(put, pl.DataFrame({"said": known}), "said")
    assert column.dtype == known.dtype
    assert column.to_list() == expected
