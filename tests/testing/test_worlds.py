"""The worlds are what they say; a test world that lies would make every other test lie."""

import numpy as np
import pytest

from zhiyin.contracts import best_of
from zhiyin.domain import Candidates
from zhiyin.testing.toy_language import HashedWords, ToyLanguage
from zhiyin.testing.worlds import arrival, chain, checkerboard, popular, single_item, topics


@pytest.mark.parametrize("make", [checkerboard, chain, topics, popular, single_item])
def test_worlds_are_whole_and_repeatable(make):
    world, again = make(), make()
    dataset = world.training.dataset
    assert world.right.shape == (len(world.queries), dataset.n_items)
    assert world.right.any(axis=1).all()
    np.testing.assert_array_equal(dataset.histories.item_index, again.training.dataset.histories.item_index)
    validation = world.training.validation
    assert len(validation) == (dataset.histories.lengths > 1).sum()


def test_checkerboard_users_stay_on_their_colour():
    world = checkerboard()
    histories = world.queries.histories
    assert (histories.item_index % 2 == histories.row_of_event % 2).all()
    assert (histories.lengths == 5).all()
    assert world.right.sum() == 24 * 6


def test_chain_users_go_on_by_one():
    world = chain()
    items = world.queries.histories.padded_items(5)
    assert ((items[:, 1:] - items[:, :-1]) % 12 == 1).all()
    assert ((np.argmax(world.right, axis=1) - items[:, -1]) % 12 == 1).all()


def test_topics_have_untouched_items_that_are_right_for_somebody():
    world = topics()
    counts = world.training.dataset.item_counts
    assert (counts[-12:] == 0).all()
    assert (counts[:-12] > 0).all()
    assert world.right[:, -12:].any(axis=0).all()


def test_popular_counts_double():
    assert popular(n_items=4).training.dataset.item_counts.tolist() == [8, 4, 2, 1]


def test_share_right_counts_places():
    world = checkerboard(n_users=2, n_items=4)
    truth = best_of(world.right.astype(np.float32), 2, column="score")
    assert world.share_right(truth) == 1.0
    assert world.share_right(Candidates(np.array([[0, 1], [-1, 3]], dtype=np.int32))) == 0.5


def test_hashed_words_are_close_when_words_are_shared():
    encoder = HashedWords()
    vectors = encoder.encode(["red wool hat", "red wool scarf", "garden spade", ""])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    cosines = vectors @ vectors.T
    assert cosines[0, 1] > 0.5
    assert abs(cosines[0, 2]) < 0.4
    np.testing.assert_array_equal(HashedWords().encode(["red wool hat"])[0], vectors[0])


def test_an_arrival_has_the_words_of_the_item_it_is_like():
    world = topics()
    language = ToyLanguage()
    new = language.vectors(arrival(world, like=5))
    cosines = (new @ language.vectors(world.catalogue).T)[0]
    assert cosines.argmax() % 4 == 1
