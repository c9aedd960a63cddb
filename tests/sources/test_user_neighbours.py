"""User neighbours, against likenesses computed person by person."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhiyin.contracts import TrainingData
from zhiyin.data.dataset import Dataset
from zhiyin.domain import Histories, Queries
from zhiyin.sources.user_neighbours import UserNeighbours
from zhiyin.testing.source_contract import CandidateSourceContract
from zhiyin.testing.worlds import checkerboard


class TestUserNeighbours(CandidateSourceContract):
    source = UserNeighbours
    solves = (checkerboard,)


class TestJaccardUserNeighbours(CandidateSourceContract):
    source = UserNeighbours
    settings = {"similarity": "jaccard", "shrinkage": 2.0}  # noqa: RUF012
    solves = (checkerboard,)


class TestConditionalUserNeighbours(CandidateSourceContract):
    source = UserNeighbours
    settings = {"similarity": "conditional", "history_decay": 0.7}  # noqa: RUF012
    solves = (checkerboard,)


def fitted(rows: list[list[int]], **chosen: object) -> UserNeighbours:
    world = checkerboard()
    histories = Histories.of_items([np.array(row, dtype=np.int32) for row in rows])
    dataset = Dataset("rows", world.catalogue, world.training.dataset.users, histories)
    source = UserNeighbours(**chosen)
    source.fit(TrainingData(dataset, world.training.language))
    return source


def asked(*rows: list[int]) -> Queries:
    return Queries.of_histories(Histories.of_items([np.array(row, dtype=np.int32) for row in rows]))


def slow_scores(rows, query, similarity, shrinkage, damping, n_neighbours, n_items=12):
    """The definition, one person after the other."""
    had = np.array([[float(item in row) for item in range(n_items)] for row in rows])
    weights = np.maximum(had.sum(axis=0), 1) ** -damping
    q = np.array([float(item in query) for item in range(n_items)])
    likeness = []
    for x in had:
        both, c = (q * x * weights).sum(), (q * x).sum()
        norm = {
            "cosine": ((q * q * weights).sum() * (x * x * weights).sum()) ** 0.5,
            "jaccard": (q * q * weights).sum() + (x * x * weights).sum() - both,
            "conditional": (q * q * weights).sum(),
        }[similarity]
        likeness.append(both / norm * c / (c + shrinkage) if c else 0.0)
    nearest = np.argsort(-np.array(likeness), kind="stable")[:n_neighbours]
    return sum(likeness[person] * had[person] for person in nearest), sorted(likeness, reverse=True)


histories = st.lists(st.lists(st.integers(0, 11), max_size=6), min_size=1, max_size=8)


@settings(max_examples=40, deadline=None)
@given(
    rows=histories,
    query=st.lists(st.integers(0, 11), min_size=1, max_size=5),
    similarity=st.sampled_from(["cosine", "jaccard", "conditional"]),
    shrinkage=st.sampled_from([0.0, 3.0]),
    damping=st.sampled_from([0.0, 0.5, 1.0]),
    n_neighbours=st.integers(1, 9),
)
def test_scores_equal_the_definition(rows, query, similarity, shrinkage, damping, n_neighbours):
    expected, likeness = slow_scores(rows, query, similarity, shrinkage, damping, n_neighbours)
    if n_neighbours < len(likeness) and np.isclose(likeness[n_neighbours - 1], likeness[n_neighbours]):
        return  # who of two equally like people is a neighbour is open
    chosen = {"similarity": similarity, "shrinkage": shrinkage, "item_damping": damping}
    source = fitted(rows, history_decay=1.0, n_neighbours=n_neighbours, **chosen)
    found = source.score_all(asked(query))[0]
    np.testing.assert_allclose(np.nan_to_num(found), expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(np.isnan(found), expected == 0)


def test_who_asks_is_not_their_own_neighbour():
    source = fitted([[0, 1, 2], [0, 3]], history_decay=1.0, n_neighbours=1)
    histories = Histories.of_items([np.array([0, 1], dtype=np.int32)] * 2)
    queries = Queries(np.array([0, -1], dtype=np.int32), histories, np.zeros(2, dtype=np.int64))
    proposed = source.propose(queries, 12).item_index
    assert 2 not in proposed[0]
    assert 2 in proposed[1]


def test_newer_events_find_nearer_people():
    source = fitted([[0, 1], [2, 3]], history_decay=0.5)
    scores = source.score_all(asked([0, 2], [2, 0]))
    assert scores[0, 3] > scores[0, 1]
    assert scores[1, 1] > scores[1, 3]


@pytest.mark.parametrize(("n", "reached"), [(1, [0, 1]), (3, [0, 1, 2, 3, 4, 5])])
def test_of_a_frequent_item_those_are_looked_up_to_whom_it_matters_most(n, reached):
    rows = [[0, 2, 3, 4, 5], [0, 1], [0, 2, 3]]
    source = fitted(rows, users_per_item=n, history_decay=1.0)
    assert np.flatnonzero(source.score_all(asked([0]))[0] > 0).tolist() == reached


def test_the_reason_is_the_event_that_the_neighbours_share():
    source = fitted([[0, 1], [0, 1], [2, 3], [2, 1]], history_decay=1.0)
    given_items = np.array([[1, 3, 9, -1]], dtype=np.int32)
    assert source.because(asked([0, 2]), given_items).tolist() == [[0, 2, -1, -1]]
    assert source.because(asked([]), given_items).tolist() == [[-1, -1, -1, -1]]
