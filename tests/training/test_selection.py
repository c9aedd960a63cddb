"""Quality on validation examples, against slow counting."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from zhiyin.domain import Examples, Histories, Queries, Ragged
from zhiyin.training import selection
from zhiyin.training.selection import (
    sample_examples,
    shared_ndcg,
    sparse_target_ranks,
    target_ranks,
    validation_ndcg,
)

scores = hnp.arrays(np.float32, (4, 6), elements=st.sampled_from([0.0, 1.0, 2.0, float("nan")]))


@given(scores, st.lists(st.integers(0, 5), min_size=4, max_size=4))
def test_ranks_equal_slow_counting(given_scores, targets):
    seen = Histories.of_items([np.array(row, dtype=np.int32) for row in ([0], [], [1, 2], [5])])
    ranks = target_ranks(given_scores, seen, np.array(targets))
    for b, target in enumerate(targets):
        own = seen.item_index[seen.offsets[b] : seen.offsets[b + 1]].tolist()
        value = given_scores[b, target]
        if target in own or np.isnan(value):
            assert ranks[b] == np.inf
            continue
        others = [given_scores[b, i] for i in range(6) if i != target and i not in own]
        better, equal = sum(o > value for o in others), sum(o == value for o in others)
        assert ranks[b] == 1 + better + equal / 2


histories = st.lists(st.lists(st.integers(0, 6), max_size=5), min_size=4, max_size=4)


@given(scores, st.lists(st.integers(0, 5), min_size=4, max_size=4), histories)
def test_sparse_scores_rank_as_dense_ones_do(given_scores, targets, rows):
    seen = Histories.of_items([np.array(row, dtype=np.int32) for row in rows])
    given_scores = np.where(given_scores > 0, given_scores, np.float32(np.nan))
    stored = np.nonzero(~np.isnan(given_scores))
    sparse = sp.csr_array((given_scores[stored], stored), shape=given_scores.shape)
    ranks = sparse_target_ranks(sparse, seen, np.array(targets))
    np.testing.assert_array_equal(ranks, target_ranks(given_scores, seen, np.array(targets)))


@given(
    hnp.arrays(np.float32, 6, elements=st.sampled_from([0.0, 1.0, 2.0])),
    st.lists(st.integers(0, 5), min_size=4, max_size=4),
    histories,
)
def test_scores_that_all_share_rank_as_if_each_had_a_copy(shared, targets, rows):
    seen = Histories.of_items([np.array(row, dtype=np.int32) for row in rows])
    asked = Examples(Queries.of_histories(seen), Ragged(np.arange(5), np.array(targets, dtype=np.int32)))
    expected = validation_ndcg(lambda queries: np.tile(shared, (len(queries), 1)), asked, k=3)
    assert shared_ndcg(shared, asked, k=3) == pytest.approx(expected)


def examples(n: int) -> Examples:
    queries = Queries.of_histories(Histories.empty(n))
    return Examples(queries, Ragged(np.arange(n + 1), np.arange(n, dtype=np.int32)))


def test_ndcg_of_known_ranks():
    def second_place(queries: Queries) -> np.ndarray:
        return np.tile(np.array([9, 5, 1, 0], dtype=np.float32), (len(queries), 1))

    # targets 0, 1, 2, 3 stand at ranks 1, 2, 3, 4
    expected = np.mean([1, 1 / np.log2(3), 1 / np.log2(4), 1 / np.log2(5)])
    assert validation_ndcg(second_place, examples(4), chunk=3) == pytest.approx(expected)
    assert validation_ndcg(second_place, examples(4), k=1) == pytest.approx(0.25)
    assert validation_ndcg(second_place, examples(0)) == 0.0


def test_a_large_catalogue_is_scored_in_small_chunks(monkeypatch):
    monkeypatch.setattr(selection, "_SCORES_AT_ONCE", 8)
    asked = []

    def scores(queries: Queries) -> np.ndarray:
        asked.append(len(queries))
        return np.tile(np.array([9, 5, 1, 0], dtype=np.float32), (len(queries), 1))

    expected = np.mean([1, 1 / np.log2(3), 1 / np.log2(4), 1 / np.log2(5)])
    assert validation_ndcg(scores, examples(4)) == pytest.approx(expected)
    assert max(asked) == 2


def test_sparse_scores_are_written_out_only_where_most_is_stored():
    def one_each(queries: Queries) -> sp.csr_array:
        first = np.arange(len(queries))
        return sp.csr_array(
            (np.ones(len(queries), dtype=np.float32), (first, first)), shape=(len(queries), 40)
        )

    assert validation_ndcg(one_each, examples(4)) == pytest.approx(1.0)
    assert validation_ndcg(lambda queries: sp.csr_array(one_each(queries).toarray() + 1), examples(4)) == 1.0


def test_samples_are_drawn_once_in_order():
    drawn = sample_examples(examples(100), 10, seed=1)
    items = drawn.targets.values
    assert len(set(items.tolist())) == 10
    assert (np.diff(items) > 0).all()
    assert (sample_examples(examples(100), 10, seed=1).targets.values == items).all()
    assert len(sample_examples(examples(5), 10, seed=1)) == 5
