"""Text neighbours that are listed at training, against comparing one and all."""

import numpy as np
import polars as pl
import pytest

from zhiyin.contracts import ComponentState, TrainingData
from zhiyin.data.dataset import Dataset
from zhiyin.domain import PAD, Barred, Catalogue, Histories, Queries, Silent, Vocabulary
from zhiyin.sources.eight_bits import EightBits
from zhiyin.sources.listed import LISTED, ItemLists, ListedOpinion
from zhiyin.sources.nearest import NearestOpinion, index_of, index_state
from zhiyin.sources.semantic import SemanticNeighbours
from zhiyin.testing.source_contract import through_files
from zhiyin.testing.toy_language import ToyLanguage

N_ITEMS, N_TOPICS, DIMENSION, N_QUERIES = 4_000, 40, 48, 60


@pytest.fixture(scope="module")
def vectors() -> EightBits:
    random = np.random.default_rng(5)
    topics = random.standard_normal((N_TOPICS, DIMENSION))[np.arange(N_ITEMS) % N_TOPICS]
    made = (topics + 0.8 * random.standard_normal((N_ITEMS, DIMENSION))).astype(np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    made[17] = 0  # an item without words
    return EightBits.of(made)


@pytest.fixture(scope="module")
def state(vectors: EightBits) -> ComponentState:
    index = index_of(vectors, above=1)
    lists = ItemLists.of(index, vectors, Silent())
    assert lists is not None
    arrays = {**vectors.arrays(), **index_state(index), **lists.state()}
    return ComponentState(arrays, {"history_decay": 0.7, "whitening": 0.0})


def listing(state: ComponentState) -> SemanticNeighbours:
    source = SemanticNeighbours(index_above=1)
    source.restore(state)
    return source


def comparing(vectors: EightBits) -> SemanticNeighbours:
    source = SemanticNeighbours()
    source.restore(ComponentState(vectors.arrays(), {"history_decay": 0.7, "whitening": 0.0}))
    return source


@pytest.fixture(scope="module")
def queries() -> Queries:
    """Histories of 3 to 12 items out of two topics."""
    random = np.random.default_rng(6)
    rows = []
    for query in range(N_QUERIES):
        topic = random.choice([query % N_TOPICS, (query + 7) % N_TOPICS], random.integers(3, 13))
        rows.append((topic + N_TOPICS * random.integers(0, N_ITEMS // N_TOPICS, len(topic))).astype(np.int32))
    return Queries.of_histories(Histories.of_items(rows))


def barred_by_history(queries: Queries, for_all: np.ndarray | None = None) -> Barred:
    histories = queries.histories
    return Barred(len(queries), N_ITEMS, for_all, histories.row_of_event, histories.item_index.astype(int))


def shared(found: np.ndarray, expected: np.ndarray) -> float:
    """The share of (B, n) expected items that were found."""
    pairs = [(set(a) - {PAD}, set(b) - {PAD}) for a, b in zip(found, expected, strict=True)]
    return float(np.mean([len(a & b) / len(b) for a, b in pairs]))


def test_lists_lead_to_the_best_of_all_and_their_scores_are_exact(state, vectors, queries):
    opinion, exact = listing(state).ask(queries), comparing(vectors).ask(queries)
    assert isinstance(opinion, ListedOpinion)
    barred = barred_by_history(queries)
    found, expected = opinion.best(20, barred), exact.best(20, barred)
    assert not barred.holds(found).any()
    assert (found != PAD).all()
    assert shared(found, expected) > 0.5
    ratio = exact.at(found).sum() / exact.at(expected).sum()
    assert 0.95 < ratio <= 1.0 + 1e-6
    np.testing.assert_allclose(opinion.at(found), exact.at(found), atol=5e-3)


def test_no_request_searches_where_lists_suffice(state, queries, monkeypatch):
    source = listing(state)
    monkeypatch.setattr(source._index, "search", lambda *_: pytest.fail("searched"))
    assert (source.ask(queries).best(20, barred_by_history(queries)) != PAD).all()


def test_histories_too_short_for_the_lists_are_searched(state, vectors):
    rows = [np.array([3], dtype=np.int32), np.arange(100, 112, dtype=np.int32), np.array([17], np.int32)]
    queries = Queries.of_histories(Histories.of_items(rows))
    n = LISTED + 30
    found = listing(state).ask(queries).best(n, barred_by_history(queries))
    expected = comparing(vectors).ask(queries).best(n, barred_by_history(queries))
    assert [len(set(row) - {PAD}) for row in found] == [n, n, 0], "an item without words says nothing"
    assert shared(found[:1], expected[:1]) > 0.9


def test_where_most_is_barred_for_everybody_what_is_open_is_searched(state, vectors, queries):
    for_all = np.random.default_rng(8).random(N_ITEMS) > 0.1
    barred = barred_by_history(queries, for_all)
    found = listing(state).ask(queries).best(10, barred)
    assert not barred.holds(found).any()
    assert shared(found, comparing(vectors).ask(queries).best(10, barred)) > 0.9


def test_items_without_words_stand_in_no_list(state):
    lists = ItemLists.restored(state.arrays)
    assert lists is not None
    assert lists.trained[[17]].nnz == 0
    assert 17 not in lists.trained.indices
    rows = np.repeat(np.arange(N_ITEMS), np.diff(lists.trained.indptr))
    assert (rows != lists.trained.indices).all(), "nothing is its own neighbour"
    assert (lists.trained.dtype, lists.trained.indices.dtype) == (np.int8, np.int32)


def test_arrivals_are_reached_from_what_they_are_like_and_lead_there(state, vectors):
    source = listing(state)
    like = vectors.take(np.array([8, 9]))
    language = FixedVectors(like)
    source.add_items(arrivals("first", "second"), language)
    source.add_items(arrivals("third"), FixedVectors(like[:1]))
    for one in (source, listing(through_files(source.state()))):
        asked = [[8], [9], [N_ITEMS], [N_ITEMS + 2]]
        queries = Queries.of_histories(Histories.of_items([np.array(row, dtype=np.int32) for row in asked]))
        rows = queries.histories.row_of_event
        barred = Barred(4, N_ITEMS + 3, None, rows, queries.histories.item_index.astype(int))
        opinion = one.ask(queries)
        assert isinstance(opinion, ListedOpinion)
        found = opinion.best(5, barred)
        assert {N_ITEMS, N_ITEMS + 2} <= set(found[0].tolist())
        assert N_ITEMS + 1 in found[1]
        assert {8, N_ITEMS + 2} <= set(found[2].tolist())
        assert {8, N_ITEMS} <= set(found[3].tolist())
        assert np.isfinite(opinion.at(found)).all()


def test_items_that_arrive_together_are_linked_as_if_they_came_one_by_one(state):
    random = np.random.default_rng(9)
    topic = random.standard_normal(DIMENSION)
    new = (topic + 0.4 * random.standard_normal((2 * LISTED, DIMENSION))).astype(np.float32)
    new /= np.linalg.norm(new, axis=1, keepdims=True)
    together, one_by_one = listing(state), listing(state)
    together.add_items(arrivals(*map(str, range(len(new)))), FixedVectors(new))
    for place in range(len(new)):
        one_by_one.add_items(arrivals(str(place)), FixedVectors(new[place : place + 1]))
    queries = Queries.of_histories(
        Histories.of_items([np.array([N_ITEMS + place], np.int32) for place in (0, 70)])
    )
    barred = Barred(2, N_ITEMS + len(new), None, np.arange(2), queries.histories.item_index.astype(int))
    for source in (together, one_by_one):
        found = source.ask(queries).best(10, barred)
        closeness = new[[0, 70]] @ new.T
        closeness[[0, 1], [0, 70]] = -1
        best = N_ITEMS + np.argsort(-closeness, axis=1)[:, :10]
        assert (found >= N_ITEMS).all(), "the new topic is reached"
        assert shared(found, best) > 0.6


def test_training_lists_and_a_saved_source_answers_the_same():
    random = np.random.default_rng(7)
    words = [f"word{word}" for word in range(300)]
    titles = [" ".join(random.choice(words, 4)) for _ in range(50 * LISTED)]
    catalogue = Catalogue.from_table(
        pl.DataFrame({"item_id": [f"item {place}" for place in range(len(titles))], "title": titles})
    )
    histories = Histories.of_items([random.integers(0, len(titles), 5).astype(np.int32) for _ in range(30)])
    dataset = Dataset("made up", catalogue, Vocabulary([f"user {user}" for user in range(30)]), histories)
    source = SemanticNeighbours(index_above=1_000, whitening=0.0)
    source.fit(TrainingData(dataset, ToyLanguage()))
    again = SemanticNeighbours(index_above=1_000, whitening=0.0)
    again.restore(through_files(source.state()))
    queries = Queries.of_histories(histories)
    barred = Barred.nothing(30, len(titles))
    first, second = source.ask(queries), again.ask(queries)
    assert isinstance(first, ListedOpinion)
    assert isinstance(second, ListedOpinion)
    np.testing.assert_array_equal(first.best(50, barred), second.best(50, barred))


def test_without_an_index_and_in_small_catalogues_nothing_is_listed(vectors):
    assert ItemLists.of(None, vectors, Silent()) is None
    few = EightBits(vectors.numbers[:1_000], vectors.scale[:1_000])
    assert ItemLists.of(index_of(few, above=1), few, Silent()) is None


def test_a_bundle_without_lists_is_searched(state, vectors, queries):
    bare = {name: array for name, array in state.arrays.items() if not name.startswith("lists.")}
    source = listing(ComponentState(bare, state.facts))
    assert isinstance(source.ask(queries), NearestOpinion)
    source.add_items(arrivals("new"), FixedVectors(vectors.take(np.array([3]))))
    assert source.state().arrays.keys() == bare.keys()


class FixedVectors(ToyLanguage):
    """Says of whatever comes that its vectors are these."""

    def __init__(self, vectors: np.ndarray) -> None:
        super().__init__()
        self._vectors = vectors

    def vectors(self, catalogue: Catalogue) -> np.ndarray:
        assert len(catalogue) == len(self._vectors)
        return self._vectors


def arrivals(*ids: str) -> Catalogue:
    return Catalogue.from_table(pl.DataFrame({"item_id": list(ids), "title": list(ids)}))
