"""What the simulated users do follows from what is true about them."""

import numpy as np
import polars as pl
import pytest

from zhiyin.data.shop.behaviour import CART, PAGES, PURCHASE, RATING, VIEW
from zhiyin.data.shop.config import DAY, START
from zhiyin.data.shop.logging_policy import LoggingPolicy
from zhiyin.domain import PAD


@pytest.fixture(scope="module")
def events(small_shop) -> pl.DataFrame:
    histories, context = small_shop.dataset.histories, small_shop.dataset.context
    return pl.DataFrame(
        {
            "user": histories.row_of_event,
            "item": histories.item_index,
            "kind": histories.event_index,
            "timestamp": histories.timestamp,
            "value": histories.value,
            "visit": context["visit"],
            "page": context["page"],
            "hour": context["hour"],
        }
    )


def test_timestamps_are_sorted_and_within_the_days(small_shop, events):
    assert (events.group_by("user").agg(pl.col("timestamp").is_sorted())["timestamp"]).all()
    assert small_shop.interactions["timestamp"].is_sorted()
    assert events["timestamp"].min() >= START
    assert events["timestamp"].max() < START + 61 * DAY
    assert (events["hour"] == events["timestamp"] // 3600 % 24).all()


def test_each_item_is_viewed_first_and_then_carted_bought_rated(events):
    when = events.pivot(on="kind", index=["user", "item"], values="timestamp", aggregate_function="min")
    count = events.group_by("user", "item", "kind").len()
    assert count["len"].max() == 1
    view, cart, purchase, rating = (when[str(kind)] for kind in (VIEW, CART, PURCHASE, RATING))
    assert view.null_count() == 0
    assert (cart.is_null() | (cart > view)).all()
    assert (purchase.is_null() | (purchase > cart)).all()
    assert (purchase.is_null() | cart.is_not_null()).all()
    assert (rating.is_null() | (rating > purchase + 2 * DAY - 200)).all()
    assert (rating.is_null() | purchase.is_not_null()).all()


def test_only_ratings_have_values_from_one_to_five(events):
    rated = events.filter(kind=RATING)["value"]
    assert rated.len() > 100
    assert set(rated) <= {1.0, 2.0, 3.0, 4.0, 5.0}
    assert rated.n_unique() == 5
    assert events.filter(pl.col("kind") != RATING)["value"].is_nan().all()


def test_people_view_buy_and_praise_what_they_like(small_shop, events):
    liked = small_shop.affinity(
        events["user"].to_numpy().astype(np.int32), events["item"].to_numpy()[:, None]
    )[:, 0]
    by_kind = [liked[events["kind"] == kind].mean() for kind in (VIEW, CART, PURCHASE)]
    anything = small_shop.affinity(
        np.arange(600, dtype=np.int32), np.random.default_rng(0).integers(0, 900, (600, 20)).astype(np.int32)
    )
    assert anything.mean() + 1.0 < by_kind[0] < by_kind[1] < by_kind[2]
    rated = events["kind"] == RATING
    correlation = np.corrcoef(liked[rated], events["value"].to_numpy()[rated])[0, 1]
    assert correlation > 0.5


def test_nothing_is_touched_before_it_arrives(small_shop, events):
    day = (events["timestamp"].to_numpy() - START) // DAY
    assert (small_shop.items.arrival[events["item"].to_numpy()] <= day).all()
    shown = small_shop.dataset.impressions
    item = small_shop.dataset.catalogue.items.indices(shown["item_id"])
    assert (small_shop.items.arrival[item] <= (shown["timestamp"].to_numpy() - START) // DAY).all()


def test_complements_follow_purchases_more_often_than_views_and_than_chance(small_shop, events):
    touches = events.filter(kind=VIEW).sort("user", "visit", "timestamp", maintain_order=True)
    bought = events.filter(kind=PURCHASE).select("user", "item", bought=True)
    touches = touches.join(bought, on=["user", "item"], how="left", maintain_order="left")
    item, user = touches["item"].to_numpy(), touches["user"].to_numpy()
    was_bought = touches["bought"].fill_null(False).to_numpy()
    same_user = user[1:] == user[:-1]
    partners = small_shop.items.complements[item[:-1]]
    follows = (partners == item[1:, None]).any(axis=1)
    shuffled = (partners == np.random.default_rng(0).permutation(item[1:])[:, None]).any(axis=1)
    after_purchase = follows[same_user & was_bought[:-1]].mean()
    after_view = follows[same_user & ~was_bought[:-1]].mean()
    assert after_purchase > 2 * after_view
    assert after_view > 5 * shuffled[same_user].mean()


def test_the_next_volume_follows_the_one_before(small_shop, events):
    touches = events.filter(kind=VIEW)
    item, user = touches["item"].to_numpy(), touches["user"].to_numpy()
    following = small_shop.items.next_volume[item[:-1]]
    has_next = (following != PAD) & (user[1:] == user[:-1])
    assert (item[1:][has_next] == following[has_next]).mean() > 0.2
    assert set(touches["page"]) == set(PAGES)


def test_popularity_is_skewed(small_shop):
    counts = np.sort(small_shop.dataset.item_counts)[::-1]
    assert counts[: len(counts) // 10].sum() > 0.2 * counts.sum()


def test_clicks_of_slates_are_views_from_the_recommendation_page(small_shop, events):
    clicked = small_shop.dataset.impressions["clicked"].sum()
    viewed = events.filter(pl.col("kind") == VIEW, pl.col("page") == "recommendation").height
    assert clicked == viewed


def test_higher_ranks_are_clicked_more_often(small_shop):
    rate = small_shop.dataset.impressions.group_by("rank").agg(pl.col("clicked").mean()).sort("rank")
    assert rate["rank"].to_list() == list(range(1, 9))
    assert rate["clicked"][0] > 1.5 * rate["clicked"][3] > 1.5 * rate["clicked"][7]


def test_slates_hold_different_items_and_sensible_propensities(small_shop):
    shown = small_shop.dataset.impressions
    slates = shown.group_by("visit").agg(pl.col("item_id").n_unique(), pl.len())
    assert (slates["item_id"] == 8).all()
    assert (slates["len"] == 8).all()
    assert shown["propensity"].min() > 0
    assert shown["propensity"].max() < 1
    assert shown["policy_version"].n_unique() == 9


# The logging policy itself: its propensities are what it does.


@pytest.fixture(scope="module")
def policy(small_shop) -> LoggingPolicy:
    policy = LoggingPolicy(small_shop.items)
    touches = np.random.default_rng(5).pareto(1.0, 900)
    policy.open_day(21, touches)
    return policy


@pytest.mark.parametrize("last", [PAD, 0, 450])
def test_probabilities_sum_to_one_over_what_could_be_shown(small_shop, policy, last):
    q = policy.probability(np.array([last], dtype=np.int32), np.arange(900, dtype=np.int32)[None])
    assert q.sum() == pytest.approx(1.0, abs=1e-6)
    in_shop = small_shop.items.arrival <= 21
    assert (q[0, in_shop] > 0).all()
    assert (q[0, ~in_shop] == 0).all()


@pytest.mark.parametrize("last", [PAD, 450])
def test_items_are_shown_as_often_as_their_propensity_says(policy, last):
    n = 150_000
    slate, propensity = policy.show(np.full(n, last, dtype=np.int32), 3, np.random.default_rng(1))
    q = policy.probability(np.array([last], dtype=np.int32), np.arange(900, dtype=np.int32)[None])[0]
    first = np.bincount(slate[:, 0], minlength=900)
    spread = np.sqrt(n * q * (1 - q)) + 1e-9
    assert np.abs((first - n * q) / np.maximum(spread, 1.0)).max() < 5
    np.testing.assert_allclose(propensity[:, 0], q[slate[:, 0]], rtol=1e-5)
    # Inverse propensities count every item that was possible at rank 3 as one: there are the items in the
    # shop, less the two above it.
    n_possible = (q > 0).sum() - 2
    weights = 1.0 / propensity[:, 2]
    assert weights.mean() == pytest.approx(n_possible, abs=5 * weights.std() / np.sqrt(n))


def test_propensity_is_conditional_on_the_items_above(policy):
    last = np.array([3], dtype=np.int32)
    slate, propensity = policy.show(last, 6, np.random.default_rng(2))
    q = policy.probability(last, slate)[0]
    expected = [q[rank] / (1 - q[:rank].sum()) for rank in range(6)]
    np.testing.assert_allclose(propensity[0], expected, rtol=1e-5)
