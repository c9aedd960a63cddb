"""Accuracy metrics against a slow reference, other libraries' figures, and answers known by hand."""

import math
from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from zhiyin.domain import PAD, Ragged
from zhiyin.domain.errors import ShapeMismatch
from zhiyin.evaluation.metrics import ACCURACY_METRICS, RankedTargets, ndcg, rank_targets, serendipity


def slate_of(rows):
    """Rows of (item, score) → (B, N) arrays, padded on the right."""
    width = max((len(row) for row in rows), default=0)
    items = np.full((len(rows), width), PAD, dtype=np.int32)
    scores = np.full((len(rows), width), np.nan, dtype=np.float32)
    for b, row in enumerate(rows):
        for n, (item, score) in enumerate(row):
            items[b, n], scores[b, n] = item, score
    return items, scores


def ranked(rows, targets):
    return rank_targets(*slate_of(rows), Ragged.from_rows([np.array(t) for t in targets], np.int32))


def slow_ranks(row, targets):
    """Ranks of the distinct targets of one query, found by looking at every place."""
    row = [(item, score) for item, score in row if item != PAD]
    ranks, taken = [], {}
    distinct = list(dict.fromkeys(t for t in targets if t != PAD)) + [PAD] * list(targets).count(PAD)
    for place, (item, score) in enumerate(row):
        if item not in distinct:
            continue
        start = end = place
        while start > 0 and row[start - 1][1] == score:
            start -= 1
        while end + 1 < len(row) and row[end + 1][1] == score:
            end += 1
        n = end - start + 1
        m = sum(other in distinct for other, _ in row[start : end + 1])
        taken[start] = taken.get(start, 0) + 1
        ranks.append(start + taken[start] * (n + 1) / (m + 1))
    return sorted(ranks), len(distinct)


def slow_metrics(row, targets, k):
    ranks, n_targets = slow_ranks(row, targets)
    if not n_targets:
        return dict.fromkeys(ACCURACY_METRICS, math.nan)
    found = [r for r in ranks if r <= k]
    ideal = sum(1 / math.log2(1 + j) for j in range(1, min(n_targets, k) + 1))
    return {
        "recall": len(found) / n_targets,
        "precision": len(found) / k,
        "hit_rate": float(bool(found)),
        "mrr": 1 / found[0] if found else 0.0,
        "map": sum((j + 1) / r for j, r in enumerate(found)) / min(n_targets, k),
        "ndcg": sum(1 / math.log2(1 + r) for r in found) / ideal,
    }


@st.composite
def worlds(draw):
    n_items = draw(st.integers(1, 12))
    rows, targets = [], []
    for _ in range(draw(st.integers(1, 6))):
        items = draw(st.permutations(range(n_items)))[: draw(st.integers(0, n_items))]
        scores = sorted(
            draw(st.lists(st.integers(0, 4), min_size=len(items), max_size=len(items))), reverse=True
        )
        rows.append(list(zip(items, map(float, scores), strict=True)))
        targets.append(draw(st.lists(st.integers(-1, n_items), max_size=5)))
    return rows, targets


@settings(max_examples=150, deadline=None)
@given(worlds(), st.integers(1, 8))
def test_fast_metrics_equal_the_slow_reference(world, k):
    rows, targets = world
    fast = {name: metric(ranked(rows, targets), k) for name, metric in ACCURACY_METRICS.items()}
    for b, (row, wanted) in enumerate(zip(rows, targets, strict=True)):
        for name, value in slow_metrics(row, wanted, k).items():
            assert fast[name][b] == pytest.approx(value, nan_ok=True), name


@settings(max_examples=60, deadline=None)
@given(worlds(), st.integers(1, 8))
def test_metrics_lie_between_0_and_1_and_recall_grows_with_k(world, k):
    found = ranked(*world)
    asked = found.n_targets > 0
    for metric in ACCURACY_METRICS.values():
        values = metric(found, k)
        assert np.array_equal(np.isnan(values), ~asked)
        assert ((values[asked] >= 0) & (values[asked] <= 1 + 1e-12)).all()
    for name in ("recall", "hit_rate", "mrr"):
        metric = ACCURACY_METRICS[name]
        assert (metric(found, k + 1)[asked] >= metric(found, k)[asked]).all()


def test_ranks_in_a_tied_block_are_expectations_over_all_orders_of_it():
    """Four tied items on ranks 2 to 5, two of them targets: mean ranks of the higher and lower one."""
    orders = [sorted(order.index(t) + 2 for t in "ab") for order in permutations("abxy")]
    expected = np.mean(orders, axis=0)
    found = ranked([[(9, 5.0), (0, 3.0), (1, 3.0), (2, 3.0), (3, 3.0), (4, 1.0)]], [[0, 3]])
    np.testing.assert_allclose(sorted(found.rank), expected)


@pytest.mark.parametrize(
    ("target", "rank"), [(7, 1.0), (1, 3.0), (2, 3.0), (3, 3.0), (8, 5.0), (99, math.inf)]
)
def test_a_single_tied_target_stands_on_the_average_rank(target, rank):
    row = [(7, 9.0), (1, 4.0), (2, 4.0), (3, 4.0), (8, 1.0)]
    assert ranked([row], [[target]]).rank.tolist() == [rank]


def test_a_half_rank_counts_from_the_cut_above_it():
    found = ranked([[(1, 2.0), (2, 2.0)]], [[2]])
    assert ACCURACY_METRICS["recall"](found, 1).tolist() == [0.0]
    assert ACCURACY_METRICS["recall"](found, 2).tolist() == [1.0]
    assert ndcg(found, 2).tolist() == pytest.approx([1 / math.log2(2.5)])


def test_a_block_of_targets_only_is_a_perfect_slate():
    found = ranked([[(1, 2.0), (2, 2.0), (3, 2.0)]], [[3, 1, 2]])
    for metric in ACCURACY_METRICS.values():
        assert metric(found, 3).tolist() == pytest.approx([1.0])


def test_padding_takes_no_rank_and_nan_scores_are_not_tied():
    items = np.array([[PAD, 4, PAD, 5]], dtype=np.int32)
    scores = np.full((1, 4), np.nan, dtype=np.float32)
    found = rank_targets(items, scores, Ragged.from_rows([np.array([4, 5, PAD])], np.int32))
    assert found.rank.tolist() == [1.0, 2.0, math.inf]


def test_a_target_named_twice_counts_once_and_unknown_targets_each():
    found = ranked([[(1, 2.0), (2, 1.0)]], [[1, 1, PAD, PAD]])
    assert found.item_index.tolist() == [1, PAD, PAD]
    assert ACCURACY_METRICS["recall"](found, 2).tolist() == pytest.approx([1 / 3])


def test_uncredited_targets_stay_in_the_denominator_and_forgotten_ones_do_not():
    found = ranked([[(1, 3.0), (2, 2.0), (3, 1.0)]], [[1, 2]])
    keep_second = np.array([False, True])
    recall = ACCURACY_METRICS["recall"]
    assert recall(found.missing_unless(keep_second), 3).tolist() == [0.5]
    assert recall(found.only(keep_second), 3).tolist() == [1.0]
    assert np.isnan(recall(found.only(np.array([False, False])), 3)).all()


def test_joined_chunks_are_the_whole():
    rows = [[(1, 2.0), (2, 1.0)], [(3, 1.0)], [(2, 1.0), (1, 1.0)]]
    targets = [[2], [], [1, 5]]
    whole = ranked(rows, targets)
    joined = RankedTargets.joined([ranked(rows[:1], targets[:1]), ranked(rows[1:], targets[1:])])
    assert joined.offsets.tolist() == whole.offsets.tolist()
    assert joined.rank.tolist() == whole.rank.tolist()
    assert joined.item_index.tolist() == whole.item_index.tolist()


def test_serendipity_leaves_out_what_everybody_expects():
    found = ranked([[(0, 3.0), (1, 2.0), (2, 1.0)]], [[0, 1, 2, PAD]])
    expected = np.array([True, False, False])
    assert serendipity(found, 2, expected).tolist() == [0.25]
    assert serendipity(found, 3, expected).tolist() == [0.5]


def test_slates_and_targets_of_different_queries_are_refused():
    with pytest.raises(ShapeMismatch, match="do not match"):
        rank_targets(*slate_of([[(1, 1.0)]]), Ragged.from_rows([], np.int32))


def test_no_queries_give_no_values():
    found = ranked([], [])
    assert [len(metric(found, 5)) for metric in ACCURACY_METRICS.values()] == [0] * len(ACCURACY_METRICS)


@pytest.fixture(scope="module")
def random_world():
    rng = np.random.default_rng(7)
    scores = rng.random((40, 30), dtype=np.float32)  # torchmetrics takes a score of 0 or less for "not shown"
    relevant = rng.random((40, 30)) < 0.15
    relevant[:, 0] |= ~relevant.any(axis=1)
    order = np.argsort(-scores, axis=1).astype(np.int32)
    targets = Ragged.from_rows([np.flatnonzero(row) for row in relevant], np.int32)
    found = rank_targets(order, np.take_along_axis(scores, order, axis=1), targets)
    return SimpleNamespace(scores=scores, relevant=relevant, found=found)


@pytest.mark.parametrize("k", [1, 5, 10, 30])
def test_ndcg_equals_scikit_learn(random_world, k):
    theirs = ndcg_score(random_world.relevant, random_world.scores, k=k)
    assert np.mean(ndcg(random_world.found, k)) == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize(
    ("metric", "theirs"),
    [
        ("recall", [0.019196, 0.143214, 0.342976]),
        ("precision", [0.100000, 0.140000, 0.162500]),
        ("hit_rate", [0.100000, 0.550000, 0.850000]),
        ("mrr", [0.100000, 0.263333, 0.302183]),
        ("ndcg", [0.100000, 0.149709, 0.237651]),
    ],
)
def test_metrics_equal_torchmetrics(random_world, metric, theirs):
    """Golden: ``torchmetrics.functional.retrieval.retrieval_<metric>(…, top_k=k)`` of version 1.9.0."""
    ours = [ACCURACY_METRICS[metric](random_world.found, k).mean() for k in (1, 5, 10)]
    assert ours == pytest.approx(theirs, abs=1e-6)


def test_average_precision_of_the_whole_list_equals_torchmetrics(random_world):
    """Golden: ``retrieval_average_precision`` without a cut, version 1.9.0."""
    assert ACCURACY_METRICS["map"](random_world.found, 30).mean() == pytest.approx(0.2318230502, abs=1e-6)
