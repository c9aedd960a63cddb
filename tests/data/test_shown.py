"""What was shown must not tell what is held back."""

import numpy as np
import polars as pl
import pytest

from zhiyin.data.dataset import Dataset
from zhiyin.data.shop.config import ShopConfig
from zhiyin.data.shop.shop import simulate_shop
from zhiyin.data.splits import by_time, by_user, cold_items, leave_last_out
from zhiyin.domain import NO_TIMESTAMP, Catalogue, Histories, Vocabulary


def dataset(shown, *, seconds=(10, 20, 30, 40)):
    """Anna met a, b, c, d in this order; Bo met a."""
    items = pl.DataFrame({"item_id": list("abcde")})
    histories = Histories(
        np.array([0, 4, 5], dtype=np.int64),
        np.array([0, 1, 2, 3, 0], dtype=np.int32),
        np.zeros(5, dtype=np.int16),
        np.array([*seconds, seconds[0]], dtype=np.int64),
        np.full(5, np.nan, dtype=np.float32),
    )
    table = pl.DataFrame(shown, schema=["user_id", "item_id", "timestamp"], orient="row")
    users = Vocabulary(["anna", "bo"])
    return Dataset("shown", Catalogue.from_table(items), users, histories, impressions=table)


def shown_in(split):
    return split.train.impressions.rows()


def test_of_each_user_only_what_was_shown_before_the_first_event_held_back():
    shown = [("anna", "a", 9), ("anna", "e", 29), ("anna", "e", 30), ("bo", "e", 99)]
    assert shown_in(leave_last_out(dataset(shown))) == [shown[0], shown[1], shown[3]]


def test_what_led_to_an_event_that_is_held_back_is_not_told_either():
    shown = [("anna", "d", 25), ("bo", "d", 25)]
    assert shown_in(leave_last_out(dataset(shown))) == [("bo", "d", 25)]


def test_without_moments_nothing_of_a_user_with_events_held_back():
    shown = [("anna", "a", None), ("bo", "a", None)]
    assert shown_in(leave_last_out(dataset(shown))) == [("bo", "a", None)]
    untimed = dataset([("anna", "a", 5), ("bo", "a", 5)], seconds=(NO_TIMESTAMP,) * 4)
    assert shown_in(leave_last_out(untimed)) == [("bo", "a", 5)]


def test_a_stranger_is_told_of():
    assert shown_in(leave_last_out(dataset([("carl", "a", 50), ("carl", "x", 50)]))) == [
        ("carl", "a", 50),
        ("carl", "x", 50),
    ]


def test_everything_held_back_or_nothing():
    known = dataset([("anna", "a", 9)])
    assert known.with_events(np.ones(5, dtype=bool)).impressions.height == 1
    # Before the first event, too: of a user who is held back nothing at all is known.
    assert known.with_events(np.zeros(5, dtype=bool)).impressions.height == 0


@pytest.fixture(scope="module")
def shop():
    return simulate_shop(ShopConfig(n_items=240, n_users=240, seed=3)).dataset


def test_by_time_knows_nothing_shown_later(shop):
    train = by_time(shop).train
    last = train.histories.timestamp.max()
    kept = train.impressions["timestamp"].dt.epoch("s").max()
    assert train.impressions.height > 0
    assert kept <= last + 86_400
    assert kept < shop.impressions["timestamp"].dt.epoch("s").max()


def test_of_users_held_back_nothing_was_shown(shop):
    train = by_user(shop).train
    idle = np.flatnonzero((train.histories.lengths == 0) & (shop.histories.lengths > 0))
    assert len(idle) > 0
    assert not set(train.users.ids[idle].to_list()) & set(train.impressions["user_id"])
    assert train.impressions.height > 0


def test_items_held_back_were_never_shown(shop):
    split = cold_items(shop, test_share=0.2)
    held = {shop.catalogue.items.id(int(item)) for item in split.test.targets.values}
    assert not held & set(split.train.impressions["item_id"])
    assert split.train.impressions.height > 0


def test_no_click_on_a_target(shop):
    split = leave_last_out(shop)
    asked = split.test
    pairs = {
        (shop.users.id(int(user)), shop.catalogue.items.id(int(item)))
        for user, item in zip(asked.queries.user_index, asked.targets.values, strict=True)
    }
    shown = split.train.impressions
    assert not pairs & set(zip(shown["user_id"], shown["item_id"], strict=True))
    assert pairs & set(zip(shop.impressions["user_id"], shop.impressions["item_id"], strict=True))
