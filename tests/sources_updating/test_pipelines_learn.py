"""Whole pipelines that absorb and are refreshed."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from zhiyin.contracts import Growth, Steps, TrainingData
from zhiyin.data.splits import leave_last_out
from zhiyin.domain import Histories, Queries
from zhiyin.pipeline import refreshing
from zhiyin.pipeline.absorbing import absorb, twin_of
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.pipeline.refreshing import refreshed
from zhiyin.pipeline.settings import PipelineConfig
from zhiyin.sources.item_graph.source import ItemGraph
from zhiyin.testing.absorb_contract import some_steps
from zhiyin.testing.tea_shop import tea_shop
from zhiyin.testing.toy_language import ToyLanguage
from zhiyin.testing.worlds import checkerboard

SOURCES = {"item_graph": {"choose_on_validation": False}, "item_neighbours": {}, "popularity": {}}


def trained(*, dated: bool = False, **settings: object) -> Pipeline:
    pipeline = Pipeline(PipelineConfig(sources=SOURCES, **settings), ToyLanguage())
    shop = tea_shop()
    if dated:
        moments = 1_600_000_000 + np.arange(shop.n_interactions, dtype=np.int64) * 3_600
        shop = replace(shop, histories=replace(shop.histories, timestamp=moments))
    split = leave_last_out(shop)
    pipeline.fit(TrainingData(split.train, pipeline.language, split.validation))
    return pipeline


def slate(pipeline: Pipeline, items: list[int]) -> list[int]:
    asked = Queries.of_histories(Histories.of_items([np.array(items)]))
    return pipeline.recommend(asked, 5).item_index[0].tolist()


def taken_together(first: int, second: int, times: int) -> Steps:
    histories = Histories.of_items([np.array([first, second])] * times)
    return Steps.of_histories(histories, np.arange(histories.n_events))


def test_a_pipeline_recommends_what_people_take_since_a_moment_ago():
    pipeline = trained()
    assert 1 not in slate(pipeline, [0]), "tea after coffee is new"
    absorb(pipeline, taken_together(0, 1, 40))
    assert slate(pipeline, [0])[0] == 1


def test_of_what_a_twin_absorbs_the_other_one_learns_nothing():
    pipeline = trained(dated=True, new_items={"slots": 1, "max_events": 100}, merge={"trend_days": [7.0]})
    parts = [*pipeline.sources, pipeline.trends, pipeline.counts]
    kept = [{name: array.copy() for name, array in part.state().arrays.items()} for part in parts]
    twin = twin_of(pipeline)
    assert slate(twin, [0]) == slate(pipeline, [0])
    dated = replace(taken_together(0, 1, 400), timestamp=np.full(800, 1_900_000_000))
    absorb(twin, dated)
    for part, before in zip(parts, kept, strict=True):
        for name, array in part.state().arrays.items():
            np.testing.assert_array_equal(array, before[name], err_msg=f"{part}, {name}")
    twins = [*twin.sources, twin.trends, twin.counts]
    assert all(
        any(not np.array_equal(array, before[name]) for name, array in part.state().arrays.items())
        for part, before in zip(twins, kept, strict=True)
    )


def test_a_pipeline_that_shall_not_absorb_waits():
    pipeline = trained(absorb=False)
    before = slate(pipeline, [0])
    absorb(pipeline, taken_together(0, 1, 40))
    assert slate(pipeline, [0]) == before


def test_a_source_that_fails_is_skipped_and_counted_while_serving(monkeypatch):
    pipeline = trained()

    def fail(_self, _steps):
        raise ValueError("broken")

    monkeypatch.setattr(ItemGraph, "absorb", fail)
    with pytest.raises(ValueError, match="broken"):
        absorb(pipeline, taken_together(0, 1, 3))
    pipeline.stages.is_tolerant = True
    absorb(pipeline, taken_together(0, 1, 3))
    assert pipeline.stages.failures == {"item_graph": 1}


def test_readers_never_see_half_of_what_is_absorbed():
    """Scores that others read while events come in are those before or after some portion, never torn."""
    world = checkerboard()
    source = ItemGraph(choose_on_validation=False)
    source.fit(world.training)
    steps = [some_steps(world, seed=seed) for seed in range(60)]
    possible = [source.score_all(world.queries)]
    other = ItemGraph(choose_on_validation=False)
    other.restore(source.state())
    for part in steps:
        other.absorb(part)
        possible.append(other.score_all(world.queries))
    seen, done = [], threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.append(source.score_all(world.queries))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for part in steps:
        source.absorb(part)
    done.set()
    for reader in readers:
        reader.join()
    assert seen
    for scores in seen:
        assert any(np.allclose(scores, one, equal_nan=True) for one in possible)


def test_the_merge_is_weighed_again_where_there_is_enough_and_kept_otherwise():
    pipeline = trained()
    split = leave_last_out(tea_shop())
    training = TrainingData(split.train, pipeline.language, split.validation)
    growth = Growth(np.zeros(split.train.n_interactions, dtype=np.bool_))
    before = pipeline.merge.weights.copy()
    kept = refreshed(pipeline, training, growth, fewest_to_weigh=1_000)
    np.testing.assert_array_equal(kept.merge.weights, before)
    pipeline.merge.weights[:, :2] = 7.0
    again = refreshed(pipeline, training, growth, fewest_to_weigh=10)
    np.testing.assert_allclose(again.merge.weights, before, rtol=1e-5)
    assert (pipeline.merge.weights[:, :2] == 7.0).all(), "the one it is made of stays as it was"
    asked = Queries.of_histories(split.test.queries.histories)
    expected = trained().recommend(asked, 5).item_index
    np.testing.assert_array_equal(again.recommend(asked, 5).item_index, expected)
    assert replace(training, validation=None).validation is None


def test_a_merge_that_was_never_weighed_begins_with_little(monkeypatch):
    monkeypatch.setattr(refreshing, "FEWEST_AT_FIRST", 10)
    split = leave_last_out(tea_shop())
    pipeline = Pipeline(PipelineConfig(sources=SOURCES), ToyLanguage())
    pipeline.fit(TrainingData(split.train, pipeline.language))
    assert pipeline.chances is None
    before = pipeline.merge.weights.copy()
    training = TrainingData(split.train, pipeline.language, split.validation)
    growth = Growth(np.zeros(split.train.n_interactions, dtype=np.bool_))
    after = refreshed(pipeline, training, growth, fewest_to_weigh=1_000)
    assert after.chances is not None
    assert (after.merge.weights != before).any()
    again = refreshed(after, training, growth, fewest_to_weigh=1_000)
    np.testing.assert_array_equal(again.merge.weights, after.merge.weights)


def test_a_pipeline_refreshed_without_validation_keeps_its_weights():
    pipeline = trained()
    dataset = tea_shop()
    growth = Growth(np.ones(dataset.n_interactions, dtype=np.bool_))
    after = refreshed(pipeline, TrainingData(dataset, pipeline.language), growth, fewest_to_weigh=0)
    np.testing.assert_array_equal(after.merge.weights, pipeline.merge.weights)
    assert len(after.users) == dataset.n_users
