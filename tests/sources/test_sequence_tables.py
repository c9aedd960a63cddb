"""Item vectors of bounded size: shared rows, rounded texts, passes over the catalogue in portions."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zhiyin.contracts import Continuing, Growth
from zhiyin.domain.errors import ConfigError
from zhiyin.sources.sequence import derived, finishing, ranking, tables
from zhiyin.sources.sequence.fitting import whitened_texts
from zhiyin.sources.sequence.network import SequenceNetwork, Shape
from zhiyin.sources.sequence.prediction import score_catalogue
from zhiyin.sources.sequence.ranking import catalogue_ndcg
from zhiyin.sources.sequence.refreshing import taken_apart
from zhiyin.sources.sequence.sharing import shared_rows
from zhiyin.sources.sequence.source import SequenceTransformer
from zhiyin.sources.sequence.tables import IdTable, ItemVectors, TextTable, shared_places
from zhiyin.sources.sequence.text import Whitening
from zhiyin.testing.source_contract import CandidateSourceContract
from zhiyin.testing.worlds import chain, checkerboard
from zhiyin.training.selection import validation_ndcg

TRAINING = {
    "max_epochs": 16,
    "patience": 16,
    "epochs_without_validation": 4,
    "learning_rate": 0.01,
    "warmup_steps": 5,
    "devices": "cpu",
    "precision": "float32",
}
QUICK = {"dimension": 16, "n_blocks": 1, "n_heads": 2, "training": TRAINING}


class TestSharingRows(CandidateSourceContract):
    source = SequenceTransformer
    settings = QUICK | {"n_id_rows": 16}
    solves = (chain,)
    tolerance = 1e-4

    def fitted(self):
        return _fitted()


def _fitted(cache=[]):  # noqa: B006 - one training for all promises
    if not cache:
        source = SequenceTransformer(**TestSharingRows.settings)
        source.fit(checkerboard().training)
        cache.append(source)
    return cache[0]


@pytest.fixture
def everything_is_large(monkeypatch):
    """Small catalogues go the roads of large ones."""
    monkeypatch.setattr(derived, "LARGEST_FULL_CATALOGUE", 3)
    monkeypatch.setattr(derived, "NEGATIVES_BEYOND", 24)
    monkeypatch.setattr(finishing, "HALVED_ABOVE", 3)
    monkeypatch.setattr(tables, "ROUNDED_ABOVE", 3)
    monkeypatch.setattr(tables, "ITEMS_AT_ONCE", 7)
    monkeypatch.setattr(ranking, "_SCORES_AT_ONCE", 1)
    monkeypatch.setattr("zhiyin.sources.sequence.text.ITEMS_AT_ONCE", 5)


def counts_of(n_items: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).zipf(1.5, n_items).astype(np.int64) % 1000


def test_a_table_that_holds_all_items_gives_each_its_row():
    torch.manual_seed(3)
    expected = torch.randn(40, 8) * 0.02
    for n_rows in (40, 41, 10_000):
        torch.manual_seed(3)
        table = IdTable(counts_of(40), n_rows, 8)
        torch.testing.assert_close(table(), expected, rtol=0, atol=0)
        torch.testing.assert_close(table(torch.tensor([7, 3])), expected[[7, 3]], rtol=0, atol=0)


@given(st.integers(1, 60), st.integers(1, 80), st.integers(0, 99))
@settings(max_examples=40)
def test_rows_are_bounded_and_the_frequent_have_their_own(n_rows, n_items, seed):
    counts = counts_of(n_items, seed)
    table = IdTable(counts, n_rows, 4)
    assert len(table.rows) == min(n_rows, n_items)
    torch.testing.assert_close(table(torch.arange(n_items)), table())
    if n_rows >= n_items:
        assert table.places is None
        return
    first, second = shared_places(counts, n_rows)
    own = second < 0
    assert own.sum() == n_rows // 2
    assert counts[own].min(initial=10**9) >= counts[~own].max()
    assert len(np.unique(first[own])) == own.sum()
    assert not np.isin(first[~own], first[own]).any()
    assert min(first.min(), second[~own].min()) >= 0
    assert max(first.max(), second.max()) < n_rows
    rows = table.rows.detach()
    slow = torch.stack([rows[a] + (rows[b] if b >= 0 else 0) for a, b in zip(first, second, strict=True)])
    torch.testing.assert_close(table(), slow)


def test_hashes_spread_evenly_and_two_items_rarely_share_both_rows():
    first, second = shared_places(np.ones(60_000, dtype=np.int64), 20_000)
    shared = second >= 0
    for places in (first[shared], second[shared]):
        per_row = np.bincount(places - 10_000, minlength=10_000)
        assert per_row.mean() == 5
        assert per_row.max() <= 10
    pairs = np.stack([first, second])[:, shared]
    assert len(np.unique(pairs, axis=1).T) > 0.999 * shared.sum()


def test_the_number_of_parameters_is_bounded_by_the_rows():
    world = chain(n_items=40)
    sizes = {}
    for n_rows in (8, 20, 40):
        source = SequenceTransformer(
            **QUICK | {"training": TRAINING | {"max_epochs": 1}}, n_id_rows=n_rows, use_text=False
        )
        source.fit(world.training)
        sizes[n_rows] = source.state().facts["n_parameters"]
    assert sizes[40] - sizes[20] == 20 * 16
    assert sizes[20] - sizes[8] == 12 * 16


def test_enough_rows_give_the_same_source():
    world = chain()
    brief = QUICK | {"training": TRAINING | {"max_epochs": 1}}
    sources = [SequenceTransformer(**brief, n_id_rows=n_rows) for n_rows in ("auto", 10_000)]
    for source in sources:
        source.fit(world.training)
    few, many = (source.score_all(world.queries) for source in sources)
    np.testing.assert_array_equal(few, many)


@pytest.mark.parametrize("wrong", [0, -5, "many", 2.5])
def test_a_wrong_number_of_rows_is_refused(wrong):
    with pytest.raises(ConfigError, match="n_id_rows"):
        SequenceTransformer(n_id_rows=wrong)


@pytest.mark.usefixtures("everything_is_large")
def test_the_roads_of_large_catalogues_lead_to_the_same_answers():
    world = chain()
    source = SequenceTransformer(**QUICK)
    source.fit(world.training)
    assert source.trained is not None
    assert source.trained.item_vectors.dtype == torch.float16
    assert source.state().facts["full_softmax"] is False
    assert world.share_right(source.propose(world.queries, 1)) > 0.95
    again = SequenceTransformer(**QUICK)
    again.restore(source.state())
    np.testing.assert_array_equal(again.score_all(world.queries), source.score_all(world.queries))
    before = source.score_all(world.queries)
    source.add_items(world.catalogue.rows(np.array([0, 1])), world.training.language)
    after = source.score_all(world.queries)
    np.testing.assert_array_equal(after[:, : before.shape[1]], before)
    assert np.isfinite(after).all()


def test_texts_in_eight_bits_stay_what_they_were(monkeypatch):
    world = checkerboard()
    whitening, exact = whitened_texts(world.training.language, world.catalogue)
    monkeypatch.setattr(tables, "ROUNDED_ABOVE", 3)
    monkeypatch.setattr("zhiyin.sources.sequence.text.ITEMS_AT_ONCE", 5)
    by_portions, rounded = whitened_texts(world.training.language, world.catalogue)
    assert rounded.numbers.dtype == torch.int8
    np.testing.assert_allclose(by_portions.mean, whitening.mean, atol=1e-6)
    covariances = [w.matrix @ w.matrix.T for w in (by_portions, whitening)]
    np.testing.assert_allclose(*covariances, rtol=1e-3, atol=1e-3)
    # Directions that vary alike may be turned; what two texts have in common stays.
    alike = [(table() @ table().T).numpy() for table in (rounded, exact)]
    np.testing.assert_allclose(*alike, atol=0.02)
    assert (rounded.has_text == exact.has_text).all()


def test_ranking_in_portions_gives_the_same_ndcg(monkeypatch):
    world = chain()
    torch.manual_seed(0)
    made = SequenceNetwork(Shape(16, 1, 2, 9), dropout=0.0).eval()
    n_items = world.training.dataset.n_items
    items = ItemVectors(IdTable(np.ones(n_items, dtype=np.int64), n_items, 16), None)
    examples = world.training.validation
    with torch.no_grad():
        items.ids.rows.mul_(40).round_()  # many ties
        vectors = items()
    expected = validation_ndcg(lambda queries: score_catalogue(made, vectors, queries), examples, k=5)
    for at_once in (1, 10**9):
        monkeypatch.setattr(ranking, "_SCORES_AT_ONCE", at_once)
        assert catalogue_ndcg(made, items, examples, k=5) == pytest.approx(expected, abs=0.01)
    assert 0 < expected < 1


@given(st.integers(2, 30), st.integers(31, 90), st.integers(0, 99))
@settings(max_examples=25)
def test_rows_are_found_again_from_the_vectors_they_add_up_to(n_rows, n_items, seed):
    torch.manual_seed(seed)
    table = IdTable(counts_of(n_items, seed), n_rows, 4)
    with torch.no_grad():
        table.rows.mul_(50)
        vectors = table()
        table.rows.copy_(shared_rows(vectors, table.places, n_rows))
        torch.testing.assert_close(table(), vectors, rtol=0.02, atol=0.02)


def test_a_refresh_goes_on_from_shared_rows():
    world = chain()
    source = SequenceTransformer(**QUICK, n_id_rows=8)
    source.fit(world.training)
    trained, counts = source.trained, world.training.dataset.item_counts
    assert trained is not None
    whitening, texts = whitened_texts(world.training.language, world.catalogue)
    items = taken_apart(trained, IdTable(counts, 8, 16), texts, whitening)
    with torch.no_grad():
        error = (items() - trained.item_vectors).abs()[torch.from_numpy(counts > 0)]
    assert float(error.max()) < 0.02
    is_new = np.arange(world.training.dataset.histories.n_events) % 7 == 0
    growth = Growth(is_new=is_new, continuing=Continuing(epochs=2))
    again = source.refreshed(world.training, growth)
    assert world.share_right(again.propose(world.queries, 1)) > 0.95


def test_whitening_of_portions_measures_what_it_measures_at_once():
    random = np.random.default_rng(0)
    vectors = (random.normal(size=(500, 6)) * [9, 3, 1, 1, 0.8, 0.5] + 2).astype(np.float32)
    vectors[::9] = 0.0
    once, portions = Whitening.of(vectors), Whitening.of_portions(np.array_split(vectors, 7))
    np.testing.assert_allclose(portions.mean, once.mean, rtol=1e-5)
    np.testing.assert_allclose(np.abs(portions.matrix), np.abs(once.matrix), rtol=1e-3, atol=1e-5)


def test_text_tables_differ_where_their_texts_do():
    one, other = (TextTable.of([np.full((2, 3), value, dtype=np.float32)], 2) for value in (1.0, 2.0))
    assert not np.array_equal(one.arrays()["texts"], other.arrays()["texts"])
