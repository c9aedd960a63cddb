"""The truth of the shop is one truth, whichever way it is asked."""

import dataclasses

import numpy as np
import polars as pl
import pytest

from zhiyin.data.reading import read_dataset
from zhiyin.data.shop import truth
from zhiyin.data.shop.config import ShopConfig
from zhiyin.data.shop.properties import FACETS
from zhiyin.data.shop.shop import simulate_shop
from zhiyin.domain import PAD
from zhiyin.domain.errors import ConfigError, DataError, RequestError

EVERY_USER = np.arange(600, dtype=np.int32)


def slow_affinity(shop, user: int, item: int) -> float:
    """The sum over properties, one by one."""
    tastes, items = shop.tastes, shop.items
    total = sum(float(getattr(tastes, name)[user, getattr(items, name)[item]]) for name in FACETS)
    if items.second_topic[item] != PAD:
        total += 0.5 * float(tastes.topic[user, items.second_topic[item]])
    if tastes.favourite_brand[user, items.domain[item]] == items.brand[item]:
        total += 1.2
    total += float(items.quality[item])
    total -= float(tastes.price_sensitivity[user]) * np.log(float(items.price[item]) / 30)
    total += 0.45 * float(items.hidden[item] @ tastes.hidden[user])
    return total / 2


def test_affinity_is_the_sum_over_properties(small_shop):
    rng = np.random.default_rng(0)
    users = rng.integers(0, 600, 30).astype(np.int32)
    items = rng.integers(0, 900, (30, 4)).astype(np.int32)
    expected = [[slow_affinity(small_shop, u, i) for i in row] for u, row in zip(users, items, strict=True)]
    np.testing.assert_allclose(small_shop.affinity(users, items), expected, atol=1e-5)


def test_best_items_are_the_best_of_the_whole_catalogue(small_shop):
    users = EVERY_USER[:50]
    everything = np.broadcast_to(np.arange(900, dtype=np.int32), (50, 900))
    liked = small_shop.affinity(users, everything)
    best = small_shop.best_items(users, 20)
    np.testing.assert_allclose(small_shop.affinity(users, best), -np.sort(-liked, axis=1)[:, :20], atol=1e-5)
    assert small_shop.best_items(users[:2], 5_000).shape == (2, 900)


def test_best_items_do_not_depend_on_how_the_catalogue_is_cut(small_shop, monkeypatch):
    whole = small_shop.best_items(EVERY_USER, 15)
    monkeypatch.setattr(truth, "_MOST_ITEMS_AT_ONCE", 130)
    monkeypatch.setattr(truth, "_BLOCK_OF_SCORES", 5_000)
    np.testing.assert_array_equal(small_shop.best_items(EVERY_USER, 15), whole)


def test_regret_is_zero_for_the_best_slate_and_positive_for_others(small_shop):
    best = small_shop.best_items(EVERY_USER, 8)
    np.testing.assert_array_equal(small_shop.regret(EVERY_USER, best), 0)
    random = np.random.default_rng(0).integers(0, 900, (600, 8)).astype(np.int32)
    assert small_shop.regret(EVERY_USER, random).min() > 0
    assert small_shop.regret(EVERY_USER, best[:, ::-1]).max() > 0


def test_padding_is_never_clicked_and_has_no_affinity(small_shop):
    slate = np.array([[5, PAD, 7]], dtype=np.int32)
    user = EVERY_USER[:1]
    assert np.isnan(small_shop.affinity(user, slate)).tolist() == [[False, True, False]]
    assert small_shop.click_probability(user, slate)[0, 1] == 0


def test_responses_match_click_probabilities(small_shop):
    users = np.repeat(EVERY_USER[:3], 20_000)
    slate = np.broadcast_to(np.array([[1, 500, 800, 30]], dtype=np.int32), (len(users), 4))
    clicked = small_shop.respond(users, slate, seed=4).reshape(3, 20_000, 4).mean(axis=1)
    expected = small_shop.click_probability(EVERY_USER[:3], slate[:3])
    np.testing.assert_allclose(clicked, expected, atol=0.016)
    np.testing.assert_array_equal(small_shop.respond(users, slate, 4), small_shop.respond(users, slate, 4))
    assert (small_shop.respond(users, slate, 4) != small_shop.respond(users, slate, 5)).any()


@pytest.mark.parametrize(("user", "item"), [(600, 0), (-1, 0), (0, 900), (0, -2)])
def test_unknown_users_and_items_are_refused(small_shop, user, item):
    with pytest.raises(RequestError, match="has no"):
        small_shop.affinity(np.array([user], dtype=np.int32), np.array([[item]], dtype=np.int32))


def test_a_user_can_be_described_by_what_they_like(small_shop):
    for user in range(20):
        story = small_shop.describe_user(user)
        topic = int(np.argmax(small_shop.tastes.topic[user]))
        assert truth.TOPICS[topic].key in story
        watches = small_shop.tastes.price_sensitivity[user] > 0.8
        assert ("watches the price" in story) == watches


def test_declared_interests_are_true(small_shop):
    named = small_shop.dataset.user_table.with_row_index().filter(pl.col("interests").is_not_null())
    assert 0.5 < named.height / 600 < 0.7
    for user, interests in named.select("index", "interests").iter_rows():
        best = np.argsort(-small_shop.tastes.topic[user])[:2]
        assert set(interests.split(", ")) == {truth.TOPICS[place].key for place in best}


TINY = ShopConfig(n_items=300, n_users=80, n_days=20, seed=11, visits_per_user=4.0)


def test_the_same_seed_writes_the_same_bytes(tmp_path):
    one = simulate_shop(TINY).write(tmp_path / "one")
    two = simulate_shop(TINY).write(tmp_path / "two")
    names = sorted(path.name for path in one.iterdir())
    assert names == [
        "README.txt",
        "dataset.toml",
        "facts.parquet",
        "impressions.parquet",
        "interactions.parquet",
        "items.parquet",
        "users.parquet",
    ]
    for name in names:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    assert "simulated" in (one / "README.txt").read_text()


def test_another_seed_is_another_shop():
    other = simulate_shop(dataclasses.replace(TINY, seed=12))
    assert not other.interactions.equals(simulate_shop(TINY).interactions)


def test_what_is_written_is_what_is_read(tmp_path):
    shop = simulate_shop(TINY)
    read = read_dataset(shop.write(tmp_path))
    assert read.name == "Simulated shop"
    assert read.catalogue.items.ids.to_list() == shop.dataset.catalogue.items.ids.to_list()
    assert set(read.event_kinds) == {"view", "cart", "purchase", "rating"}
    weights = dict(zip(read.event_kinds, read.event_weights.tolist(), strict=True))
    assert weights == {"view": 1.0, "cart": 2.0, "purchase": 4.0, "rating": 1.0}
    assert read.positive_value == 4.0
    for user in ("user-0003", "user-0042"):
        ours, theirs = (dataset.users.index(user) for dataset in (shop.dataset, read))
        mine, other = (
            dataset.histories.take(np.array([row])) for dataset, row in ((shop.dataset, ours), (read, theirs))
        )
        np.testing.assert_array_equal(mine.item_index, other.item_index)
        np.testing.assert_array_equal(mine.timestamp, other.timestamp)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot be written"):
        simulate_shop(TINY).write(tmp_path / "file" / "shop")


def test_a_shop_where_hardly_anybody_comes(tmp_path):
    quiet = simulate_shop(ShopConfig(n_items=200, n_users=3, n_days=7, visits_per_user=0.1, seed=2))
    assert len(quiet.dataset.histories) == 3
    quiet.write(tmp_path)


def test_a_catalogue_much_larger_than_what_anybody_sees():
    large = simulate_shop(ShopConfig(n_items=60_000, n_users=120, n_days=10, visits_per_user=3.0, seed=1))
    assert large.dataset.n_items == 60_000
    users = np.arange(120, dtype=np.int32)
    touched = large.dataset.histories
    liked = large.affinity(touched.row_of_event.astype(np.int32), touched.item_index[:, None])
    assert liked.mean() > 1.5
    assert large.best_items(users, 5).max() > 20_000


def test_slates_longer_than_the_shop_are_refused():
    with pytest.raises(ConfigError, match="slate_size"):
        ShopConfig(n_items=200, share_new_items=0.9, slate_size=50)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("n_items", 10),
        ("n_items", 300.5),
        ("n_users", 0),
        ("n_days", True),
        ("share_new_items", 1.5),
        ("seed", -1),
        ("visits_per_user", float("nan")),
        ("slate_size", "8"),
    ],
)
def test_settings_out_of_range_are_refused(setting, value):
    with pytest.raises(ConfigError, match=rf"shop\.{setting}"):
        ShopConfig(**{setting: value})
