"""Alternating least squares against the equations, solved one by one in double precision."""

from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp

from zhiyin.contracts import TrainingData
from zhiyin.data.dataset import Dataset
from zhiyin.domain import Histories, Queries
from zhiyin.sources import least_squares
from zhiyin.sources.als import Als
from zhiyin.sources.least_squares import Side, rows_of, solved
from zhiyin.testing.source_contract import CandidateSourceContract
from zhiyin.testing.worlds import checkerboard


class TestAls(CandidateSourceContract):
    source = Als
    settings = {"n_factors": 4}  # noqa: RUF012
    solves = (checkerboard,)
    tolerance = 1e-4


class TestAlsWithDefaults(CandidateSourceContract):
    source = Als
    solves = (checkerboard,)
    tolerance = 1e-4


def sparse(n_rows: int, n_items: int, seed: int) -> sp.csr_array:
    random = np.random.default_rng(seed)
    dense = random.random((n_rows, n_items)) * (random.random((n_rows, n_items)) < 0.3)
    dense[2] = 0.0  # somebody without anything
    return sp.csr_array((5 * dense).astype(np.float32))


@pytest.mark.parametrize("short", [1000, 1, 0.1], ids=["by factors", "either", "by length"])
@pytest.mark.parametrize("at_once", [1 << 22, 60])
def test_every_row_is_solved_as_the_equation_says(at_once, short, monkeypatch):
    monkeypatch.setattr(least_squares, "_NUMBERS_AT_ONCE", at_once)
    monkeypatch.setattr(least_squares, "_SHORT", short)
    confidences, l2 = sparse(9, 7, seed=1), 0.01
    vectors = np.random.default_rng(2).standard_normal((7, 3)).astype(np.float32)
    found = solved(rows_of(confidences), Side.of(vectors), l2=l2)
    for row, extra in enumerate(confidences.toarray().astype(np.float64)):
        c, p = 1.0 + extra, (extra > 0).astype(float)
        matrix = vectors.T @ (c[:, None] * vectors) + l2 * c.sum() * np.eye(3)
        np.testing.assert_allclose(
            found[row], np.linalg.solve(matrix, vectors.T @ (c * p)), rtol=1e-3, atol=1e-5
        )
    assert not found[2].any()


def loss(x: np.ndarray, y: np.ndarray, extra: np.ndarray, l2: float) -> float:
    c, p = 1.0 + extra, (extra > 0).astype(float)
    penalty = (c.sum(axis=1) * (x**2).sum(axis=1)).sum() + (c.sum(axis=0) * (y**2).sum(axis=1)).sum()
    return float((c * (p - x @ y.T) ** 2).sum() + l2 * penalty)


def test_each_turn_lowers_what_is_minimised():
    extra, l2 = sparse(12, 8, seed=4), 0.02
    dense = extra.toarray()
    of_users, of_items = rows_of(extra), rows_of(sp.csr_array(extra.T))
    items = np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32)
    losses = []
    for _ in range(6):
        users = solved(of_users, Side.of(items), l2=l2)
        losses.append(loss(users, items, dense, l2))
        items = solved(of_items, Side.of(users), l2=l2)
        losses.append(loss(users, items, dense, l2))
    # Rows and columns without anything are left out of the sums of the penalty: next to nothing.
    assert all(after <= before * 1.0001 for before, after in pairwise(losses[1:]))
    assert losses[-1] < 0.8 * losses[0]


def fitted(rows: list[list[int]], **chosen: object) -> Als:
    world = checkerboard()
    histories = Histories.of_items([np.array(row, dtype=np.int32) for row in rows])
    dataset = Dataset("rows", world.catalogue, world.training.dataset.users, histories)
    source = Als(**chosen)
    source.fit(TrainingData(dataset, world.training.language))
    return source


def asked(*rows: list[int]) -> Queries:
    return Queries.of_histories(Histories.of_items([np.array(row, dtype=np.int32) for row in rows]))


TWO_GROUPS = [[0, 1, 2], [1, 2, 0], [0, 2], [3, 4, 5], [4, 5, 3], [5, 3]] * 4


def test_somebody_new_is_scored_like_somebody_known_with_the_same_history():
    source = fitted(TWO_GROUPS, n_factors=3)
    histories = Histories.of_items([np.array([0, 1], dtype=np.int32)] * 2)
    queries = Queries(np.array([0, -1], dtype=np.int32), histories, np.zeros(2, dtype=np.int64))
    scores = source.score_all(queries)
    np.testing.assert_array_equal(scores[0], scores[1])
    assert np.nanargmax(np.where(np.isin(np.arange(12), [0, 1]), np.nan, scores[0])) == 2


def test_newer_events_count_more():
    source = fitted(TWO_GROUPS, n_factors=3, history_decay=0.3, l2=0.1, confidence=10.0)
    scores = source.score_all(asked([0, 3], [3, 0]))
    assert scores[0, 4] > scores[0, 1]
    assert scores[1, 1] > scores[1, 4]


def test_nothing_is_said_of_items_and_histories_nobody_knows():
    source = fitted(TWO_GROUPS, n_factors=3)
    scores = source.score_all(asked([0], [], [9]))
    assert np.isnan(scores[:, 6:]).all()
    assert np.isnan(scores[1:]).all()
    assert not np.isnan(scores[0, :6]).any()


def test_the_reason_is_the_event_with_the_largest_part():
    source = fitted(TWO_GROUPS, n_factors=3, history_decay=1.0)
    given_items = np.array([[1, 5, 9, -1]], dtype=np.int32)
    assert source.because(asked([0, 3]), given_items).tolist()[0][:2] == [0, 3]
    assert source.because(asked([0, 3]), given_items).tolist()[0][3] == -1
    assert source.because(asked([]), given_items).tolist() == [[-1, -1, -1, -1]]
