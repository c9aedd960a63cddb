"""What there is to learn from: the bundle's data and everything since, nobody's who was removed."""

import numpy as np
import polars as pl
import pytest

from zhiyin.contracts import TrainingData
from zhiyin.data.dataset import Dataset
from zhiyin.domain import NO_TIMESTAMP, Catalogue, Histories, Vocabulary
from zhiyin.experiments.refreshing.gathering import grow, read_news
from zhiyin.experiments.refreshing.holding import hold_back
from zhiyin.experiments.refreshing.settings import RefreshConfig
from zhiyin.pipeline.bundle import load_bundle, read_card
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.pipeline.recipes import recipe
from zhiyin.stores.records import Event


def grown_from(bundle, store, since=0):
    return grow(load_bundle(bundle), read_card(bundle)["training"], read_news(store, since))


def history(grown, user_id):
    row = grown.dataset.users.index(user_id)
    items = grown.dataset.catalogue.items
    return [items.id(item) for item in grown.dataset.histories.row(row).item_index]


def test_nothing_new_gives_what_the_bundle_remembers(bundle, store):
    grown, pipeline = grown_from(bundle, store), load_bundle(bundle)
    assert grown.n_new == 0
    np.testing.assert_array_equal(grown.dataset.histories.item_index, pipeline.histories.item_index)
    assert grown.dataset.event_weights.tolist() == [0.5, 1.0]


def test_events_join_the_histories_in_the_order_of_time(bundle, store):
    before = load_bundle(bundle)
    known = [f"i{item}" for item in before.histories.row(0).item_index]
    first, late = int(before.histories.timestamp[0]), 1_700_000_000
    store.append_events(
        [Event("b", "u0", "i3", "buy", late), Event("a", "u0", "i1", "view", first - 5)]
    ).result()
    store.append_events([Event("c", "new", "i2", "view", late + 1)]).result()
    grown = grown_from(bundle, store)
    assert history(grown, "u0") == ["i1", *known, "i3"]
    assert history(grown, "new") == ["i2"]
    row = grown.dataset.histories.offsets[grown.dataset.users.index("u0")]
    assert grown.is_new[row : row + len(known) + 2].tolist() == [True, *[False] * len(known), True]
    newest = grown.dataset.histories.row(grown.dataset.users.index("u0"))
    assert newest.event_index[-1] == 1, "'buy' means 'purchase'"
    assert grown.position == store.position()


def test_only_what_came_after_the_position_is_new(bundle, store):
    store.append_events([Event("a", "u0", "i1", "view", 1_700_000_000)]).result()
    position = store.position()
    store.append_events([Event("b", "u0", "i2", "view", 1_700_000_100)]).result()
    assert grown_from(bundle, store, since=position).n_new == 1


def test_removed_users_are_in_nothing(bundle, store):
    store.append_events([Event("a", "gone", "i1", "view", 1_700_000_000)]).result()
    store.delete_user("gone").result()
    store.delete_user("u3").result()
    store.append_events([Event("b", "u3", "i2", "view", 1_700_000_100)]).result()
    grown = grown_from(bundle, store)
    assert "gone" not in grown.dataset.users
    assert history(grown, "u3") == ["i2"], "who comes back starts anew"
    assert len(grown.dataset.users) == len(load_bundle(bundle).users)


def test_items_that_were_put_and_deleted(bundle, store):
    store.append_events([Event("a", "u0", "fresh", "view", 1_700_000_000)]).result()
    store.append_events([Event("b", "u0", "never heard of", "view", 1_700_000_001)]).result()
    store.put_item("fresh", {"title": "item number 41"}).result()
    store.delete_item("i7").result()
    grown = grown_from(bundle, store)
    catalogue = grown.dataset.catalogue
    assert history(grown, "u0")[-1] == "fresh"
    assert grown.n_unknown == 1
    assert catalogue.table["title"][catalogue.items.index("fresh")] == "item number 41"
    assert np.flatnonzero(grown.pipeline.removed).tolist() == [catalogue.items.index("i7")]


def test_what_is_held_back_is_new_and_newest_and_seen_by_nobody(bundle, store, new_walks):
    store.append_events(new_walks(100, step=1, seed=1)).result()
    grown = grown_from(bundle, store)
    held = hold_back(grown, RefreshConfig(held_back_share=0.3))
    n_held = len(held.split.test) + len(held.split.validation)
    assert len(held.split.validation) == n_held // 3
    assert n_held == pytest.approx(30, abs=2), "the users of the newest 30 %"
    assert len(held.kept_back) == n_held
    assert len(held.taught) + n_held == grown.n_new
    assert len(held.is_new) == held.split.train.n_interactions
    newest = np.quantile(grown.moments[grown.is_new], 0.69)
    assert (held.split.test.queries.timestamp > newest).all()
    asked = held.split.test.queries
    lengths = held.split.train.histories.lengths[asked.user_index]
    np.testing.assert_array_equal(lengths, asked.histories.lengths)


def test_events_without_times_are_older_than_those_with(bundle, store):
    store.append_events([Event("a", "u0", "i1", "view", 5)]).result()
    pipeline = load_bundle(bundle)
    pipeline.histories.timestamp[:] = NO_TIMESTAMP
    grown = grow(pipeline, {}, read_news(store, 0))
    assert history(grown, "u0")[-1] == "i1"


def test_a_shop_of_the_first_day_learns_the_kinds_of_its_events(store):
    catalogue = Catalogue.from_table(pl.DataFrame({"item_id": ["i0", "i1"], "title": ["tea", "pot"]}))
    pipeline = Pipeline(recipe("fast"))
    nothing = Dataset("new", catalogue, Vocabulary([]), Histories.empty(0))
    pipeline.fit(TrainingData(nothing, pipeline.language))
    words = ["view", "view", "buy", "Purchase", "view", "click"]
    store.append_events([Event(f"{n}", "u0", f"i{n % 2}", word, n) for n, word in enumerate(words)]).result()
    grown = grow(pipeline, {"event_weights": [1.0]}, read_news(store, 0))
    assert grown.dataset.event_kinds == ("view", "Purchase"), "words that mean the same are one kind"
    assert grown.dataset.histories.event_index.tolist() == [0, 0, 1, 1, 0, 0]
    assert grown.dataset.event_weights.tolist() == [1.0, 1.0]
    many = [Event(f"m{n}", "u1", "i0", f"word{n}", 10 + n) for n in range(300)]
    store.append_events([*many, Event("s", "u2", "i1", "word7", 500)]).result()
    grown = grow(pipeline, {"event_weights": [1.0]}, read_news(store, 0))
    assert len(grown.dataset.event_kinds) <= 100
    assert grown.dataset.event_kinds[0] == "view", "the commonest stands for what has no kind of its own"
