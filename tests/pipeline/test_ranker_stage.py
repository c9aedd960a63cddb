"""Predictions beside every item, in a bazaar where the brand decides what people think of an item."""

import sys
from copy import copy
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from zhiyin.contracts import CHANCE, SCORE, Growth, TrainingData
from zhiyin.data.dataset import Dataset
from zhiyin.data.splits import leave_last_out
from zhiyin.domain import Catalogue, Histories, Queries, Vocabulary, Wishes
from zhiyin.domain.arrays import offsets_of
from zhiyin.domain.errors import BundleError, ConfigError, DataError, MissingExtra, TrainingError
from zhiyin.pipeline.bundle import load_bundle, read_card, save_bundle
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.pipeline.ranker_files import can_be_learned, carried_over
from zhiyin.pipeline.ranker_stage import RANKER, RANKER_PART
from zhiyin.pipeline.recipes import recipe
from zhiyin.pipeline.refreshing import refreshed
from zhiyin.pipeline.stages import Stages

N_USERS, N_ITEMS, N_EACH = 90, 24, 8
GOOD = np.arange(N_ITEMS) % 2 == 0
QUICK = {
    "dimension": 4,
    "hidden": 8,
    "training.max_epochs": 20,
    "training.learning_rate": 0.03,
    "training.warmup_steps": 5,
    "training.tokens_per_batch": 64,
    "training.averaging": 0.8,
    "training.devices": "cpu",
}
STARS = {"tasks.stars.column": "value"}
LIKED = {"tasks.liked.yes_from": 3}


def bazaar(seed=0):
    """Everybody takes random items; good ones get 4 or 5 stars, others 1 or 2."""
    random = np.random.default_rng(seed)
    item = np.concatenate([random.permutation(N_ITEMS)[:N_EACH] for _ in range(N_USERS)])
    value = np.where(GOOD[item], 4, 1) + random.integers(0, 2, len(item))
    histories = Histories(
        offsets_of(np.full(N_USERS, N_EACH)),
        item.astype(np.int32),
        np.zeros(len(item), dtype=np.int16),
        np.tile(np.arange(N_EACH, dtype=np.int64) * 3600, N_USERS),
        value.astype(np.float32),
    )
    table = pl.DataFrame(
        {
            "item_id": [f"i{place}" for place in range(N_ITEMS)],
            "title": [f"thing {chr(97 + place)}" for place in range(N_ITEMS)],
            "brand": np.where(GOOD, "good", "bad"),
            "price": [None, *map(float, range(1, N_ITEMS))],
            "tags": [["odd" if place % 2 else "even", "all"] for place in range(N_ITEMS)],
        }
    )
    users = Vocabulary([f"u{user}" for user in range(N_USERS)])
    people = pl.DataFrame({"user_id": users.ids, "country": ["no", "se", "fi"] * (N_USERS // 3)})
    device = pl.Series("device", random.choice(["phone", "desk"], len(item)))
    shown = pl.DataFrame(
        {
            "user_id": [f"u{user % N_USERS}" for user in range(1200)],
            "item_id": [f"i{place}" for place in random.integers(0, N_ITEMS, 1200)],
            "timestamp": random.integers(0, 4 * 3600, 1200),
            "rank": random.integers(1, 6, 1200),
        }
    )
    clicked = (shown["rank"].to_numpy() == 1) & (random.random(1200) < 0.9)
    return Dataset(
        "bazaar",
        Catalogue.from_table(table),
        users,
        histories,
        context={"device": device},
        user_table=people,
        impressions=shown.with_columns(clicked=pl.Series(clicked)),
    )


@pytest.fixture(scope="module")
def split():
    return leave_last_out(bazaar())


def trained(split, name="fast", **settings):
    given = {f"ranker.network.{path}": value for path, value in QUICK.items()}
    given |= {f"ranker.{path}": value for path, value in settings.items()}
    pipeline = Pipeline(recipe(name, given))
    pipeline.fit(TrainingData(split.train, pipeline.language, split.validation))
    return pipeline


@pytest.fixture(scope="module")
def telling(split):
    """One that predicts and lets the order be."""
    return trained(split, **STARS, **LIKED)


@pytest.fixture(scope="module")
def selling(split):
    """One whose slates stand in the order of what is liked."""
    return trained(split, **LIKED, **{"tasks.liked.worth": 1.0})


def asked(split):
    return split.test.queries


def test_good_items_are_told_from_bad_ones(split, telling):
    slate = telling.recommend(asked(split), 6)
    is_good = GOOD[slate.item_index]
    stars, liked = slate.column("predicted:stars"), slate.column("predicted:liked")
    assert stars[is_good].mean() > 3.5
    assert stars[~is_good].mean() < 2.5
    assert liked[is_good].min() > 0.5 > liked[~is_good].max()
    assert 1 <= stars.min() <= stars.max() <= 5


def test_without_a_worth_the_order_stays(split, telling):
    plain = Pipeline(recipe("fast"))
    plain.fit(TrainingData(split.train, plain.language, split.validation))
    expected, slate = plain.recommend(asked(split), 6), telling.recommend(asked(split), 6)
    np.testing.assert_array_equal(slate.item_index, expected.item_index)
    np.testing.assert_array_equal(slate.column(SCORE), expected.column(SCORE))


def test_what_is_worth_more_comes_first(split, telling, selling):
    before, after = (pipeline.recommend(asked(split), 5) for pipeline in (telling, selling))
    assert GOOD[after.item_index].mean() > GOOD[before.item_index].mean() + 0.2
    value = after.column(CHANCE) * after.column("predicted:liked")
    assert (np.diff(value, axis=1) <= 1e-6).all()


def test_scores_are_shared_out_anew_and_their_parts_add_up(split, telling, selling):
    before, after = (pipeline.recommend(asked(split), N_ITEMS) for pipeline in (telling, selling))
    np.testing.assert_allclose(after.column(SCORE), before.column(SCORE), rtol=1e-5)
    parts = sum(after.column(f"{source.name}:part") for source in selling.sources)
    parts = parts + after.column("trend:part") + after.column(RANKER_PART)
    np.testing.assert_allclose(parts[after.is_item], after.column(SCORE)[after.is_item], atol=1e-4)


def test_chances_stay_those_of_the_merged_scores(split, telling, selling):
    before, after = (
        pipeline.recommend(asked(split).take(np.arange(5)), N_ITEMS) for pipeline in (telling, selling)
    )
    for row in range(5):
        told, found = (
            dict(zip(slate.item_index[row], slate.column(CHANCE)[row], strict=True))
            for slate in (before, after)
        )
        assert found.keys() == told.keys()
        assert all(found[item] == told[item] for item in told if item >= 0)


def test_only_the_best_candidates_are_put_in_order(split, telling):
    few = trained(split, **LIKED, **{"tasks.liked.worth": 1.0, "n_items": 2})
    before, after = (pipeline.recommend(asked(split), 6) for pipeline in (telling, few))
    np.testing.assert_array_equal(after.item_index[:, 2:], before.item_index[:, 2:])
    assert (after.item_index[:, :2] != before.item_index[:, :2]).any()


def test_an_order_is_kept_under_a_filter_too(split, selling):
    allowed = np.arange(N_ITEMS) > 5
    slate = selling.recommend(asked(split), 5, Wishes(allowed=allowed))
    assert CHANCE not in slate.columns
    assert allowed[slate.item_index[slate.is_item]].all()
    assert GOOD[slate.item_index[:, 0]].mean() > 0.9


def test_a_price_multiplies_the_worth(split, selling):
    dear = trained(split, **LIKED, **{"tasks.liked.worth": 1.0, "tasks.liked.times": "price"})
    plain, priced = (pipeline.recommend(asked(split), 5).item_index for pipeline in (selling, dear))
    assert priced.mean() > plain.mean() + 1  # item k costs k


def test_what_cannot_multiply_a_worth_is_refused(split):
    with pytest.raises(ConfigError, match=r"'prize', no number of items.*Did you mean 'price'") as error:
        trained(split, **LIKED, **{"tasks.liked.times": "prize"})
    assert "price" in error.value.possible
    with pytest.raises(ConfigError, match="'brand', no number of items"):
        trained(split, **LIKED, **{"tasks.liked.times": "brand"})


def test_one_query_is_answered_as_in_a_crowd(split, telling):
    slate = telling.recommend(asked(split), 6)
    for row in (0, 7):
        alone = telling.recommend(asked(split).take(np.array([row])), 6)
        np.testing.assert_array_equal(alone.item_index[0], slate.item_index[row])
        np.testing.assert_allclose(
            alone.column("predicted:stars")[0], slate.column("predicted:stars")[row], rtol=1e-4
        )


def test_strangers_are_answered(telling):
    slate = telling.recommend(Queries.of_histories(Histories.empty(2)), 4)
    assert np.isfinite(slate.column("predicted:stars")).all()


def test_a_slate_in_words_tells_predictions(split, telling, selling):
    queries = asked(split).take(np.arange(3))
    slate = telling.recommend(queries, 4)
    told = telling.explain(queries, slate)[0][0]
    assert set(told.predictions) == {"stars", "liked"}
    assert told.predictions["stars"] == pytest.approx(float(slate.column("predicted:stars")[0, 0]))
    sold = selling.explain(queries, selling.recommend(queries, 4))
    assert any(RANKER in (answer.sources or {}) for answers in sold for answer in answers)
    assert not any("ranker" in reason for answers in sold for answer in answers for reason in answer.reasons)


def test_beside_an_item_and_in_a_search_nothing_is_predicted(telling):
    for slate in (telling.similar(np.array([3], np.int32), 4), telling.search(["thing"], 4)):
        assert slate.is_item.any()
        assert not any(name.startswith("predicted") for name in slate.columns)
    assert telling.only("item_graph").ranker is None


def test_a_bundle_answers_alike(split, selling, tmp_path):
    folder = save_bundle(selling, tmp_path / "bundle", facts={"ranker": selling.ranker.facts()})
    again = load_bundle(folder)
    expected, slate = (pipeline.recommend(asked(split), 6) for pipeline in (selling, again))
    np.testing.assert_array_equal(slate.item_index, expected.item_index)
    np.testing.assert_array_equal(slate.column("predicted:liked"), expected.column("predicted:liked"))
    assert read_card(folder)["training"]["ranker"] == {
        "labels_of": "interactions",
        "tasks": ["liked"],
        "context": [],
    }


def test_parts_of_two_bundles_do_not_fit(selling, telling, tmp_path):
    mixed = copy(selling)
    mixed.ranker = telling.ranker
    with pytest.raises(BundleError, match="does not belong to the rest"):
        load_bundle(save_bundle(mixed, tmp_path / "mixed"))


def test_new_and_changed_items_are_predicted_at_once(split):
    pipeline = trained(split, **STARS)
    table = pl.DataFrame(
        {"item_id": ["new", "i3"], "title": ["thing new", "thing changed"], "brand": ["good", "bad"]},
    )
    pipeline.add_items(table)
    new = pipeline.catalogue.items.index("new")
    told = pipeline.ranker.predictions(
        asked(split).take(np.arange(2)), np.array([[new, 3], [new, 4]], np.int32), pipeline.catalogue
    )
    assert told.shape == (2, 2, 1)
    assert (told[:, 0] > told[:, 1]).all()  # of a bad item more is known than of a new one


def test_texts_are_read_where_the_recipe_reads_them(split):
    from zhiyin.testing.toy_language import ToyLanguage

    given = {f"ranker.network.{path}": value for path, value in QUICK.items()}
    given |= {"ranker.tasks.stars.column": "value", "sources.semantic": {}}
    pipeline = Pipeline(recipe("fast", given), ToyLanguage())
    titles = pl.Series("title", [f"{'nice' if good else 'ugly'} thing" for good in GOOD])
    dataset = replace(
        split.train, catalogue=Catalogue.from_table(split.train.catalogue.table.with_columns(titles))
    )
    pipeline.fit(TrainingData(dataset, pipeline.language, split.validation))
    pipeline.add_items(pl.DataFrame({"item_id": ["x", "y"], "title": ["nice thing", "ugly thing"]}))
    items = np.array([[N_ITEMS, N_ITEMS + 1]], np.int32)
    nice, ugly = pipeline.ranker.predictions(asked(split).take(np.arange(1)), items, pipeline.catalogue)[
        0, :, 0
    ]
    assert nice > ugly + 0.5
    pipeline.add_items(pl.DataFrame({"item_id": ["x", "y"], "title": ["ugly thing", "nice thing"]}))
    x, y = pipeline.ranker.predictions(asked(split).take(np.arange(1)), items, pipeline.catalogue)[0, :, 0]
    assert (x, y) == pytest.approx((ugly, nice), abs=1e-4)


def test_a_brand_a_country_and_a_device_are_read(split):
    pipeline = trained(split, **STARS, **{"network.context": '["brand", "country", "device", "tags"]'})
    pipeline.add_items(
        pl.DataFrame({"item_id": ["x", "y"], "brand": ["good", "bad"], "tags": [["even"], ["odd"]]})
    )
    items = np.array([[N_ITEMS, N_ITEMS + 1]], np.int32)
    queries = replace(asked(split).take(np.arange(1)), context={"device": np.array(["phone"], dtype=object)})
    good, bad = pipeline.ranker.predictions(queries, items, pipeline.catalogue)[0, :, 0]
    assert good > bad + 1
    assert pipeline.ranker.people.columns == ["country"]
    words = [column.name for column in pipeline.ranker.ranker.trained.reader.context.columns]
    assert words == ["brand", "country", "device", "tags"]


def test_a_column_that_is_nowhere_is_refused(split):
    with pytest.raises(DataError, match=r"reads 'brant', which neither.*Did you mean 'brand'"):
        trained(split, **STARS, **{"network.context": '["brant"]'})


def test_an_answer_must_not_stand_in_what_is_read(split):
    with pytest.raises(ConfigError, match="would stand in what is read: 'device'"):
        trained(split, **{"tasks.phone.column": "device", "network.context": '["device"]'})


def test_what_happened_cannot_be_read(split):
    for name in ("value", "event", "timestamp"):
        with pytest.raises(ConfigError, match=f"cannot read '{name}': no request knows it"):
            trained(split, **LIKED, **{"network.context": f'["{name}"]'})


def test_yes_has_one_meaning():
    with pytest.raises(ConfigError, match="yes_from for numbers or yes_words for words, not both"):
        recipe("fast", {"ranker.tasks.x.yes_from": 1, "ranker.tasks.x.yes_words": '["a"]'})


def test_each_request_of_a_batch_is_read_by_what_it_says_itself(split):
    pipeline = trained(split, **STARS, **{"network.context": '["brand", "country", "device"]'})
    assert pipeline.reads_of_users == {"country", "device"}, "a brand is one of the items"
    three = asked(split).take(np.arange(3))
    items = np.tile(np.arange(6, dtype=np.int32), (3, 1))
    told = {
        "device": np.array(["phone", None, "desk"], dtype=object),
        "country": np.array([None, "fi", 7], dtype=object),
        "brand": np.array([None, None, "good"], dtype=object),
    }
    together = pipeline.ranker.predictions(replace(three, context=told), items, pipeline.catalogue)
    for row in range(3):
        said = {name: column[[row]] for name, column in told.items() if column[row] is not None}
        alone = replace(three.take(np.array([row])), context=said)
        expected = pipeline.ranker.predictions(alone, items[:1], pipeline.catalogue)[0]
        np.testing.assert_allclose(together[row], expected, rtol=1e-5)


def test_a_rank_of_items_is_no_place_of_a_slate(split):
    table = split.train.catalogue.table.with_columns(rank=pl.Series(range(100, 100 + N_ITEMS)))
    train = replace(split.train, catalogue=Catalogue.from_table(table))
    ranked = trained(replace(split, train=train), **STARS, **{"network.context": '["rank"]'})
    assert ranked.ranker.first_rank is None


@pytest.mark.parametrize("ranks", [pl.lit(None, dtype=pl.Int64), pl.lit("top")])
def test_ranks_that_are_no_numbers_are_words(split, ranks):
    shown = split.train.impressions.with_columns(rank=ranks)
    clicks = {"tasks.click.column": "clicked", "tasks.click.yes_from": 1}
    train = replace(split.train, impressions=shown)
    placed = trained(replace(split, train=train), **clicks, **{"network.context": '["rank"]'})
    assert placed.ranker.first_rank is None


def test_an_id_is_no_attribute(split):
    with pytest.raises(DataError, match="reads 'user_id', which neither"):
        trained(split, **STARS, **{"network.context": '["user_id"]'})


def test_a_word_of_one_user_alone_is_not_learned(split):
    people = split.train.user_table
    people = people.with_columns(
        country=pl.when(people["user_id"] == "u4").then(pl.lit("atlantis")).otherwise(people["country"])
    )
    train = replace(split.train, user_table=people)
    pipeline = trained(replace(split, train=train), **STARS, **{"network.context": '["country"]'})
    assert pipeline.ranker.ranker.trained.reader.context.columns[0].words == ("fi", "no", "se")


def test_prices_of_any_size_leave_an_order(split):
    dear = trained(split, **LIKED, **{"tasks.liked.worth": 1e39, "tasks.liked.times": "price"})
    dear.add_items(pl.DataFrame({"item_id": ["i1", "i2"], "price": [1e308, -1e308]}))
    slate = dear.recommend(asked(split), N_ITEMS)
    assert np.isfinite(slate.column(SCORE)[slate.is_item]).all()
    assert (slate.is_item.sum(axis=1) == N_ITEMS - split.test.queries.histories.lengths).all()


def test_without_pytorch_a_bundle_says_what_is_missing(selling, tmp_path, monkeypatch):
    folder = save_bundle(selling, tmp_path / "bundle")
    for name in [
        name for name in sys.modules if name.split(".")[0] == "torch" or name.startswith("zhiyin.ranking.")
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtra, match="torch"):
        load_bundle(folder)


def test_what_was_shown_is_imagined_in_the_first_place(split):
    clicks = {"tasks.click.column": "clicked", "tasks.click.yes_from": 1}
    placed = trained(split, **clicks, **{"network.context": '["rank"]'})
    slate = placed.recommend(asked(split), 4)
    assert placed.ranker.is_of_shown
    assert placed.ranker.first_rank == 1
    assert slate.column("predicted:click").mean() > 0.6  # as in the first place, not .18 as on average
    unplaced = trained(split, **clicks)
    assert unplaced.recommend(asked(split), 4).column("predicted:click").mean() < 0.4


def test_little_is_held_back_and_none_of_it_is_learned(split):
    pipeline = trained(split, **STARS, **{"held_out": 0.05})
    unseen = pipeline.ranker.unseen
    n_rows = split.train.n_interactions
    assert 0 < len(unseen.test) <= 0.05 * n_rows
    assert len(unseen.validation) == len(unseen.test)
    assert set(unseen.test.user_index) == set(unseen.validation.user_index)


def test_equal_labels_are_refused(split):
    with pytest.raises(TrainingError, match="task 'liked' is always 1"):
        trained(split, **{"tasks.liked.yes_from": 0})


def test_users_are_told_apart_over_a_refresh_and_forgotten_ones_wiped(split, telling):
    known = telling.users
    users = Vocabulary(["new", *known.ids.to_list()[:0:-1]])  # u0 is gone, the others in another order
    after = carried_over(telling.ranker, known, users)
    items = np.array([[0, 1, 2]] * 2, dtype=np.int32)
    queries = asked(split).take(np.array([4, 9]))
    moved = replace(queries, user_index=users.indices(known.ids.gather(queries.user_index)))
    expected = telling.ranker.predictions(queries, items, telling.catalogue)
    np.testing.assert_allclose(after.predictions(moved, items, telling.catalogue), expected, rtol=1e-5)
    network = after.ranker.trained.parts[0].network
    own = telling.ranker.ranker.trained.reader.own_user
    assert (network.users.weight[own[0]] == 0).all()
    assert (telling.ranker.ranker.trained.parts[0].network.users.weight[own[0]] != 0).any()
    assert (network.users.weight[own[5]] != 0).any()


def test_a_refresh_carries_it_over(split, telling):
    growth = Growth(np.zeros(split.train.n_interactions, dtype=bool))
    training = TrainingData(split.train, telling.language, split.validation)
    after = refreshed(telling, training, growth, fewest_to_weigh=10)
    expected, slate = (pipeline.recommend(asked(split), 4) for pipeline in (telling, after))
    np.testing.assert_array_equal(
        slate.column("predicted:stars")[:, 0] > 3, expected.column("predicted:stars")[:, 0] > 3
    )


def test_whether_a_log_says_what_is_to_be_learned(split):
    bare = replace(split.train, context={}, impressions=None, user_table=None)
    stars = recipe("fast", {f"ranker.{path}": value for path, value in STARS.items()}).ranker
    assert can_be_learned(stars, bare)
    for path, value in {"tasks.stars.column": "clicked", "network.context": '["device"]'}.items():
        config = recipe("fast", {"ranker.tasks.stars.column": "value", f"ranker.{path}": value}).ranker
        assert not can_be_learned(config, bare)
        assert can_be_learned(config, split.train)
    liked = recipe("fast", {"ranker.tasks.liked.yes_from": 0}).ranker
    assert not can_be_learned(liked, bare)  # all are liked
    nobody = recipe(
        "fast", {"ranker.tasks.bought.column": "event", "ranker.tasks.bought.yes_words": '["sold"]'}
    )
    assert not can_be_learned(nobody.ranker, bare)


def test_one_that_fails_while_serving_is_skipped(split, selling, monkeypatch):
    def fail(*_, **__):
        raise ValueError("no")

    serving = copy(selling)
    serving.stages = Stages(is_tolerant=True)
    monkeypatch.setattr(type(selling.ranker.ranker), "predict", fail)
    slate = serving.recommend(asked(split).take(np.arange(2)), 4)
    assert slate.is_item.all()
    assert "predicted:liked" not in slate.columns
    assert serving.stages.failures == {RANKER: 2}
    with pytest.raises(ValueError, match="no"):
        selling.recommend(asked(split).take(np.arange(2)), 4)


def test_settings_that_do_not_exist_are_named():
    with pytest.raises(ConfigError, match=r"ranker\.tasks\.liked\.colum'.*Did you mean 'column'"):
        recipe("fast", {"ranker.tasks.liked.colum": "value"})
    with pytest.raises(ConfigError, match=r"ranker\.tasks"):
        recipe("fast", {"ranker.tasks.9 lives.column": "value"})
