"""Candidates: the best of a row, whatever ties, gaps and infinities it holds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from zhiyin.domain import PAD, Candidates
from zhiyin.domain.errors import ShapeMismatch

SCORES = st.sampled_from([np.nan, -np.inf, np.inf, -1.0, -0.0, 0.0, 1e-40, 0.5, 1.0, 3.0e38])
shapes = st.tuples(st.integers(1, 4), st.integers(1, 40))


def of_scores(scores, item_index=None):
    scores = np.asarray(scores, dtype=np.float32)
    if item_index is None:
        item_index = np.broadcast_to(np.arange(scores.shape[1], dtype=np.int32), scores.shape)
    return Candidates(item_index.astype(np.int32), {"score": scores})


def plain_top(items, scores, n):
    """Sort by falling score, ties by place; NaN and padding are left out."""
    ranked = sorted(
        (place for place in range(len(items)) if items[place] != PAD and not np.isnan(scores[place])),
        key=lambda place: (-scores[place], place),
    )[: min(n, len(items))]
    return [int(items[place]) for place in ranked], [float(scores[place]) for place in ranked]


@given(st.data(), shapes, st.integers(0, 45))
def test_top_equals_a_full_sort(data, shape, n):
    scores = data.draw(hnp.arrays(np.float32, shape, elements=SCORES))
    is_item = data.draw(hnp.arrays(np.bool_, shape))
    items = np.where(is_item, np.arange(shape[1]) * 7 % 41, PAD).astype(np.int32)
    best = of_scores(scores, items).top(n, by="score")

    assert best.n_per_query == min(n, shape[1])
    for b in range(shape[0]):
        expected_items, expected_scores = plain_top(items[b], scores[b], n)
        n_found = len(expected_items)
        assert best.item_index[b, :n_found].tolist() == expected_items
        assert best.column("score")[b, :n_found].tolist() == expected_scores
        assert (best.item_index[b, n_found:] == PAD).all()
        assert np.isnan(best.column("score")[b, n_found:]).all()


@pytest.mark.parametrize("n", [1, 10, 249, 250, 999, 1000])
def test_ties_at_the_cut_keep_the_earliest(n):
    scores = np.random.default_rng(n).integers(0, 4, (8, 1000)).astype(np.float32)
    best = of_scores(scores).top(n, by="score")
    expected = np.argsort(-scores, axis=1, kind="stable")[:, :n]
    assert (best.item_index == expected).all()


def test_top_carries_the_other_columns():
    candidates = of_scores([[1.0, 3.0, 2.0]]).with_column("count", np.float32([[10, 30, 20]]))
    assert candidates.top(2, by="score").column("count").tolist() == [[30.0, 20.0]]


@given(st.data(), shapes)
def test_without_makes_padding_of_what_is_dropped(data, shape):
    scores = data.draw(hnp.arrays(np.float32, shape, elements=st.floats(-1, 1, width=32)))
    dropped = data.draw(hnp.arrays(np.bool_, shape))
    left = of_scores(scores).without(dropped)
    assert (left.is_item == ~dropped).all()
    assert (np.isnan(left.column("score")) == dropped).all()
    assert (left.column("score")[~dropped] == scores[~dropped]).all()


@given(st.integers(0, 6))
def test_padded_has_exactly_as_many_places(n):
    candidates = of_scores([[1.0, 2.0, 3.0]]).padded(n)
    assert candidates.item_index.tolist() == [([0, 1, 2] + [PAD] * 3)[:n]]
    assert np.isnan(candidates.column("score")[0, 3:]).all()


def test_stacked_parts_stand_under_each_other():
    parts = [of_scores([[1.0, 2.0]]), of_scores([[3.0], [4.0]])]
    both = Candidates.stacked(parts, 2)
    assert both.item_index.tolist() == [[0, 1], [0, PAD], [0, PAD]]
    assert len(Candidates.stacked([], 5)) == 0


def test_a_new_column_leaves_the_old_candidates_alone():
    before = of_scores([[1.0]])
    after = before.with_column("other", np.float32([[2.0]]))
    assert set(before.columns) == {"score"}
    assert set(after.columns) == {"score", "other"}


def test_what_does_not_fit_is_refused():
    with pytest.raises(ShapeMismatch, match=r"Column 'score' must be float32 of shape \(1, 2\)"):
        Candidates(np.zeros((1, 2), np.int32), {"score": np.zeros((1, 3), np.float32)})
    with pytest.raises(ShapeMismatch, match="dtype int32; got"):
        Candidates(np.zeros((1, 2), np.int64))
    with pytest.raises(ShapeMismatch, match="Did you mean 'score'"):
        of_scores([[1.0]]).column("scor")


def test_stacked_parts_share_width_and_columns():
    first = Candidates(np.array([[1, 2]], dtype=np.int32), {"a": np.array([[5, 4]], dtype=np.float32)})
    second = Candidates(np.array([[3]], dtype=np.int32), {"b": np.array([[7]], dtype=np.float32)})
    both = Candidates.stacked([first, second], 2)
    assert both.item_index.tolist() == [[1, 2], [3, -1]]
    np.testing.assert_array_equal(both.column("a"), [[5, 4], [np.nan, np.nan]])
    np.testing.assert_array_equal(both.column("b"), [[np.nan, np.nan], [7, np.nan]])
    assert Candidates.stacked([first], 1).item_index.tolist() == [[1]]
