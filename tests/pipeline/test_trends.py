"""Demand just before a request, against sums that anyone can check."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from zhiyin.contracts import Steps, TrainingData
from zhiyin.data.dataset import Dataset
from zhiyin.data.splits import leave_last_out
from zhiyin.domain import NO_TIMESTAMP, Catalogue, Histories, Queries, Vocabulary, Wishes
from zhiyin.domain.errors import ConfigError
from zhiyin.pipeline.absorbing import absorb
from zhiyin.pipeline.bundle import load_bundle, save_bundle
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.pipeline.settings import MergeConfig, PipelineConfig
from zhiyin.pipeline.trends import Trends
from zhiyin.sources.waiting_steps import SECONDS_PER_DAY

DAY = int(SECONDS_PER_DAY)
LIVES = (3.0, 40.0)
N_ITEMS, N_EVENTS = 12, 400
START = 1_500_000_000


def dataset_of(items: np.ndarray, timestamp: np.ndarray, kinds: np.ndarray, n_items: int) -> Dataset:
    """One user for every four events, in the order of time."""
    offsets = np.arange(0, len(items) + 1, 4)
    offsets[-1] = len(items)
    histories = Histories(
        offsets,
        items.astype(np.int32),
        kinds.astype(np.int16),
        timestamp.astype(np.int64),
        np.ones(len(items), dtype=np.float32),
    )
    table = pl.DataFrame({"item_id": [f"i{item}" for item in range(n_items)]})
    users = Vocabulary([f"u{user}" for user in range(len(histories))])
    return Dataset(
        "days",
        Catalogue.from_table(table),
        users,
        histories,
        event_kinds=("view", "purchase"),
        event_weights=np.array([1.0, 4.0], dtype=np.float32),
    )


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    random = np.random.default_rng(0)
    items = np.minimum(random.geometric(0.3, N_EVENTS) - 1, N_ITEMS - 2)  # the last item stays untouched
    timestamp = START + random.integers(0, 300 * DAY, N_EVENTS)
    order = np.argsort(timestamp.reshape(-1, 4), axis=1) + np.arange(0, N_EVENTS, 4)[:, None]
    kinds = random.integers(0, 2, N_EVENTS)
    return dataset_of(items, timestamp[order.ravel()], kinds, N_ITEMS)


def slow_demand(dataset: Dataset, item: int, moment: int) -> list[float]:
    histories = dataset.histories
    sums = [0.0] * len(LIVES)
    for place in range(histories.n_events):
        if histories.item_index[place] == item and histories.timestamp[place] < moment:
            worth = float(dataset.event_weights[histories.event_index[place]]) / 4.0
            age = (moment - int(histories.timestamp[place])) / DAY
            sums = [total + worth * 2 ** (-age / life) for total, life in zip(sums, LIVES, strict=True)]
    return [float(np.log1p(total)) for total in sums]


def test_demand_is_what_one_would_add_up_by_hand(dataset):
    trends = Trends.of(dataset, LIVES)
    moments = np.array([START - 5, START + 1, START + 50 * DAY, START + 299 * DAY, START + 320 * DAY])
    items = np.tile(np.arange(N_ITEMS, dtype=np.int32), (len(moments), 1))
    demand = trends.at(items, moments)
    expected = [[slow_demand(dataset, item, moment) for item in range(N_ITEMS)] for moment in moments]
    np.testing.assert_allclose(demand, expected, atol=0.02)
    assert (demand[0] == 0).all(), "nothing had happened yet"
    assert (demand[:, -1] == 0).all(), "nobody ever touched the last item"


def test_demand_within_a_rush_is_exact_too():
    """More events of one item within one of the known periods than are stepped over one by one."""
    random = np.random.default_rng(2)
    rush = START + 50 * DAY + np.sort(random.integers(0, 60, 200))
    spread = np.sort(START + random.integers(0, 300 * DAY, 200))
    items = np.concatenate([np.full(200, 4), random.integers(0, 4, 200)])
    rushed = dataset_of(items, np.concatenate([rush, spread]), np.zeros(400, dtype=int), N_ITEMS)
    moments = START + 50 * DAY + np.arange(-1, 62, 3)
    asked = np.tile(np.array([4, 0], dtype=np.int32), (len(moments), 1))
    expected = [[slow_demand(rushed, item, moment) for item in (4, 0)] for moment in moments]
    np.testing.assert_allclose(Trends.of(rushed, LIVES).at(asked, moments), expected, atol=1e-4)


def test_what_came_after_the_request_changes_nothing(dataset):
    moment = START + 100 * DAY
    kept = dataset.histories.timestamp < moment
    histories = dataset.histories
    later = histories.item_index.copy()
    later[~kept] = N_ITEMS - 1
    poisoned = dataset_of(later, histories.timestamp, histories.event_index, N_ITEMS)
    items, moments = np.arange(N_ITEMS, dtype=np.int32)[None, :], np.array([moment])
    np.testing.assert_array_equal(
        Trends.of(dataset, LIVES).at(items, moments), Trends.of(poisoned, LIVES).at(items, moments)
    )


def test_queries_of_one_batch_do_not_touch_each_other(dataset):
    trends = Trends.of(dataset, LIVES)
    moments = np.array([START + 20 * DAY, START + 400 * DAY, NO_TIMESTAMP, START + 301 * DAY])
    items = np.tile(np.array([3, -1, 0, N_ITEMS + 5], dtype=np.int32), (len(moments), 1))
    together = trends.at(items, moments)
    one_by_one = [trends.at(items[row : row + 1], moments[row : row + 1])[0] for row in range(len(moments))]
    # A table is made for a whole hour, sums of other moments exactly; the steps differ by a hundredth.
    np.testing.assert_allclose(together, one_by_one, rtol=0.03, atol=0.01)
    assert (together[:, [1, 3]] == 0).all(), "padding and items that came later have no demand"


def steps_of(items: list[int], moments: list[int]) -> Steps:
    return Steps(
        Histories.empty(len(items)),
        np.array(items, dtype=np.int32),
        np.ones(len(items), dtype=np.int16),
        np.array(moments, dtype=np.int64),
    )


def test_absorbed_events_are_demand_of_now_in_whatever_portions_they_come(dataset):
    now = START + 310 * DAY
    steps = steps_of([N_ITEMS - 1, 2, N_ITEMS, N_ITEMS - 1], [now - 9, now - 7, now - 5, now - 1])
    at_once, one_by_one = Trends.of(dataset, LIVES), Trends.of(dataset, LIVES)
    at_once.absorb(steps)
    for place in range(len(steps)):
        one_by_one.absorb(steps.slice(place, place + 1))
    items = np.arange(N_ITEMS + 1, dtype=np.int32)[None, :]
    demand = at_once.at(items, np.array([now]))
    np.testing.assert_array_equal(demand, one_by_one.at(items, np.array([now])))
    assert demand[0, N_ITEMS - 1, 0] == pytest.approx(np.log(3), rel=0.02), "two purchases, untouched before"
    assert demand[0, N_ITEMS, 0] == pytest.approx(np.log(2), rel=0.02), "it arrived after training"


def test_an_event_whose_clock_is_ahead_hides_none_that_were_absorbed(dataset):
    now = START + 310 * DAY
    trends = Trends.of(dataset, LIVES)
    trends.absorb(steps_of([N_ITEMS - 1, 2], [now - 9, now + 3600]))
    items = np.tile(np.array([N_ITEMS - 1], dtype=np.int32), (2, 1))
    alone, apart = trends.at(items[:1], np.array([now])), trends.at(items, np.array([now, now + 2 * DAY]))
    assert alone[0, 0, 0] == pytest.approx(np.log(2), rel=0.02)
    assert apart[0, 0, 0] == pytest.approx(np.log(2), rel=0.02)
    assert apart[1, 0, 0] == pytest.approx(np.log1p(2 ** (-2 / LIVES[0])), rel=0.03)


def test_sums_survive_their_state(dataset):
    trends = Trends.of(dataset, LIVES)
    trends.absorb(steps_of([1], [START + 310 * DAY]))
    restored = Trends.from_state(trends.state())
    items = np.tile(np.arange(N_ITEMS, dtype=np.int32), (2, 1))
    moments = np.array([START + 77 * DAY, START + 311 * DAY])
    np.testing.assert_array_equal(restored.at(items, moments), trends.at(items, moments))


def test_without_moments_or_horizons_there_are_no_trends(dataset):
    histories = dataset.histories
    nothing = np.full(histories.n_events, NO_TIMESTAMP)
    timeless = dataset_of(histories.item_index, nothing, histories.event_index, N_ITEMS)
    assert Trends.of(timeless, LIVES) is None
    assert Trends.of(dataset, ()) is None


def fashions(n_users: int = 300) -> Dataset:
    """Two things of every day, with one between them that is in fashion; then two more in fashion.

    In training nobody has two things in fashion, so only the moment tells which ones come next.
    """
    random = np.random.default_rng(1)
    day = np.sort(random.integers(0, 600, n_users))
    rows = []
    for each in day:
        daily, fashion = random.integers(100, 120, 2), random.choice(10, 3, replace=False)
        fashion += 10 * (int(each) // 60)
        rows.append(np.array([daily[0], fashion[0], daily[1], fashion[1], fashion[2]]))
    timestamp = np.repeat(START + day * DAY, 5) + np.tile(np.arange(5), n_users)
    histories = Histories.of_items(rows)
    histories = Histories(
        histories.offsets, histories.item_index, histories.event_index, timestamp, histories.value
    )
    table = pl.DataFrame({"item_id": [f"i{item}" for item in range(120)]})
    return Dataset(
        "fashions", Catalogue.from_table(table), Vocabulary([f"u{u}" for u in range(n_users)]), histories
    )


def trained(split, days: tuple[float, ...]) -> Pipeline:
    config = PipelineConfig(
        sources={"item_graph": {"choose_on_validation": False}, "popularity": {}},
        merge=MergeConfig(trend_days=days),
    )
    pipeline = Pipeline(config)
    pipeline.fit(TrainingData(split.train, pipeline.language, split.validation))
    return pipeline


def hits(pipeline: Pipeline, examples) -> float:
    slates = pipeline.recommend(examples.queries, 5, Wishes()).item_index
    targets = np.asarray(examples.targets.values)[examples.targets.offsets[:-1]]
    return float((slates == targets[:, None]).any(axis=1).mean())


def test_what_is_in_fashion_is_learned_asked_for_and_kept(tmp_path):
    split = leave_last_out(fashions())
    with_trends, without = trained(split, LIVES), trained(split, ())
    assert hits(with_trends, split.test) > 2 * hits(without, split.test)
    strangers = Queries.of_histories(Histories.empty(1))
    asked = Queries(strangers.user_index, strangers.histories, np.array([START + 330 * DAY]))
    found, found_without = (
        each.recommend(asked, 8, Wishes()).item_index[0].tolist() for each in (with_trends, without)
    )
    not_of_then = {*range(50), *range(60, 100)}
    wrong, wrong_without = (len(not_of_then.intersection(each)) for each in (found, found_without))
    assert wrong_without, "what is over, and what nobody knows yet"
    assert wrong == 0
    save_bundle(with_trends, tmp_path / "bundle", facts={})
    again = load_bundle(tmp_path / "bundle").recommend(asked, 8, Wishes())
    assert again.item_index[0].tolist() == found


def test_a_sudden_fashion_lifts_an_item_at_once():
    split = leave_last_out(fashions())
    pipeline = trained(split, LIVES)
    now = START + 640 * DAY
    strangers = Queries.of_histories(Histories.empty(1))
    asked = Queries(strangers.user_index, strangers.histories, np.array([now]))
    before = pipeline.recommend(asked, 5, Wishes()).item_index[0].tolist()
    absorb(pipeline, steps_of([7] * 30, [now - 60] * 30))
    after = pipeline.recommend(asked, 5, Wishes()).item_index[0].tolist()
    assert 7 not in before
    assert after[0] == 7


def test_a_kind_of_event_that_speaks_against_an_item_is_no_demand(dataset):
    against = replace(dataset, event_weights=np.array([-3.0, 4.0], dtype=np.float32))
    without = replace(dataset, event_weights=np.array([0.0, 4.0], dtype=np.float32))
    items = np.tile(np.arange(N_ITEMS, dtype=np.int32), (2, 1))
    moments = np.array([START + 100 * DAY, NO_TIMESTAMP])
    demand = Trends.of(against, LIVES).at(items, moments)
    np.testing.assert_array_equal(demand, Trends.of(without, LIVES).at(items, moments))


@pytest.mark.parametrize("days", [float("inf"), float("nan"), 0.0])
def test_a_half_life_must_be_a_number_of_days(days):
    with pytest.raises(ConfigError, match="trend_days"):
        MergeConfig.parse({"trend_days": [15.0, days]}, where="merge")
