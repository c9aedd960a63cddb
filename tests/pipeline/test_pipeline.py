"""The pipeline: what it promises whatever its sources are."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from zhiyin.contracts import TrainingData
from zhiyin.domain import Histories, Queries, Wishes
from zhiyin.domain.errors import NotFitted, ShapeMismatch
from zhiyin.pipeline import pipeline as whole
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.pipeline.recipes import recipe

N_ITEMS = 24


def asking(*histories: list[int]) -> Queries:
    return Queries.of_histories(Histories.of_items([np.array(row, dtype=np.int32) for row in histories]))


def test_it_continues_the_walk(trained, split):
    slate = trained.recommend(split.test.queries, 1)
    assert (slate.item_index == split.test.targets.values[:, None]).mean() > 0.9


def test_one_query_alone_equals_its_row_of_a_batch(trained, split):
    batch = trained.recommend(split.test.queries, 5)
    for row in (0, 17):
        alone = trained.recommend(split.test.queries.take(np.array([row])), 5)
        np.testing.assert_array_equal(alone.item_index[0], batch.item_index[row])
        np.testing.assert_allclose(alone.column("score")[0], batch.column("score")[row], rtol=1e-5)


def test_slates_are_sorted_and_hold_each_item_once(trained, split):
    slate = trained.recommend(split.test.queries, N_ITEMS)
    scores = np.where(slate.is_item, slate.column("score"), -1e9)
    assert (np.diff(scores, axis=1) <= 0).all()
    for row in slate.item_index:
        items = row[row >= 0]
        assert len(set(items.tolist())) == len(items)


def test_sources_in_short_steps_are_asked_after_the_others_and_fallbacks_last(split):
    pipeline = Pipeline(recipe("fast", {"sources.ease": "{}"}))
    pipeline.fit(TrainingData(split.train, pipeline.language, split.validation))
    told: list[str] = []
    pipeline.stages.observe = lambda stage, _: told.append(stage)
    pipeline.recommend(split.test.queries, 3)
    proposing = [stage.removeprefix("propose ") for stage in told if stage.startswith("propose ")]
    assert [source.name for source in pipeline.sources] == ["item_graph", "popularity", "ease"]
    assert proposing == ["ease", "item_graph", "popularity"]


def test_what_the_user_has_comes_only_on_request(trained):
    queries = asking([0, 2, 4])
    assert not set(trained.recommend(queries, N_ITEMS).item_index[0]) & {0, 2, 4}
    assert {0, 2} & set(trained.recommend(queries, N_ITEMS, Wishes(repeat=True)).item_index[0])


def test_parts_of_the_sources_add_up_to_the_score(trained):
    slate = trained.recommend(asking([0, 2, 4]), 5)
    total = sum(slate.column(f"{source}:part") for source in ("item_graph", "popularity"))
    np.testing.assert_allclose(total, slate.column("score"), rtol=1e-5)


def test_a_stranger_gets_what_is_popular(trained, split):
    slate = trained.recommend(asking([]), 3)
    counts = split.train.item_counts
    assert counts[slate.item_index[0]].tolist() == sorted(counts, reverse=True)[:3]


@pytest.mark.parametrize("n", [1, 5, 12])
def test_a_fallback_fills_every_place_whatever_it_proposes_otherwise(trained, monkeypatch, n):
    monkeypatch.setattr(whole, "_FALLBACK_PLACES", 1)
    assert trained.recommend(asking([]), n).is_item.all()
    mixed = trained.recommend(asking([]), n, Wishes(diversity=0.9)).item_index[0]
    monkeypatch.undo()
    assert mixed.tolist() == trained.recommend(asking([]), n, Wishes(diversity=0.9)).item_index[0].tolist()


def test_company_in_a_batch_changes_no_answer(trained):
    together = trained.recommend(asking([0, 2, 4], [], [1], [3, 5, 7, 9]), 6)
    for row, history in enumerate([[0, 2, 4], [], [1], [3, 5, 7, 9]]):
        alone = trained.recommend(asking(history), 6)
        assert together.item_index[row].tolist() == alone.item_index[0].tolist()


def test_long_histories_are_looked_at_few_at_a_time(trained, monkeypatch):
    asked = []
    ask = type(trained.sources[0]).ask
    monkeypatch.setattr(
        type(trained.sources[0]),
        "ask",
        lambda source, queries: (asked.append(queries.histories.n_events), ask(source, queries))[1],
    )
    histories = [[first, first + 2, first + 4, first + 6, first + 8] for first in range(12)]
    at_once = trained.recommend(asking(*histories), 6)
    assert asked == [60]
    monkeypatch.setattr(whole, "_EVENTS_AT_ONCE", 20)
    few_at_a_time = trained.recommend(asking(*histories), 6)
    assert asked == [60, 20, 20, 20]
    assert few_at_a_time.item_index.tolist() == at_once.item_index.tolist()


def test_only_allowed_items_come_however_few(trained):
    allowed = np.zeros(N_ITEMS, dtype=bool)
    allowed[[3, 9]] = True
    slate = trained.recommend(asking([0, 2]), 5, Wishes(allowed=allowed))
    assert set(slate.item_index[0]) == {3, 9, -1}


def test_rules_for_another_catalogue_are_refused(trained):
    with pytest.raises(ShapeMismatch, match="catalogue of 3"):
        trained.recommend(asking([0]), 5, Wishes(allowed=np.ones(3, dtype=bool)))


def test_a_boost_lifts_an_item_to_the_top(trained):
    boost = np.zeros(N_ITEMS, dtype=np.float32)
    boost[7] = 1000.0
    assert trained.recommend(asking([0, 2]), 3, Wishes(boost=boost)).item_index[0, 0] == 7


def test_diversity_mixes_the_colours(trained):
    plain = trained.recommend(asking([0, 2, 4]), 6)
    mixed = trained.recommend(asking([0, 2, 4]), 6, Wishes(diversity=0.9))
    assert mixed.item_index[0, 0] == plain.item_index[0, 0]
    assert (mixed.item_index[0] % 2).sum() > (plain.item_index[0] % 2).sum()


def test_similar_items_do_not_hold_the_item_itself(trained):
    slate = trained.similar(np.array([4], dtype=np.int32), 3)
    assert slate.item_index[0, 0] == 6
    assert 4 not in slate.item_index[0]


def test_search_finds_words(trained):
    found = trained.search(["blue thing f", "nothing of that"], 3)
    assert found.item_index[0, 0] == 5
    assert (found.item_index[1] == -1).all()


def test_a_new_item_can_be_recommended_at_once(pipeline):
    pipeline.add_items(pl.DataFrame({"item_id": ["new"], "title": ["blue thing j"]}))
    assert pipeline.search(["blue thing j"], 5).item_index[0].tolist().count(N_ITEMS) == 1
    allowed = np.zeros(N_ITEMS + 1, dtype=bool)
    allowed[[N_ITEMS, 0]] = True
    slate = pipeline.recommend(asking([1, 3, 9]), 2, Wishes(allowed=allowed))
    assert slate.item_index[0, 0] == N_ITEMS
    assert pipeline.similar(np.array([N_ITEMS]), 1).item_index[0, 0] % 2 == 1


def test_items_that_a_source_cannot_take_leave_everything_as_it_was(pipeline, monkeypatch):
    def fail(*_: object) -> None:
        raise ValueError("no room")

    before = pipeline.recommend(asking([1, 3, 9]), 5)
    monkeypatch.setattr(type(pipeline.sources[-1]), "add_items", fail)
    pipeline.remove_items(np.array([6]))
    with pytest.raises(ValueError, match="no room"):
        pipeline.add_items(pl.DataFrame({"item_id": ["new", "i6"], "title": ["blue thing j", "red thing g"]}))
    assert len(pipeline.catalogue) == N_ITEMS
    assert pipeline.removed[6]
    np.testing.assert_array_equal(pipeline.recommend(asking([1, 3, 9]), 5).item_index, before.item_index)


def test_a_known_item_is_described_anew(pipeline):
    pipeline.add_items(pl.DataFrame({"item_id": ["i3", "i4"], "title": ["violet lamp", "violet chair"]}))
    assert len(pipeline.catalogue) == N_ITEMS
    assert set(pipeline.search(["violet"], 5).item_index[0]) == {-1}  # not a word of the trained index
    assert pipeline.catalogue.table["title"][3] == "violet lamp"
    pipeline.add_items(pl.DataFrame({"item_id": ["i3"], "title": ["blue thing d"]}))
    assert pipeline.search(["blue thing d"], 1).item_index[0, 0] == 3


def test_a_removed_item_never_comes_again_unless_it_is_added(pipeline):
    pipeline.remove_items(np.array([6], dtype=np.int32))
    everywhere = [
        pipeline.recommend(asking([0, 2, 4]), N_ITEMS),
        pipeline.similar(np.array([4]), N_ITEMS),
        pipeline.search(["red"], N_ITEMS),
    ]
    assert not any((slate.item_index == 6).any() for slate in everywhere)
    pipeline.add_items(pl.DataFrame({"item_id": ["i6"], "title": ["red thing g"]}))
    assert (pipeline.recommend(asking([0, 2, 4]), N_ITEMS).item_index == 6).any()


def test_users_are_known_by_their_ids(trained):
    queries = trained.queries_for(["u3", "stranger", "u0"])
    assert queries.user_index.tolist() == [3, -1, 0]
    lengths = trained.histories.lengths
    assert queries.histories.lengths.tolist() == [lengths[3], 0, lengths[0]]


def test_a_failing_source_is_skipped_and_counted_only_while_serving(pipeline, monkeypatch):
    graph = next(source for source in pipeline.sources if source.name == "item_graph")
    monkeypatch.setattr(graph, "ask", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pipeline.recommend(asking([0]), 3)
    pipeline.stages.is_tolerant = True
    slate = pipeline.recommend(asking([0]), 3)
    assert slate.is_item.all()
    assert pipeline.stages.failures == {"item_graph": 1}
    monkeypatch.setattr(graph, "because", lambda *_: 1 / 0)
    assert pipeline.explain(asking([0]), slate)[0][0].rank == 1
    assert pipeline.stages.failures == {"item_graph": 2}


def test_a_source_alone_answers_without_the_others(trained):
    popular = trained.only("popularity").recommend(asking([0, 2, 4]), 3)
    assert "item_graph" not in popular.columns
    np.testing.assert_array_equal(
        popular.item_index, trained.only("popularity").recommend(asking([4, 2, 0]), 3).item_index
    )


def test_an_explanation_names_the_item_it_goes_with(trained):
    queries = asking([0, 2, 4])
    first = trained.explain(queries, trained.recommend(queries, 2))[0][0]
    assert first.item_id == "i6"
    assert first.rank == 1
    assert first.reasons[0] == "goes with “red thing e”"
    assert set(first.sources) == {"item_graph", "popularity"}


def test_an_untrained_pipeline_says_so():
    with pytest.raises(NotFitted, match="load_bundle"):
        Pipeline(recipe("fast")).recommend(asking([0]), 3)


def test_chunks_do_not_show(trained, split, monkeypatch):
    whole = trained.recommend(split.test.queries, 4)
    monkeypatch.setattr("zhiyin.pipeline.pipeline._SCORES_AT_ONCE", 3 * N_ITEMS * 2)
    chunked = trained.recommend(split.test.queries, 4)
    np.testing.assert_array_equal(whole.item_index, chunked.item_index)


def test_context_travels_with_the_queries(trained):
    queries = asking([0], [2])
    with_context = replace(queries, context={"hour": np.array([3, 4])})
    assert with_context.take(np.array([1])).context["hour"].tolist() == [4]
    assert trained.recommend(with_context, 2).item_index.shape == (2, 2)
