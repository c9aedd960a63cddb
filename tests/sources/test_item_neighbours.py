"""Item neighbours, against likenesses computed pair by pair."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zhiyin.contracts import Steps, TrainingData
from zhiyin.data.dataset import Dataset
from zhiyin.domain import Histories, Queries
from zhiyin.sources import likeness as likenesses
from zhiyin.sources.item_neighbours import ItemNeighbours
from zhiyin.testing.source_contract import CandidateSourceContract
from zhiyin.testing.worlds import checkerboard


class TestItemNeighbours(CandidateSourceContract):
    source = ItemNeighbours
    solves = (checkerboard,)


class TestJaccardNeighbours(CandidateSourceContract):
    source = ItemNeighbours
    settings = {"similarity": "jaccard", "history_decay": 0.9}  # noqa: RUF012
    solves = (checkerboard,)


class TestLiftNeighbours(CandidateSourceContract):
    source = ItemNeighbours
    settings = {"similarity": "lift"}  # noqa: RUF012
    solves = (checkerboard,)


class TestConditionalNeighbours(CandidateSourceContract):
    source = ItemNeighbours
    settings = {"similarity": "conditional"}  # noqa: RUF012
    solves = (checkerboard,)


def fitted(rows: list[list[int]], **chosen: object) -> tuple[ItemNeighbours, int]:
    world = checkerboard()
    histories = Histories.of_items([np.array(row, dtype=np.int32) for row in rows])
    dataset = Dataset("rows", world.catalogue, world.training.dataset.users, histories)
    source = ItemNeighbours(**chosen)
    source.fit(TrainingData(dataset, world.training.language))
    return source, dataset.n_items


def slow_likeness(rows: list[list[int]], n_items: int, similarity: str, shrinkage: float, damping: float):
    """The definition, one pair after the other."""
    likeness = np.zeros((n_items, n_items))
    owned = [set(row) for row in rows]
    weight = [len(items) ** -damping if items else 0.0 for items in owned]
    alone = [sum(w for w, items in zip(weight, owned, strict=True) if a in items) for a in range(n_items)]
    for a in range(n_items):
        for b in range(n_items):
            both = sum(w for w, items in zip(weight, owned, strict=True) if a in items and b in items)
            if a == b or both == 0:
                continue
            norm = {
                "cosine": (alone[a] * alone[b]) ** 0.5,
                "jaccard": alone[a] + alone[b] - both,
                "conditional": alone[a],
                "lift": alone[a] * alone[b] / max(1, sum(bool(items) for items in owned)),
            }[similarity]
            likeness[a, b] = both / norm * both / (both + shrinkage)
    return likeness


histories = st.lists(st.lists(st.integers(0, 11), max_size=6), min_size=1, max_size=8)


@settings(max_examples=40, deadline=None)
@given(
    rows=histories,
    similarity=st.sampled_from(["cosine", "jaccard", "conditional", "lift"]),
    damping=st.floats(0, 1),
)
def test_scores_equal_the_definition(rows, similarity, damping):
    chosen = {"similarity": similarity, "shrinkage": 2.0, "user_damping": damping, "history_decay": 0.5}
    source, n_items = fitted(rows, **chosen)
    likeness = slow_likeness(rows, n_items, similarity, 2.0, damping)
    asked = Queries.of_histories(Histories.of_items([np.array([3, 5, 3]), np.array([0])]))
    expected = np.stack([likeness[3] * 1.25 + likeness[5] * 0.5, likeness[0]])
    expected = np.where(expected > 0, expected, np.nan)
    np.testing.assert_allclose(source.score_all(asked), expected, rtol=1e-4, atol=1e-6)


def test_only_the_nearest_neighbours_are_kept(monkeypatch):
    rows = [[0, 1], [0, 1], [0, 1], [0, 2], [0, 2], [0, 3]]
    monkeypatch.setattr(likenesses, "_ITEMS_AT_ONCE", 2)  # several blocks
    source, _ = fitted(rows, n_neighbours=2, history_decay=1.0)
    scores = source.score_all(Queries.of_histories(Histories.of_items([np.array([0])])))[0]
    assert np.flatnonzero(scores > 0).tolist() == [1, 2]
    back = source.score_all(Queries.of_histories(Histories.of_items([np.array([3])])))[0]
    assert np.flatnonzero(back > 0).tolist() == [0]


def test_old_events_beyond_the_history_length_are_not_looked_at():
    source, _ = fitted([[0, 1], [2, 3]], history_length=2)
    scores = source.score_all(Queries.of_histories(Histories.of_items([np.array([0, 2, 7])])))[0]
    assert np.flatnonzero(scores > 0).tolist() == [3]


def test_an_item_nobody_took_is_nobodys_neighbour():
    source, n_items = fitted([[0, 1]])
    proposed = source.propose(Queries.of_histories(Histories.of_items([np.array([7])])), n_items)
    assert not proposed.is_item.any()
    # Silence, not a zero: a zero for every item would rank the catalogue by its order in the file.
    asked = Queries.of_histories(Histories.of_items([np.array([7]), np.array([], dtype=np.int32)]))
    assert np.isnan(source.score_all(asked)).all()


@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_decay_at_its_bounds(decay: float):
    source, _ = fitted([[0, 1], [2, 3]], history_decay=decay)
    scores = source.score_all(Queries.of_histories(Histories.of_items([np.array([0, 2])])))[0]
    assert np.flatnonzero(scores > 0).tolist() == ([3] if decay == 0 else [1, 3])


def test_a_run_on_one_item_counts_once():
    source, _ = fitted([[0, 1], [2, 3]], history_decay=0.5)
    once, twice = (
        source.score_all(Queries.of_histories(Histories.of_items([np.array(row)])))
        for row in ([0, 2], [0, 2, 2])
    )
    np.testing.assert_array_equal(once, twice)


def test_the_reason_is_the_item_with_the_largest_part():
    source, _ = fitted([[0, 1], [0, 1], [2, 1], [2, 3]], history_decay=0.5)
    asked = Queries.of_histories(Histories.of_items([np.array([0, 2]), np.array([], dtype=np.int32)]))
    given = np.array([[1, 3, 9, -1], [1, 3, 9, -1]], dtype=np.int32)
    reasons = source.because(asked, given).tolist()
    # Half of how alike 0 and 1 are is more than how alike 2 and 1 are.
    assert reasons == [[0, 2, -1, -1], [-1, -1, -1, -1]]


@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(
        st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1)), max_size=7), min_size=1, max_size=5
    ),
    similarity=st.sampled_from(["cosine", "conditional"]),
    n_early=st.integers(0, 4),
)
def test_weighted_events_absorbed_give_the_sums_of_training(rows, similarity, n_early):
    # Apart from a weaker event right after a stronger one on an item, which training counts as the stronger.
    rows = [
        [event for place, event in enumerate(row) if not place or event[0] != row[place - 1][0]]
        for row in rows
    ]
    world = checkerboard()
    plain = Histories.of_items([np.array([item for item, _ in row], dtype=np.int32) for row in rows])
    kinds = np.array([kind for row in rows for _, kind in row], dtype=np.int16)
    everything = replace(plain, event_index=kinds)
    early = plain.age_of_event >= n_early
    weights = np.array([1.0, 0.25], dtype=np.float32)
    sources = []
    for seen in (everything.where(early), everything):
        data = Dataset("rows", world.catalogue, world.training.dataset.users, seen, ("buy", "view"), weights)
        source = ItemNeighbours(similarity=similarity, user_damping=0.0)
        source.fit(TrainingData(data, world.training.language))
        sources.append(source)
    absorbing, again = sources
    absorbing.absorb(Steps.of_histories(everything, np.flatnonzero(~early)))
    found, expected = absorbing._since, again._since
    assert found is not None
    assert expected is not None
    counts = found.counts.toarray()
    heads, tails, sums = found.pairs.pairs()
    counts[heads, tails] += sums
    np.testing.assert_allclose(counts, expected.counts.toarray(), atol=1e-4)
    of_items = found.of_items.astype(np.float64)
    _, items, sums = found.takers.pairs()
    of_items[items] += sums
    np.testing.assert_allclose(of_items, expected.of_items, atol=1e-4)
