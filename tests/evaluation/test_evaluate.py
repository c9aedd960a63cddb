"""Evaluations whose figures are known."""

import json
import math

import numpy as np
import polars as pl
import pytest

from zhiyin.contracts import best_of
from zhiyin.domain import Candidates, Catalogue, Examples, Histories, Queries, Ragged
from zhiyin.domain.errors import ConfigError, DataError, RequestError, ShapeMismatch
from zhiyin.evaluation.evaluate import evaluate
from zhiyin.evaluation.evaluation import RunRecord
from zhiyin.evaluation.guards import InvalidSlate
from zhiyin.evaluation.protocol import CatalogueFacts, EvaluationSettings, categories_of
from zhiyin.sources.popularity import Popularity
from zhiyin.testing.worlds import popular

SCORES = [[9, 8, 7, 6], [9, 8, 7, 6], [9, 8, 7, 6]]


def test_three_queries_by_hand(judged):
    """Targets on ranks 1, 2 (after masking item 0) and 4."""
    evaluation = judged.evaluation(SCORES, [[], [0], []], [[0], [2], [3]])
    assert evaluation.values["recall_at_2"].tolist() == [1, 1, 0]
    assert evaluation.mean("mrr_at_2") == pytest.approx((1 + 0.5 + 0) / 3)
    assert evaluation.mean("ndcg_at_2") == pytest.approx((1 + 1 / math.log2(3)) / 3)
    assert evaluation.mean("coverage_at_2") == pytest.approx(3 / 4)
    assert evaluation.slates.item_index.tolist() == [[0, 1], [1, 2], [0, 1]]
    assert evaluation.history_length.tolist() == [0, 1, 0]


def test_a_target_unseen_in_training_is_a_miss_in_the_headline_only(judged):
    evaluation = judged.evaluation(SCORES, [[], [], []], [[0], [1], [0]], counts=[0, 5, 5, 5])
    assert evaluation.values["recall_at_2"].tolist() == [0, 1, 0]
    assert evaluation.ranked.rank.tolist() == [1, 2, 1]
    assert evaluation.target_is_seen.tolist() == [False, True, False]
    assert evaluation.record(RunRecord("d", "r"))["n_targets_unseen_in_training"] == 2


def test_a_target_outside_the_catalogue_is_a_miss(judged):
    evaluation = judged.evaluation(SCORES[:1], [[]], [[77]])
    assert evaluation.mean("recall_at_2") == 0.0


@pytest.mark.parametrize(("n_tied", "rank"), [(3, 2.0), (4, 2.5), (8, math.inf)])
def test_ties_across_the_cut_share_the_average_rank(judged, n_tied, rank):
    """All items tied: with 3 of them the target has rank 2 and is a hit at 2; with 4, rank 2.5, a miss."""
    evaluation = judged.evaluation(np.ones((1, n_tied)), [[]], [[n_tied - 1]])
    found = evaluation.ranked.rank[0]
    assert found == rank or (rank == math.inf and found > 2)
    assert evaluation.mean("recall_at_2") == (1.0 if rank == 2.0 else 0.0)


@pytest.mark.parametrize("n_items", [5, 9, 30])
@pytest.mark.parametrize("n_tied", [1, 2, 3, 4, 5])
def test_asking_twice_as_deep_settles_every_tie(judged, scripted, n_items, n_tied):
    """Against the ranks of the whole catalogue, for every place where a tied block may begin."""
    examples = judged.examples([[]] * n_items, [[i] for i in range(n_items)])
    scores = np.repeat([-(np.arange(n_items) // n_tied)], n_items, axis=0)
    settings = EvaluationSettings(at=(1, 2, 3), n_resamples=100)
    facts = judged.facts(np.ones(n_items))
    evaluation = evaluate(scripted(scores), examples, facts=facts, settings=settings)
    first = np.arange(n_items) // n_tied * n_tied
    true_rank = (first + 1 + np.minimum(first + n_tied, n_items)) / 2
    for k in settings.at:
        assert evaluation.values[f"recall_at_{k}"].tolist() == (true_rank <= k).tolist()


def test_chunks_bound_what_is_asked_at_once_and_change_nothing(judged, scripted):
    rng = np.random.default_rng(3)
    examples = judged.examples([[]] * 25, rng.integers(12, size=(25, 2)))
    facts, scores = judged.facts(np.arange(12)), rng.integers(5, size=(25, 12))
    recommender = scripted(scores)
    settings = EvaluationSettings(at=(3,), chunk_size=10, n_resamples=100)
    small = evaluate(recommender, examples, facts=facts, settings=settings)
    assert recommender.asked == [(10, 6), (10, 6), (5, 6)]
    whole = evaluate(scripted(scores), examples, facts=facts, settings=EvaluationSettings(at=(3,)))
    for name, values in whole.values.items():
        np.testing.assert_array_equal(values, small.values[name], err_msg=name)
    np.testing.assert_array_equal(whole.slates.item_index, small.slates.item_index)
    assert whole.queries_digest == small.queries_digest


def test_short_slates_are_padded(judged):
    evaluation = judged.evaluation([[2.0, math.nan, math.nan]], [[]], [[0]], at=(3,))
    assert evaluation.slates.item_index.tolist() == [[0, -1, -1]]
    assert evaluation.mean("recall_at_3") == 1.0
    assert evaluation.mean("popularity_at_3") == 1.0


def test_a_recommender_with_nothing_to_say(judged):
    evaluation = judged.evaluation(np.full((2, 3), np.nan), [[], []], [[0], [1]])
    assert evaluation.mean("recall_at_2") == 0.0
    assert evaluation.mean("coverage_at_2") == 0.0
    assert math.isnan(evaluation.mean("novelty_at_2"))
    assert math.isnan(evaluation.mean("gini_at_2"))
    record = json.loads(json.dumps(evaluation.record(RunRecord("d", "r")), allow_nan=False))
    assert record["metrics"]["gini_at_2"] == {"value": None, "interval": None}


class Fixed:
    """Always the same slate."""

    def __init__(self, items):
        self.items = items

    def recommend(self, queries, n):
        items = np.array(self.items, dtype=np.int32)
        return Candidates(items, {"score": np.zeros(items.shape, dtype=np.float32)})


@pytest.mark.parametrize(
    ("slate", "message"),
    [
        ([[1, 2, 1]], "holds item 1 twice"),
        ([[0, 1, 2]], "item 0, which the user already has"),
        ([[1, 9]], "item index 9; the catalogue has 4 items"),
        ([[1, -2]], "catalogue has 4 items"),
        ([[1], [2]], "1 queries were answered with 2 slates"),
    ],
)
def test_slates_that_cannot_be_judged_are_refused(judged, slate, message):
    with pytest.raises(InvalidSlate, match=message):
        evaluate(Fixed(slate), judged.examples([[0]], [[3]]), facts=judged.facts([1, 1, 1, 1]))


def test_items_the_user_has_are_welcome_where_repeats_are(judged, scripted):
    examples = judged.examples([[0]], [[0]])
    settings = EvaluationSettings(at=(1,), repeat=True, n_resamples=100)
    recommender = scripted(np.array([[5.0, 1.0]]), mask=False)
    evaluation = evaluate(recommender, examples, facts=judged.facts([3, 3]), settings=settings)
    assert evaluation.mean("recall_at_1") == 1.0


def test_examples_without_targets_are_refused(judged, scripted):
    facts = judged.facts([1, 1])
    with pytest.raises(DataError, match="nothing to evaluate on"):
        evaluate(scripted(np.zeros((0, 2))), judged.examples([], []), facts=facts)
    with pytest.raises(DataError, match="1 of 2 examples have no target"):
        evaluate(scripted(np.zeros((2, 2))), judged.examples([[], []], [[1], []]), facts=facts)


def test_sampled_negatives_are_not_offered():
    with pytest.raises(ConfigError, match=r"'evaluation\.n_negatives' is not known"):
        EvaluationSettings.parse({"n_negatives": 100}, where="evaluation")
    with pytest.raises(ConfigError):
        EvaluationSettings.parse({"at": ()}, where="evaluation")


def test_an_unmeasured_metric_is_named(judged):
    evaluation = judged.evaluation(SCORES[:1], [[]], [[0]])
    with pytest.raises(RequestError, match="Did you mean 'recall_at_2'"):
        evaluation.mean("recal_at_2")
    with pytest.raises(RequestError, match="coverage_at_5"):
        evaluation.interval("coverage_at_5")


def test_the_record_holds_what_a_table_needs(judged):
    evaluation = judged.random(n_queries=50)
    run = RunRecord("toy", "fast", seed=3, fit_seconds=1.5, command="zhiyin evaluate toy")
    record = json.loads(json.dumps(evaluation.record(run), allow_nan=False))
    assert {key: record[key] for key in ("dataset", "recipe", "protocol", "seed", "at", "fit_seconds")} == {
        "dataset": "toy",
        "recipe": "fast",
        "protocol": "leave-last-out",
        "seed": 3,
        "at": [5, 10],
        "fit_seconds": 1.5,
    }
    assert record["n_queries"] == 50
    assert record["scoring_seconds"] > 0
    assert record["peak_memory_mb"] is None or record["peak_memory_mb"] > 10
    assert {"python", "numpy", "polars"} <= set(record["versions"])
    assert set(record["metrics"]) == set(evaluation.metrics)
    for metric, told in record["metrics"].items():
        if told["value"] is not None:
            assert told["interval"][0] <= told["value"] <= told["interval"][1], metric


def test_the_interval_agrees_with_the_normal_one(judged):
    """600 Bernoulli outcomes: the bootstrap must be within a tenth of mean ± 1.96 standard errors."""
    evaluation = judged.random(n_queries=600, n_resamples=1000)
    hits = evaluation.values["recall_at_10"]
    margin = 1.96 * hits.std() / math.sqrt(len(hits))
    interval = evaluation.interval("recall_at_10")
    assert interval.high - interval.value == pytest.approx(margin, rel=0.12)
    assert interval.value - interval.low == pytest.approx(margin, rel=0.12)
    assert judged.random(n_queries=600, n_resamples=1000).interval("recall_at_10") == interval


def test_a_single_query_has_an_interval_of_one_point(judged):
    interval = judged.evaluation(SCORES[:1], [[]], [[1]]).interval("recall_at_2")
    assert (interval.low, interval.value, interval.high) == (1.0, 1.0, 1.0)


def test_coverage_lies_inside_its_interval_although_resamples_cover_less(judged):
    evaluation = judged.random(n_queries=30, n_items=200)
    interval = evaluation.interval("coverage_at_5")
    assert 0 <= interval.low < interval.value < interval.high <= 1


def test_vectors_decide_diversity_before_categories(judged, scripted):
    examples = judged.examples([[]], [[0]])
    same = Ragged.from_rows([np.array([0])] * 2, np.int32)
    settings = EvaluationSettings(at=(2,), n_resamples=100)
    scores = np.array([[2.0, 1.0]])
    with_categories = judged.facts([1, 1], categories=same)
    with_both = judged.facts([1, 1], categories=same, vectors=np.eye(2, dtype=np.float32))
    for facts, expected in ((with_categories, 0.0), (with_both, 1.0)):
        evaluation = evaluate(scripted(scores), examples, facts=facts, settings=settings)
        assert evaluation.mean("diversity_at_2") == expected
    plain = evaluate(scripted(scores), examples, facts=judged.facts([1, 1]), settings=settings)
    assert "diversity_at_2" not in plain.metrics


def test_serendipity_leaves_out_the_most_popular(judged):
    evaluation = judged.evaluation(SCORES[:2], [[], []], [[0], [1]], counts=[9, 1, 8, 1])
    assert evaluation.values["serendipity_at_2"].tolist() == [0.0, 1.0]


def test_facts_must_be_about_the_same_items(judged):
    with pytest.raises(ShapeMismatch, match="2 items, but 3 vectors"):
        judged.facts([1, 1], vectors=np.eye(3, dtype=np.float32))


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ([["A > B", "A > C"], ["A>B"], [], None], [{"A", "A > B", "A > C"}, {"A", "A > B"}, set(), set()]),
        (["A > B", "C", None, ""], [{"A", "A > B"}, {"C"}, set(), {""}]),
    ],
)
def test_a_category_path_counts_as_all_its_beginnings(column, expected):
    table = pl.DataFrame({"item_id": list("wxyz"), "categories": column})
    numbered = categories_of(Catalogue.from_table(table))
    names = sorted(set().union(*expected))
    found = [{names[number] for number in numbered.row(item)} for item in range(4)]
    assert found == expected


def test_a_catalogue_without_categories():
    assert categories_of(Catalogue.from_table(pl.DataFrame({"item_id": ["a"]}))) is None


class Alone:
    """A source as a recommender."""

    def __init__(self, source):
        self.source = source

    def recommend(self, queries, n):
        return best_of(self.source.score_all(queries), n, column="score")


def test_popularity_finds_its_targets_in_a_world_where_all_follow_the_crowd():
    """Newcomers take one of the two most popular items; no order of them is better than the other."""
    world = popular()
    source = Popularity()
    source.fit(world.training)
    facts = CatalogueFacts.of_training(
        world.training.dataset, world.training.language.vectors(world.catalogue)
    )
    newcomers = Queries.of_histories(Histories.empty(10))
    examples = Examples(newcomers, Ragged.from_rows([np.array([n % 2]) for n in range(10)], np.int32))
    settings = EvaluationSettings(at=(1, 2), n_resamples=100)
    evaluation = evaluate(Alone(source), examples, facts=facts, settings=settings)
    assert evaluation.mean("hit_rate_at_2") == 1.0
    assert evaluation.mean("recall_at_1") == 0.5
    assert evaluation.mean("mrr_at_2") == 0.75
    assert evaluation.mean("coverage_at_2") == 2 / len(world.catalogue)
    assert "diversity_at_2" in evaluation.metrics
