"""The item graph, against edges counted by hand."""

from dataclasses import replace
from functools import partial

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from zhiyin.contracts import DenseOpinion, Silent, SparseOpinion, Steps, TrainingData
from zhiyin.data.dataset import Dataset
from zhiyin.data.splits import leave_last_out
from zhiyin.domain import NO_TIMESTAMP, Barred, Catalogue, Histories, Queries, Vocabulary
from zhiyin.sources.item_graph import walking
from zhiyin.sources.item_graph.choosing import ALTERNATIVES, choose_settings
from zhiyin.sources.item_graph.counts import decayed_sum, follower_counts, scaled, strongest
from zhiyin.sources.item_graph.measuring import GraphQuality
from zhiyin.sources.item_graph.settings import ItemGraphConfig
from zhiyin.sources.item_graph.source import ItemGraph
from zhiyin.testing.source_contract import CandidateSourceContract
from zhiyin.testing.worlds import chain, checkerboard
from zhiyin.training.selection import validation_ndcg

PLAIN = {
    "choose_on_validation": False, "text_weight": 0.0, "row_exponent": 0.0, "column_exponent": 0.0,
    "decay": 0.5, "backward": 0.25, "history_decay": 0.5, "window": 2,
}  # fmt: skip

COLOURS = ["red", "blue", "green"]


class TestItemGraph(CandidateSourceContract):
    source = ItemGraph
    solves = (checkerboard, chain)


class TestItemGraphWithoutChoosing(CandidateSourceContract):
    source = ItemGraph
    settings = {"choose_on_validation": False}  # noqa: RUF012
    solves = (partial(chain, n_users=80),)


def training_of(
    rows: list[list[int]], titles: list[str], events: list[list[int]] | None = None
) -> TrainingData:
    histories = Histories.of_items([np.array(row, dtype=np.int32) for row in rows])
    if events is not None:
        histories = replace(histories, event_index=np.concatenate(events).astype(np.int16))
    table = pl.DataFrame({"item_id": [f"i{i}" for i in range(len(titles))], "title": titles})
    users = Vocabulary([f"u{u}" for u in range(len(rows))])
    return TrainingData(Dataset("world", Catalogue.from_table(table), users, histories), language=None)


def asked(source: ItemGraph, history: list[int]) -> np.ndarray:
    return source.score_all(Queries.of_histories(Histories.of_items([np.array(history)])))[0]


def test_edges_are_decayed_counts_walked_from_the_newest_event():
    source = ItemGraph(**PLAIN)
    source.fit(training_of([[0, 1, 2]], ["a", "b", "c"]))
    # 0→1: 1, 0→2: .5 (two places on), 1→2: 1; backwards a quarter of each.
    np.testing.assert_allclose(asked(source, [0]), [np.nan, 1.0, 0.5])
    np.testing.assert_allclose(asked(source, [1]), [0.25, np.nan, 1.0])
    np.testing.assert_allclose(asked(source, [0, 1]), [0.25, 0.5, 1.0 + 0.5 * 0.5])


def test_view_cart_and_purchase_of_one_item_are_one_step():
    once, thrice = ItemGraph(**PLAIN), ItemGraph(**PLAIN)
    once.fit(training_of([[0, 1, 2]], ["a", "b", "c"]))
    thrice.fit(training_of([[0, 0, 0, 1, 1, 2]], ["a", "b", "c"]))
    np.testing.assert_allclose(asked(thrice, [0, 1, 1]), asked(once, [0, 1]))


def test_events_count_by_their_weight():
    training = training_of([[0, 1], [0, 2]], ["a", "b", "c"], events=[[0, 1], [0, 0]])
    weighed = replace(
        training.dataset, event_kinds=("view", "purchase"), event_weights=np.array([1, 4], dtype=np.float32)
    )
    source = ItemGraph(**PLAIN)
    source.fit(replace(training, dataset=weighed))
    scores = asked(source, [0])
    assert scores[1] == pytest.approx(4 * scores[2])


def test_an_untouched_item_is_reached_through_its_words():
    titles = ["red nail polish", "garden hose", "blue nail polish"]
    source = ItemGraph(**PLAIN | {"text_weight": 1.0})
    source.fit(training_of([[0, 1]], titles))
    scores = asked(source, [0])
    assert scores[2] > 0
    assert np.isnan(asked(graph_without_text(titles), [0])[2])


def graph_without_text(titles: list[str]) -> ItemGraph:
    source = ItemGraph(**PLAIN)
    source.fit(training_of([[0, 1]], titles))
    return source


def test_the_reason_is_the_strongest_edge_of_the_history():
    source = ItemGraph(**PLAIN)
    source.fit(training_of([[0, 1, 2], [0, 3]], ["a", "b", "c", "d"]))
    queries = Queries.of_histories(Histories.of_items([np.array([0, 1])]))
    because = source.because(queries, np.array([[2, 3, -1]], dtype=np.int32))
    assert because.tolist() == [[1, 0, -1]]


def test_reasons_reach_arrivals_and_come_from_them():
    source = ItemGraph(**{**PLAIN, "text_weight": 0.5})
    source.fit(training_of([[0, 1]], ["red cup", "blue plate", "green fork"]))
    new = pl.DataFrame({"item_id": ["n0", "n1"], "title": ["green fork", "blue plate"]})
    source.add_items(Catalogue.from_table(new), None)
    queries = Queries.of_histories(Histories.of_items([np.array([2, 0]), np.array([3])]))
    shown = np.array([[3, 1, 4], [2, 1, 4]], dtype=np.int32)
    assert source.because(queries, shown).tolist() == [[2, 0, -1], [3, -1, -1]]


def test_choosing_climbs_to_the_best_neighbouring_values():
    wanted = {"text_weight": 1.8, "history_decay": 0.3, "row_exponent": 0.65}

    def quality(config: ItemGraphConfig) -> float:
        places = {name: ALTERNATIVES[name].index(getattr(config, name)) for name in wanted}
        return -sum(abs(places[name] - ALTERNATIVES[name].index(value)) for name, value in wanted.items())

    chosen = choose_settings(ItemGraphConfig(), quality, Silent())
    assert {name: getattr(chosen, name) for name in wanted} == wanted


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"text_weight": 0.0, "row_exponent": 0.0},
        {"window": 2, "decay": 0.7, "backward": 0.6, "column_exponent": 0.45, "history_decay": 0.9},
    ],
)
def test_quality_without_the_whole_graph_is_that_of_the_whole_graph(settings):
    random = np.random.default_rng(3)
    rows = [random.choice(60, size=6, replace=False).tolist() for _ in range(50)]
    # Most items are in nobody's history: their rows of the graph need not be made.
    training = training_of(rows, [f"{COLOURS[item % 3]} thing" for item in range(200)])
    split = leave_last_out(training.dataset)
    source = ItemGraph(**settings, choose_on_validation=False)
    source.fit(replace(training, dataset=split.train))
    histories = split.train.histories
    ones = np.ones(histories.n_events, dtype=np.float32)
    counts = [follower_counts(histories, ones, n_items=200, distances=range(d, d + 1)) for d in range(1, 9)]
    quality = GraphQuality(
        lambda window, decay, backward: decayed_sum(counts[:window], decay=decay, backward=backward),
        source._text_edges(source._lexical.matrix, drop_self=True),
        split.validation,
        source._weights_of,
        200,
    )
    expected = validation_ndcg(source.score_all, split.validation)
    assert expected > 0
    assert quality(source.config) == pytest.approx(expected)


@given(st.lists(st.lists(st.integers(0, 4), max_size=7), min_size=1, max_size=5), st.integers(1, 3))
def test_counts_equal_the_slow_count(rows, distance):
    histories = Histories.of_items([np.array(row, dtype=np.int32) for row in rows])
    ones = np.ones(histories.n_events, dtype=np.float32)
    fast = follower_counts(histories, ones, n_items=5, distances=range(distance, distance + 1)).toarray()
    slow = np.zeros((5, 5))
    for row in rows:
        for a, b in zip(row, row[distance:], strict=False):
            slow[a, b] += 1
    np.testing.assert_array_equal(fast, slow)


def test_scaling_by_full_row_sums_gives_probabilities():
    counts = sp.csr_array(np.array([[0, 3, 1], [2, 0, 0], [0, 0, 0]], dtype=np.float32))
    scaled_rows = scaled(counts, row_exponent=1.0, column_exponent=0.0).toarray()
    np.testing.assert_allclose(scaled_rows, [[0, 0.75, 0.25], [1, 0, 0], [0, 0, 0]])


def test_backward_edges_are_a_share_of_the_forward_ones():
    counts = sp.csr_array(np.array([[0, 4], [0, 0]], dtype=np.float32))
    np.testing.assert_allclose(decayed_sum([counts], decay=0.5, backward=0.5).toarray(), [[0, 4], [2, 0]])


@pytest.mark.real_data
def test_beauty_is_ranked_as_well_as_promised(real_data):
    """Golden: `zhiyin evaluate amazon-beauty --recipe fast` gives .1129 / .0697."""
    from zhiyin.data.reading import read_dataset
    from zhiyin.data.splits import leave_last_out

    split = leave_last_out(read_dataset(real_data / "amazon-beauty"))
    source = ItemGraph(choose_on_validation=False, text_weight=1.2, backward=0.0, decay=0.7)
    source.fit(TrainingData(split.train, language=None))
    assert validation_ndcg(source.score_all, split.test) == pytest.approx(0.0700, abs=0.0008)


def test_a_given_setting_is_left_alone():
    graded = {"text_weight": 0.1, "history_decay": 0.3}

    def quality(config: ItemGraphConfig) -> float:
        return -sum(abs(getattr(config, name) - value) for name, value in graded.items())

    chosen = choose_settings(ItemGraphConfig(history_decay=0.9, window=12), quality, Silent())
    assert chosen.text_weight == 0.1
    assert (chosen.history_decay, chosen.window) == (0.9, 12)


@st.composite
def asked_graphs(draw: st.DrawFn) -> tuple[ItemGraph, Queries]:
    """A trained graph with arrivals and recent events, or without, and histories that repeat items."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_items = draw(st.integers(2, 30))
    words = ["red", "blue", "cup", "plate", "fork", "hose"]
    titles = [" ".join(random.choice(words, 2)) for _ in range(n_items)]
    rows = [random.integers(0, n_items, random.integers(1, 12)).tolist() for _ in range(20)]
    source = ItemGraph(choose_on_validation=False, column_exponent=draw(st.sampled_from([0.0, 0.3])))
    source.fit(training_of(rows, titles))
    n_known = n_items
    if draw(st.booleans()):
        new = pl.DataFrame({"item_id": ["n0", "n1"], "title": ["red cup", "blue hose"]})
        source.add_items(Catalogue.from_table(new), None)
        n_known += 2
    if draw(st.booleans()):
        before = Histories.of_items([random.integers(0, n_known, 3) for _ in range(5)]).without_repeats()
        items = random.integers(0, n_known, 5).astype(np.int32)
        source.absorb(Steps(before, items, np.zeros(5, np.int16), np.full(5, NO_TIMESTAMP)))
    asked = [random.integers(0, n_known + 1, random.integers(0, 15)) for _ in range(draw(st.integers(1, 9)))]
    return source, Queries.of_histories(Histories.of_items(asked))


@settings(max_examples=40)
@given(asked_graphs())
def test_many_edges_are_answered_like_few(asked_graph: tuple[ItemGraph, Queries]):
    source, queries = asked_graph
    n_items = len(source)
    everything = np.tile(np.arange(n_items, dtype=np.int32), (len(queries), 1))
    few = source.ask(queries)
    roads = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zhiyin.sources.item_graph.source.are_many", lambda *_: True)
        patch.setattr(walking, "_CELLS_AT_ONCE", 40)
        patch.setattr(walking, "_EDGES_AT_ONCE", 40)
        roads["dense"] = source.ask(queries)
        patch.setattr(walking, "_CELLS_AT_ONCE", 0.5)
        patch.setattr(walking, "_CELLS_PER_SUM", -1)
        roads["listed"] = source.ask(queries)
    assert isinstance(roads["dense"], DenseOpinion)
    assert isinstance(roads["listed"], SparseOpinion)
    for opinion in roads.values():
        np.testing.assert_allclose(opinion.at(everything), few.at(everything), rtol=1e-5)
        best, expected = (some.best(3, Barred.nothing(len(queries), n_items)) for some in (opinion, few))
        np.testing.assert_allclose(few.at(best), few.at(expected), rtol=1e-5)


def test_the_strongest_edges_of_each_item_are_kept():
    random = np.random.default_rng(0)
    dense = random.integers(0, 6, (40, 300)).astype(np.float32) * (random.random((40, 300)) < 0.5)
    edges = sp.csr_array(dense)
    for n in (1, 7, 100, 1_000):
        kept = strongest(edges, n).toarray()
        for row, before in zip(kept, dense, strict=True):
            order = np.lexsort((np.arange(300), -before))[: min(n, int((before > 0).sum()))]
            expected = np.zeros(300, dtype=np.float32)
            expected[order] = before[order]
            np.testing.assert_array_equal(row, expected)
    assert strongest(edges, 300) is edges


def test_what_everybody_buys_leads_to_a_bounded_number_of_items():
    world = checkerboard(n_users=60, n_items=40)
    whole, bounded = (ItemGraph(choose_on_validation=False, most_edges=n) for n in (1_024, 3))
    for source in (whole, bounded):
        source.fit(world.training)
    assert np.diff(whole.graph.indptr).max() > 3
    assert np.diff(bounded.graph.indptr).max() == 3
