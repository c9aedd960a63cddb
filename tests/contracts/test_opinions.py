"""The fast ways to the best items, against sorting everything."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from zhiyin.contracts import DenseOpinion, Edges, SparseOpinion, best_of, best_positions, opinions
from zhiyin.contracts import scores as scores_module
from zhiyin.domain import Barred, Histories


@given(st.integers(0, 2**31), st.integers(1, 40), st.sampled_from([1, 7, 60, 700]), st.booleans())
def test_the_best_positions_are_those_of_a_stable_sort(seed: int, n: int, n_items: int, with_ties: bool):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scores_module, "_CELLS_AT_ONCE", [700, 10**6][seed % 2])  # in portions, and in one
        _compare_with_a_stable_sort(seed, n, n_items, with_ties=with_ties)


def _compare_with_a_stable_sort(seed: int, n: int, n_items: int, *, with_ties: bool):
    random = np.random.default_rng(seed)
    scores = random.normal(size=(3, n_items)).astype(np.float32)
    if with_ties:
        scores = np.round(scores) * np.float32(0.5)
    scores[random.random(scores.shape) < 0.2] = -np.inf
    found = best_positions(scores, n)
    for row, positions in zip(scores, found, strict=True):
        order = np.argsort(-row, kind="stable")
        expected = order[np.isfinite(row[order])][:n].tolist()
        assert positions[positions >= 0].tolist() == expected


def test_portions_in_which_fewer_have_a_score_cut_nothing_off(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scores_module, "_CELLS_AT_ONCE", 4)
    nothing = -np.inf
    scores = np.array([[3, nothing, 4, 5], [nothing] * 4, [1, nothing, 2, nothing]], dtype=np.float32)
    assert best_positions(scores, 4).tolist() == [[3, 2, 0], [-1, -1, -1], [2, 0, -1]]


def test_scores_not_above_the_silence_are_left_out():
    scores = np.array([[0.0, 2.0, -1.0, 1.0]], dtype=np.float32)
    assert best_positions(scores, 3, above=0.0).tolist() == [[1, 3]]
    assert np.isnan(DenseOpinion(scores, silence=0.0).at(np.array([[0, 2]], dtype=np.int32))).all()


@pytest.mark.parametrize("most_cells", [0, 10**9])
@pytest.mark.parametrize("large", [False, True])
def test_edges_add_up_to_the_product_of_matrices(
    monkeypatch: pytest.MonkeyPatch, most_cells: int, large: bool
):
    monkeypatch.setattr(opinions, "_MOST_CELLS", most_cells)
    random = np.random.default_rng(5)
    n_items = 2**30 + 40 if large else 40
    matrix = sp.random_array((40, 40), density=0.2, rng=random, dtype=np.float32).tocsr()
    rows = [random.integers(0, 45, length) for length in (4, 0, 9)]
    histories = Histories.of_items(rows)
    weights = random.random(histories.n_events, dtype=np.float32)
    if large and most_cells:
        return  # nobody adds up in a matrix of three thousand million cells
    opinion = Edges.walked(histories, weights, matrix).opinion(3, n_items)
    assert isinstance(opinion, DenseOpinion if most_cells else SparseOpinion)
    start = np.zeros((3, 45), dtype=np.float32)
    np.add.at(start, (histories.row_of_event, histories.item_index), weights)
    expected = start[:, :40] @ matrix.toarray()
    expected[expected == 0] = np.nan
    every = np.tile(np.arange(40, dtype=np.int32), (3, 1))
    np.testing.assert_allclose(opinion.at(every), expected, rtol=1e-5)
    barred = Barred(3, n_items, None, np.array([0, 0, 2]), np.array([3, 8, 1]))
    for row, item in zip(barred.row, barred.item, strict=True):
        expected[row, item] = np.nan
    found = opinion.best(5, barred)
    best = best_of(expected, 5, column="score").item_index
    assert [set(row[row >= 0]) for row in found] == [set(row[row >= 0]) for row in best]
