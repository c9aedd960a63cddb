"""EASE against the equation in double precision."""

import numpy as np
import pytest

from zhiyin.contracts import TrainingData
from zhiyin.data.dataset import Dataset
from zhiyin.domain import Histories, Queries
from zhiyin.domain.errors import ZhiyinWarning
from zhiyin.sources import ease
from zhiyin.sources.ease import Ease, EaseConfig
from zhiyin.testing.source_contract import CandidateSourceContract
from zhiyin.testing.worlds import checkerboard


class TestEase(CandidateSourceContract):
    source = Ease
    solves = (checkerboard,)


class TestEaseWithGivenSettings(CandidateSourceContract):
    source = Ease
    settings = {"l2": 5.0, "history_decay": 0.5, "n_neighbours": 4}  # noqa: RUF012


def fitted(rows: list[list[int]], **chosen: object) -> Ease:
    world = checkerboard()
    histories = Histories.of_items([np.array(row, dtype=np.int32) for row in rows])
    dataset = Dataset("rows", world.catalogue, world.training.dataset.users, histories)
    source = Ease(**chosen)
    source.fit(TrainingData(dataset, world.training.language))
    return source


def asked(*rows: list[int]) -> Queries:
    return Queries.of_histories(Histories.of_items([np.array(row, dtype=np.int32) for row in rows]))


def rows_of(seed: int = 0, n_users: int = 40, n_items: int = 12) -> list[list[int]]:
    random = np.random.default_rng(seed)
    return [
        random.choice(n_items, size=random.integers(1, 6), replace=False).tolist() for _ in range(n_users)
    ]


def slow_weights(rows: list[list[int]], l2: float, n_items: int = 12) -> np.ndarray:
    had = np.array([[float(item in row) for item in range(n_items)] for row in rows])
    inverse = np.linalg.inv(had.T @ had + l2 * np.eye(n_items))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return weights


@pytest.mark.parametrize("block", [512, 5])
def test_scores_equal_the_equation(block, monkeypatch):
    monkeypatch.setattr(ease, "_ROWS_AT_ONCE", block)
    rows = rows_of()
    weights = slow_weights(rows, 3.0)
    source = fitted(rows, l2=3.0, history_decay=0.5)
    expected = weights[7] + 0.5 * weights[2] + 0.25 * weights[4]
    found = source.score_all(asked([4, 2, 7]))[0]
    np.testing.assert_allclose(found, np.where(expected > 0, expected, np.nan), rtol=1e-4, atol=1e-6)


def test_the_zero_diagonal_minimises_the_error():
    """No single weight can be moved to lower what is minimised."""
    rows, l2 = rows_of(3), 2.0
    had = np.array([[float(item in row) for item in range(12)] for row in rows])
    weights = ease.item_weights(ease.sp.csr_array(had.astype(np.float32)), l2, n_neighbours=12).toarray()

    def loss(of: np.ndarray) -> float:
        return float(((had - had @ of) ** 2).sum() + l2 * (of**2).sum())

    assert np.all(np.diag(weights) == 0)
    for cell in [(0, 1), (5, 2), (11, 7)]:
        for step in (-0.01, 0.01):
            moved = weights.astype(np.float64)
            moved[cell] += step
            assert loss(moved) > loss(weights.astype(np.float64))


def test_only_the_largest_weights_are_kept():
    rows = rows_of(1)
    dense, pruned = slow_weights(rows, 3.0), fitted(rows, l2=3.0, n_neighbours=3)._weights.toarray()
    for item in range(12):
        kept = np.sort(np.argsort(-np.abs(dense[item]))[:3])
        assert np.flatnonzero(pruned[item]).tolist() == kept.tolist()
        np.testing.assert_allclose(pruned[item, kept], dense[item, kept], rtol=1e-4)


def test_of_a_catalogue_too_large_for_the_memory_the_most_frequent_items_are_kept(monkeypatch):
    monkeypatch.setattr(ease, "_BYTES_A_CELL", 40_000)  # 1 MB holds 5 items
    rows = [[0, 1, 2], [0, 1, 2], [0, 1], [3, 4, 0], [3, 4], [5, 6], [7, 8]]
    with pytest.warns(ZhiyinWarning, match="the 5 most frequent are kept within memory_mb = 1"):
        source = fitted(rows, memory_mb=1, l2=1.0)
    scores = source.score_all(asked([5], [0]))
    assert np.isnan(scores[0]).all()
    assert scores[1, 1] > 0
    assert np.isnan(scores[:, 5:]).all()


def test_the_reason_is_the_event_with_the_largest_part():
    source = fitted([[0, 1], [0, 1], [0, 1], [2, 3], [2, 3], [4, 5]], l2=1.0, history_decay=1.0)
    given_items = np.array([[1, 3, 5, -1]], dtype=np.int32)
    assert source.because(asked([0, 2]), given_items).tolist() == [[0, 2, -1, -1]]


def test_what_was_chosen_is_said_and_used():
    world = checkerboard()
    source = Ease()
    source.fit(world.training)
    assert isinstance(source.chosen, EaseConfig)
    assert source.chosen.l2 in ease.L2_TRIED
    assert source.chosen.history_decay in ease.DECAYS_TRIED
    again = Ease(source.chosen)
    again.fit(world.training)
    np.testing.assert_array_equal(again.score_all(world.queries), source.score_all(world.queries))
