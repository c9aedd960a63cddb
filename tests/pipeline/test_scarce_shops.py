"""Pipelines of shops in which almost nothing has happened."""

import numpy as np
import polars as pl

from zhiyin.contracts import Steps, TrainingData
from zhiyin.data.dataset import Dataset
from zhiyin.data.splits import leave_last_out
from zhiyin.domain import Catalogue, Histories, Queries, Vocabulary, Wishes
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.pipeline.settings import PipelineConfig
from zhiyin.policy.new_items import NewItems


def test_a_shop_without_anything_to_validate_on_may_keep_places_for_new_items() -> None:
    rows = [np.array([user % 3], dtype=np.int32) for user in range(6)]
    catalogue = Catalogue.from_table(pl.DataFrame({"item_id": [f"i{item}" for item in range(4)]}))
    users = Vocabulary([f"u{user}" for user in range(len(rows))])
    split = leave_last_out(Dataset("first day", catalogue, users, Histories.of_items(rows)))
    assert not len(split.validation)
    pipeline = Pipeline(PipelineConfig(sources={"popularity": {}}, new_items={"slots": 1}))
    pipeline.fit(TrainingData(split.train, pipeline.language, split.validation))
    slate = pipeline.recommend(Queries.of_histories(Histories.empty(1)), 4)
    assert sorted(slate.item_index[slate.is_item].tolist()) == [0, 1, 2, 3]


def test_nobody_asks_and_nobody_is_answered() -> None:
    pipeline, queries = shop_with_two_new_items()
    nobody = queries.take(np.arange(0))
    for wishes in (Wishes(), Wishes(diversity=0.5), Wishes(repeat=True)):
        assert pipeline.recommend(nobody, 5, wishes).item_index.shape == (0, 5)


def shop_with_two_new_items(*sources: str, **new_items) -> tuple[Pipeline, Queries]:
    """Forty items, popular ones first; a hundred users have touched all but 30 and 35."""
    rng = np.random.default_rng(0)
    chance = np.where(np.isin(np.arange(40), (30, 35)), 0.0, 1.0 / (1.0 + np.arange(40)))
    rows = [rng.choice(40, size=6, replace=False, p=chance / chance.sum()) for _ in range(100)]
    catalogue = Catalogue.from_table(pl.DataFrame({"item_id": [f"i{item}" for item in range(40)]}))
    users = Vocabulary([f"u{user}" for user in range(len(rows))])
    histories = Histories.of_items([row.astype(np.int32) for row in rows])
    split = leave_last_out(Dataset("shelves", catalogue, users, histories))
    settings = {"slots": 2, "place": 10, "most_lost": 1.0, **new_items}
    pipeline = Pipeline(
        PipelineConfig(
            sources={name: {} for name in ("item_graph", *sources, "popularity")},
            merge={"n_candidates": 12},
            new_items=settings,
        )
    )
    pipeline.fit(TrainingData(split.train, pipeline.language, split.validation))
    return pipeline, Queries.of_histories(Histories.of_items([np.array([3], dtype=np.int32)]))


def test_new_items_get_their_places_though_nothing_proposes_them_by_itself() -> None:
    pipeline, queries = shop_with_two_new_items()
    slate = pipeline.recommend(queries, 10).item_index[0].tolist()
    assert set(slate[8:]) == {30, 35}
    unkept, _ = shop_with_two_new_items(slots=0)
    assert not {30, 35} & set(unkept.recommend(queries, 10).item_index[0].tolist())


def test_new_items_that_may_not_be_shown_get_no_place() -> None:
    pipeline, queries = shop_with_two_new_items()
    pipeline.remove_items(np.array([30], dtype=np.int32))
    slate = pipeline.recommend(queries, 10).item_index[0].tolist()
    assert 35 in slate[8:]
    assert 30 not in slate
    only_old = np.arange(40) < 20
    assert max(pipeline.recommend(queries, 10, Wishes(allowed=only_old)).item_index[0]) < 20


def test_places_for_new_items_leave_the_order_of_all_others_as_it_is() -> None:
    """Items with up to six events count as new here, so that sources have much to say of them."""
    pipeline, _ = shop_with_two_new_items("item_neighbours", max_events=6, bound=1e9)
    random = np.random.default_rng(4)
    pipeline.merge.weights[:, :2] = random.random((2, 3)) * (0.1, 1.0, 1.0)
    rows = [random.choice(30, 3).astype(np.int32) for _ in range(60)]
    asked = Queries.of_histories(Histories.of_items(rows))
    kept = pipeline.recommend(asked, 12).item_index.tolist()
    pipeline.new_items = NewItems()
    unkept = pipeline.recommend(asked, 12).item_index.tolist()
    assert kept != unkept, "new items rise by their scores"
    for with_places, without in zip(kept, unkept, strict=True):
        both = set(with_places).intersection(without)
        assert [item for item in with_places if item in both] == [item for item in without if item in both]


def test_where_nothing_speaks_for_any_new_item_the_last_of_the_catalogue_come_first() -> None:
    catalogue = Catalogue.from_table(pl.DataFrame({"item_id": [f"i{item}" for item in range(60)]}))
    rows = [np.array([user % 20, (user + 1) % 20, (user + 2) % 20], dtype=np.int32) for user in range(60)]
    users = Vocabulary([f"u{user}" for user in range(len(rows))])
    split = leave_last_out(Dataset("dead stock", catalogue, users, Histories.of_items(rows)))
    kept = {"slots": 2, "place": 5, "most_lost": 1.0}
    pipeline = Pipeline(
        PipelineConfig(
            sources={"item_neighbours": {}, "popularity": {}}, new_items=kept, merge={"n_candidates": 5}
        )
    )
    pipeline.fit(TrainingData(split.train, pipeline.language, split.validation))
    history = Histories.of_items([np.array([3, 58], dtype=np.int32)])
    slate = pipeline.recommend(Queries.of_histories(history), 5).item_index[0].tolist()
    assert max(slate[:3]) < 20
    assert all(50 <= item < 60 and item != 58 for item in slate[3:]), slate


def test_an_item_that_is_touched_leaves_the_place_to_others() -> None:
    pipeline, queries = shop_with_two_new_items(slots=1)
    first = int(pipeline.recommend(queries, 10).item_index[0, 9])
    touched = np.array([first], dtype=np.int32)
    pipeline.counts.absorb(Steps(Histories.empty(1), touched, np.zeros(1, np.int16), np.zeros(1, np.int64)))
    assert int(pipeline.recommend(queries, 10).item_index[0, 9]) == ({30, 35} - {first}).pop()


def test_where_no_item_is_new_any_more_slates_are_as_without_places() -> None:
    pipeline, queries = shop_with_two_new_items()
    touched = np.array([30, 35], dtype=np.int32)
    pipeline.counts.absorb(Steps(Histories.empty(2), touched, np.zeros(2, np.int16), np.zeros(2, np.int64)))
    slate = pipeline.recommend(queries, 10).item_index
    pipeline.new_items = NewItems()
    np.testing.assert_array_equal(slate, pipeline.recommend(queries, 10).item_index)
