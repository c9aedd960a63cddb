"""What sources learn from single events, against what training on the same events gives."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhiyin.contracts import Steps, TrainingData
from zhiyin.contracts.updating import Growth
from zhiyin.data.dataset import Dataset
from zhiyin.domain import NO_TIMESTAMP, Catalogue, Histories, Queries, Vocabulary
from zhiyin.sources.decayed_sums import DecayedSums
from zhiyin.sources.item_graph.absorbing import RecentEdges
from zhiyin.sources.item_graph.counts import decayed_sum, follower_counts
from zhiyin.sources.item_graph.settings import ItemGraphConfig
from zhiyin.sources.item_graph.source import ItemGraph
from zhiyin.sources.item_neighbours import ItemNeighbours
from zhiyin.sources.popularity import Popularity
from zhiyin.testing.absorb_contract import AbsorbContract
from zhiyin.training.recent_counts import RecentCounts


class TestPopularityAbsorbs(AbsorbContract):
    source = Popularity
    learns_arrivals = True


class TestPopularityThatForgetsAbsorbs(AbsorbContract):
    source = Popularity
    settings = {"half_life_days": 2.0}  # noqa: RUF012


class TestItemGraphAbsorbs(AbsorbContract):
    source = ItemGraph
    settings = {"choose_on_validation": False}  # noqa: RUF012


class TestItemGraphWithColumnsAbsorbs(AbsorbContract):
    source = ItemGraph
    settings = {"choose_on_validation": False, "column_exponent": 0.3}  # noqa: RUF012


def world_of(n_users: int, n_items: int, length: int, seed: int = 0, kinds: int = 1) -> Dataset:
    """Users who walk: after item a usually comes a + 1, sometimes anything; an event a minute."""
    random = np.random.default_rng(seed)
    steps = np.where(
        random.random((n_users, length)) < 0.7, 1, random.integers(0, n_items, (n_users, length))
    )
    rows = (np.cumsum(steps, axis=1) + random.integers(0, n_items, (n_users, 1))) % n_items
    plain = Histories.of_items(list(rows.astype(np.int32)))
    moments = np.argsort(np.argsort(random.random((n_users, length)) + np.arange(length), axis=None)) * 60
    histories = replace(
        plain,
        timestamp=np.sort(moments.reshape(n_users, length), axis=1).ravel().astype(np.int64),
        event_index=random.integers(0, kinds, plain.n_events).astype(np.int16),
    )
    items = Catalogue.from_table(
        pl.DataFrame({"item_id": [f"i{i}" for i in range(n_items)], "title": ["thing"] * n_items})
    )
    weights = np.linspace(0.5, 1.0, kinds).astype(np.float32)
    names = tuple(f"kind {kind}" for kind in range(kinds))
    users = Vocabulary([f"u{user}" for user in range(n_users)])
    return Dataset("walk", items, users, histories, names, weights)


def divided(dataset: Dataset, share: float) -> tuple[Dataset, Steps]:
    """What stood first in time, and the rest as steps in the order of time."""
    moment = dataset.histories.timestamp
    until = np.quantile(moment, share)
    late = np.flatnonzero(moment > until)
    late = late[np.argsort(moment[late], kind="stable")]
    return dataset.with_events(moment <= until), Steps.of_histories(dataset.histories, late)


PLAIN = {"choose_on_validation": False, "text_weight": 0.0}


@pytest.mark.parametrize("backward", [0.0, 0.3])
def test_followers_are_counted_exactly_as_training_counts_them(backward):
    dataset = world_of(30, 12, 12, kinds=2)
    config = ItemGraphConfig(window=4, decay=0.5, backward=backward)
    histories, weights = dataset.histories, dataset.event_weights
    every = np.argsort(histories.timestamp, kind="stable")
    nothing = decayed_sum(
        [follower_counts(Histories.empty(1), weights[:0], n_items=12, distances=range(1, 2))],
        decay=1.0,
        backward=0.0,
    )
    edges = RecentEdges.beside(nothing).plus(Steps.of_histories(histories, every), weights, config)
    alone = histories.without_repeats()
    counted = [
        follower_counts(alone, weights[alone.event_index], n_items=12, distances=range(d, d + 1))
        for d in range(1, 5)
    ]
    expected = decayed_sum(counted, decay=0.5, backward=backward).toarray()
    found = np.zeros((12, 12))
    heads, tails, sums = edges.counts.pairs()
    found[heads, tails] = sums
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_an_item_graph_that_absorbed_ranks_nearly_as_one_that_was_fitted_again():
    dataset = world_of(300, 40, 12, seed=1)
    early, steps = divided(dataset, 0.7)
    absorbing, again, before = (ItemGraph(**PLAIN) for _ in range(3))
    absorbing.fit(TrainingData(early, language=None))
    before.fit(TrainingData(early, language=None))
    again.fit(TrainingData(dataset, language=None))
    absorbing.absorb(steps)
    asked = Queries.of_histories(dataset.histories)
    found, expected, stale = (np.nan_to_num(s.score_all(asked)) for s in (absorbing, again, before))
    near, far = (
        np.mean([rank_likeness(a, b) for a, b in zip(x, expected, strict=True)]) for x in (found, stale)
    )
    assert near > 0.98
    assert near > far


def rank_likeness(a: np.ndarray, b: np.ndarray) -> float:
    places = [np.argsort(np.argsort(x)).astype(float) for x in (a, b)]
    return float(np.corrcoef(*places)[0, 1])


@pytest.mark.parametrize("half_life_days", [np.inf, 0.05, 3e-4])
def test_popularity_that_absorbed_equals_one_that_was_fitted_again(half_life_days):
    dataset = world_of(60, 10, 12, kinds=3)
    early, steps = divided(dataset, 0.5)
    absorbing, again = (Popularity(half_life_days=half_life_days) for _ in range(2))
    absorbing.fit(TrainingData(early, language=None))
    again.fit(TrainingData(dataset, language=None))
    absorbing.absorb(steps)
    nobody = Queries.of_histories(Histories.empty(1))
    # The moment that scores are read at moves in steps of a 64th of a half-life: 1.1 %.
    np.testing.assert_allclose(absorbing.score_all(nobody), again.score_all(nobody), rtol=0.012, atol=1e-6)


def test_a_large_catalogue_renews_its_order_now_and_then():
    n_items = 5_000
    dataset = world_of(20, n_items, 5)
    source = Popularity()
    source.fit(TrainingData(dataset, language=None))
    nobody, one = Queries.of_histories(Histories.empty(1)), Histories.of_items([np.zeros(1, dtype=np.int32)])
    before = source.score_all(nobody)[0, 0]
    for n in range(1, 11):
        source.absorb(Steps.of_histories(one, np.zeros(1, dtype=np.int64)))
        seen = np.expm1(source.score_all(nobody)[0, 0]) - np.expm1(before)
        assert seen == pytest.approx(n // 5 * 5 * 0.5, abs=1e-3)


def test_an_event_that_arrives_late_follows_nothing_that_happened_after_it():
    plain = Histories.of_items([np.array([0, 1, 2])])
    histories = replace(plain, timestamp=np.array([100, 300, 200], dtype=np.int64))
    steps = Steps.of_histories(histories, np.array([1, 2]))
    assert steps.before.item_index.tolist() == [0, 0]
    unknown = replace(plain, timestamp=np.array([100, 300, NO_TIMESTAMP], dtype=np.int64))
    assert Steps.of_histories(unknown, np.array([2])).before.item_index.tolist() == [0, 1]


def test_views_then_a_purchase_of_one_item_count_as_one_step():
    plain = Histories.of_items([np.array([3, 5, 5, 6])])
    steps = Steps.of_histories(plain, np.arange(4))
    assert [
        steps.before.item_index[a:b].tolist()
        for a, b in zip(steps.before.offsets, steps.before.offsets[1:], strict=False)
    ] == [[], [3], [3, 5], [3, 5]]
    assert steps.repeats.tolist() == [False, False, True, False]


def test_folding_into_the_graph_changes_only_the_scale(monkeypatch):
    dataset = world_of(200, 30, 12, seed=2)
    early, steps = divided(dataset, 0.6)
    plain = ItemGraph(**PLAIN)
    plain.fit(TrainingData(early, language=None))
    plain.absorb(steps)
    monkeypatch.setattr("zhiyin.sources.item_graph.source.EVENTS_BETWEEN_FOLDS", 100)
    folded = [ItemGraph(**PLAIN) for _ in range(2)]
    for source, portion in zip(folded, (33, 1_000), strict=True):
        source.fit(TrainingData(early, language=None))
        for start in range(0, len(steps), portion):
            source.absorb(steps.slice(start, start + portion))
        assert source.recent.n_events == len(steps) % 100
    asked = Queries.of_histories(dataset.histories)
    scores = [np.nan_to_num(source.score_all(asked)) for source in (plain, *folded)]
    np.testing.assert_allclose(scores[1], scores[2], rtol=1e-5)
    assert np.mean([rank_likeness(a, b) for a, b in zip(scores[0], scores[1], strict=True)]) > 0.99


PAIRS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 5), st.sampled_from([-0.5, 0.25, 1.0])), max_size=40
)


@given(PAIRS, st.integers(1, 7))
@settings(max_examples=60)
def test_recent_counts_equal_a_plain_sum_in_any_portions(pairs, portion):
    counts, plain = RecentCounts(), {}
    for start in range(0, len(pairs), portion):
        part = pairs[start : start + portion]
        counts = counts.plus(*(np.array(column) for column in zip(*part, strict=True)))
    for head, tail, weight in pairs:
        plain[head, tail] = plain.get((head, tail), 0.0) + weight
    assert {(h, t): s for h, t, s in zip(*counts.pairs(), strict=True)} == {
        k: v for k, v in plain.items() if v
    }
    asked = np.arange(6)
    place, tails, sums = counts.of_heads(asked)
    table = np.zeros((6, 6))
    np.add.at(table, (place, tails), sums)
    assert all(table[pair] == plain.get(pair, 0.0) for pair in plain)
    assert counts.at(
        np.array([h for h, _ in plain] or [0]), np.array([t for _, t in plain] or [0])
    ).tolist() == (list(plain.values()) or [0.0])


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.one_of(st.none(), st.integers(0, 10**7))), min_size=1, max_size=30
    ),
    st.integers(1, 9),
    st.sampled_from([np.inf, 50.0, 10_000.0]),
)
@settings(max_examples=60)
def test_decayed_sums_are_the_same_bits_in_any_portions(events, portion, half_life):
    items = np.array([item for item, _ in events], dtype=np.int32)
    moments = np.array([NO_TIMESTAMP if moment is None else moment for _, moment in events], dtype=np.int64)
    weights = np.ones(len(events), dtype=np.float32)
    start = DecayedSums(np.zeros(4), half_life)
    whole, parts = start.plus(items, weights, moments), start
    for at in range(0, len(events), portion):
        cut = slice(at, at + portion)
        parts = parts.plus(items[cut], weights[cut], moments[cut])
    np.testing.assert_array_equal(parts.scores(), whole.scores())
    assert np.isfinite(whole.scores()).all()


def test_a_refreshed_source_keeps_what_was_chosen():
    dataset = world_of(200, 30, 12, seed=4)
    source = Popularity(half_life_days=30.0)
    source.fit(TrainingData(dataset, language=None))
    refreshed = source.refreshed(TrainingData(dataset, language=None), Growth(np.ones(1, dtype=np.bool_)))
    assert refreshed.chosen == source.chosen
    graph = ItemGraph(**PLAIN)
    graph.fit(TrainingData(dataset, language=None))
    again = graph.refreshed(TrainingData(dataset, language=None), Growth(np.ones(1, dtype=np.bool_)))
    asked = Queries.of_histories(dataset.histories)
    np.testing.assert_array_equal(again.score_all(asked), graph.score_all(asked))


class TestItemNeighboursAbsorbs(AbsorbContract):
    source = ItemNeighbours
    learns_arrivals = False


class TestItemNeighboursWithDampingAbsorbs(AbsorbContract):
    source = ItemNeighbours
    settings = {"similarity": "jaccard", "user_damping": 0.5}  # noqa: RUF012
    learns_arrivals = False


@pytest.mark.parametrize("similarity", ["cosine", "jaccard", "conditional"])
def test_neighbours_that_absorbed_count_and_rank_as_those_that_were_fitted_again(similarity):
    dataset = world_of(300, 25, 8, seed=5)
    early, steps = divided(dataset, 0.7)
    settings = {"similarity": similarity, "history_decay": 0.8}
    absorbing, again, before = (ItemNeighbours(**settings) for _ in range(3))
    for source, data in ((absorbing, early), (before, early), (again, dataset)):
        source.fit(TrainingData(data, language=None))
    absorbing.absorb(steps)
    counts = absorbing._since.counts.toarray()
    heads, tails, sums = absorbing._since.pairs.pairs()
    counts[heads, tails] += sums
    np.testing.assert_allclose(counts, again._since.counts.toarray(), atol=1e-3)
    asked = Queries.of_histories(dataset.histories)
    found, expected, stale = (np.nan_to_num(s.score_all(asked)) for s in (absorbing, again, before))
    near, far = (
        np.mean([rank_likeness(a, b) for a, b in zip(x, expected, strict=True)]) for x in (found, stale)
    )
    assert near > 0.95
    assert near > far
