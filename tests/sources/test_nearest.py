"""Sources that look their items up in an index, against the same sources that compare one and all."""

from typing import ClassVar

import numpy as np
import pytest

from zhiyin.contracts import CandidateSource
from zhiyin.domain import Barred, Queries
from zhiyin.sources.nearest import THOROUGH, NearestOpinion, index_of, index_state, restored_index
from zhiyin.sources.semantic import SemanticNeighbours
from zhiyin.sources.sequence.source import SequenceTransformer
from zhiyin.stores.vectors.exact import ExactIndex
from zhiyin.stores.vectors.index import VectorIndex
from zhiyin.testing.source_contract import CandidateSourceContract, through_files
from zhiyin.testing.worlds import arrival, checkerboard

SHORT = {"learns_repeats": True, "training": {"max_epochs": 2}}


class TestIndexedSemantic(CandidateSourceContract):
    source = SemanticNeighbours
    settings: ClassVar = {"index_above": 1}
    tolerance = 1e-2


@pytest.mark.parametrize(("source", "settings"), [(SemanticNeighbours, {}), (SequenceTransformer, SHORT)])
def test_an_index_finds_what_comparing_one_and_all_finds(source: type[CandidateSource], settings: dict):
    world = checkerboard()
    exact = source(**settings)
    exact.fit(world.training)
    indexed = source(index_above=1, **settings)
    indexed.restore(through_files(exact.state()))
    assert exact.is_dense
    assert not indexed.is_dense
    again = source(index_above=1, **settings)
    again.restore(through_files(indexed.state()))
    for one in (exact, indexed, again):
        one.add_items(arrival(world, 1), world.training.language)
    barred = Barred(len(world.queries), len(world.catalogue) + 1, None, *_first_two(world.queries))
    expected = exact.propose(world.queries, 7, barred)
    for one in (indexed, again):
        found = one.propose(world.queries, 7, barred)
        # Vectors are looked up in 127 steps a number, so that the last places may go to an almost equal item.
        scores, best = found.column(one.name), expected.column(one.name)
        np.testing.assert_allclose(scores[:, :5], best[:, :5], rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(scores, best, atol=0.1)
        assert not barred.holds(found.item_index).any()


def _first_two(queries: Queries) -> tuple[np.ndarray, np.ndarray]:
    rows = np.repeat(np.arange(len(queries)), 2)
    return rows, np.tile(np.array([0, 1]), len(queries))


@pytest.mark.parametrize("share", [0.02, 0.3, 1.0])
def test_only_open_items_are_found_and_none_better_is_missed(share: float):
    random = np.random.default_rng(3)
    vectors = random.standard_normal((400, 8)).astype(np.float32)
    asked = random.standard_normal((5, 8)).astype(np.float32)
    index = ExactIndex(8)
    index.put(np.arange(450, dtype=np.int32), random.standard_normal((450, 8)).astype(np.float32))
    index.put(np.arange(400, dtype=np.int32), vectors)
    for_all = random.random(400) >= share
    row, item = np.repeat(np.arange(5), 6), random.integers(0, 400, 30)
    barred = Barred(5, 400, for_all, row, item)
    is_silent = np.array([False, False, True, False, False])
    without = np.array([5, 9])
    found = NearestOpinion(index, vectors, asked, is_silent, without).best(6, barred)
    scores = np.where(barred.dense(), -np.inf, asked @ vectors.T)
    scores[:, without] = -np.inf
    for query in range(5):
        best = np.argsort(-scores[query])[:6]
        expected = set() if is_silent[query] else set(best[np.isfinite(scores[query, best])].tolist())
        got = set(found[query].tolist()) - {-1}
        assert got <= expected if 0.05 < share < 1 else got == expected
        assert len(got) >= len(expected) - 1


def test_the_best_of_vectors_without_groups_are_found():
    """Like those of a trained factor model: 64 numbers that vary almost alike, lengths that differ."""
    random = np.random.default_rng(0)
    n_items = 6_000
    spread = np.linspace(1.6, 0.95, 64)
    vectors = random.standard_normal((n_items, 64)) * spread * 0.6 + random.standard_normal(64) * 0.09
    vectors = (vectors * random.lognormal(0.0, 0.15, (n_items, 1))).astype(np.float32)
    asked = np.stack([vectors[random.integers(0, n_items, 6)].mean(axis=0) for _ in range(50)])
    nothing = np.empty(0, dtype=np.int64)
    expected = np.argsort(-(asked @ vectors.T), axis=1)[:, :50]

    def recall(index: VectorIndex | None) -> float:
        assert index is not None
        opinion = NearestOpinion(index, vectors, asked, np.zeros(50, dtype=np.bool_), nothing)
        found = opinion.best(50, Barred.nothing(50, n_items))
        return float(np.mean([len(set(a) & set(b)) / 50 for a, b in zip(found, expected, strict=True)]))

    index = index_of(vectors, above=1, config=THOROUGH)
    assert recall(index) > 0.95
    restored = restored_index(index_state(index), vectors, above=1, config=THOROUGH)
    assert recall(restored) == recall(index)
