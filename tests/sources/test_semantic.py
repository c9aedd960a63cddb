"""Semantic neighbours, against cosines computed one by one."""

from dataclasses import replace

import numpy as np
import polars as pl

from zhiyin.domain import Catalogue, Histories, Queries
from zhiyin.sources.semantic import SemanticNeighbours
from zhiyin.testing.source_contract import CandidateSourceContract
from zhiyin.testing.toy_language import HashedWords, ToyLanguage
from zhiyin.testing.worlds import arrival, checkerboard, topics


class TestSemanticNeighbours(CandidateSourceContract):
    source = SemanticNeighbours
    solves = (checkerboard, topics)


class TestWhitenedNeighbours(CandidateSourceContract):
    source = SemanticNeighbours
    settings = {"whitening": 0.3, "history_decay": 0.9}  # noqa: RUF012
    solves = (topics,)


def fitted(source: SemanticNeighbours, world=None, language=None) -> SemanticNeighbours:
    training = (world or topics()).training
    source.fit(training if language is None else replace(training, language=language))
    return source


def asked(*rows: list[int]) -> Queries:
    return Queries.of_histories(Histories.of_items([np.array(row, dtype=np.int32) for row in rows]))


def test_scores_are_decayed_mean_cosines():
    world = topics()
    source = fitted(SemanticNeighbours(history_decay=0.5, whitening=0.0), world)
    vectors = world.training.language.vectors(world.catalogue)
    cosines = vectors @ vectors.T
    expected = [(cosines[3] + cosines[9] / 2 + cosines[4] / 4) / 1.75, cosines[7]]
    np.testing.assert_allclose(source.score_all(asked([4, 9, 3], [7])), expected, atol=6e-3)


def test_items_nobody_touched_stand_among_the_best():
    world = topics()
    proposed = fitted(SemanticNeighbours(), world).propose(world.queries, 9)
    untouched = world.training.dataset.item_counts[proposed.item_index] == 0
    assert (untouched.sum(axis=1) == 3).all()


def test_an_arrival_stands_beside_the_item_it_is_like():
    world = topics()
    for strength in (0.0, 0.5):
        source = fitted(SemanticNeighbours(whitening=strength), world)
        source.add_items(arrival(world, like=2), world.training.language)
        scores = source.score_all(asked([2]))[0]
        others = np.arange(36) % 4 != 2
        assert scores[36] > scores[:36][others].max()


def test_no_words_no_opinion():
    world = topics()
    table = world.catalogue.table.with_columns(
        title=pl.when(pl.col("item_id").is_in(["item 0", "item 5"])).then(None).otherwise(pl.col("title"))
    )
    dataset = replace(world.training.dataset, catalogue=Catalogue.from_table(table))
    source = SemanticNeighbours()
    source.fit(replace(world.training, dataset=dataset))
    scores = source.score_all(asked([1], [0, 5], [0, 1], []))
    assert np.isnan(scores[:, [0, 5]]).all()
    assert np.isnan(scores[[1, 3]]).all()
    np.testing.assert_allclose(scores[2], scores[0])  # what has no words says nothing


class Loud(ToyLanguage):
    """Two directions that say nothing about the words drown all others, until vectors are whitened."""

    def vectors(self, catalogue: Catalogue) -> np.ndarray:
        noise = HashedWords(2).encode(catalogue.items.ids.to_list())
        loud = np.concatenate([super().vectors(catalogue), 30 * noise], axis=1)
        return loud / np.linalg.norm(loud, axis=1, keepdims=True)


def test_whitening_is_chosen_where_it_helps():
    world = topics(n_users=60, n_touched=30)
    loud = Loud(HashedWords(8))
    chosen = fitted(SemanticNeighbours(), world, loud)
    plain = fitted(SemanticNeighbours(whitening=0.0), world, loud)
    right = [world.share_right(source.propose(world.queries, 10)) for source in (chosen, plain)]
    assert chosen.state().arrays.keys() == {"vectors", "scales", "mean", "projection"}
    assert right[0] > right[1] + 0.2


def test_a_small_catalogue_is_not_whitened_by_itself():
    assert set(fitted(SemanticNeighbours()).state().arrays) == {"vectors", "scales"}
