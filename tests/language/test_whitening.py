"""Whitening, by what it promises."""

import numpy as np
import pytest

from zhiyin.domain.errors import ShapeMismatch
from zhiyin.language.whitening import Whitening
from zhiyin.testing.source_contract import through_files


def stretched(n: int = 4000, dimension: int = 6) -> np.ndarray:
    random = np.random.default_rng(0)
    mixing = random.normal(size=(dimension, dimension)) * np.array([5, 3, 2, 1, 0.5, 0.1])
    return (random.normal(size=(n, dimension)) @ mixing.T + 3).astype(np.float32)


def test_full_whitening_makes_the_covariance_the_identity():
    vectors = stretched()
    whitening = Whitening.fit(vectors)
    white = (vectors - whitening.mean) @ whitening.projection
    np.testing.assert_allclose(white.T @ white / len(white), np.eye(6), atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(whitening.apply(vectors), axis=1), 1, rtol=1e-5)


def test_without_strength_it_is_a_rotation_that_keeps_cosines():
    vectors = stretched(200)
    rotated = Whitening.fit(vectors, strength=0.0).apply(vectors)
    centred = vectors - vectors.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    np.testing.assert_allclose(rotated @ rotated.T, centred @ centred.T, atol=1e-4)


def test_projection_keeps_the_directions_of_most_variance():
    flat = np.zeros((500, 5), dtype=np.float32)
    flat[:, [1, 3]] = np.random.default_rng(1).normal(size=(500, 2)) * [1, 10]
    whitening = Whitening.fit(flat, n_dimensions=1, strength=0.0)
    assert np.abs(whitening.projection[:, 0]).argmax() == 3
    assert Whitening.fit(flat).projection.shape == (5, 2)  # three directions do not vary


def test_items_without_text_stay_zeros_and_do_not_count():
    vectors = stretched(100)
    with_zeros = np.concatenate([vectors, np.zeros((50, 6), np.float32)])
    whitening = Whitening.fit(with_zeros)
    np.testing.assert_array_equal(whitening.projection, Whitening.fit(vectors).projection)
    assert (whitening.apply(with_zeros)[100:] == 0).all()


def test_too_few_vectors_are_left_as_they_are():
    one = np.array([[0.6, 0.8]], dtype=np.float32)
    np.testing.assert_allclose(Whitening.fit(one).apply(one), one)


def test_its_state_survives_files():
    vectors = stretched(50)
    whitening = Whitening.fit(vectors, n_dimensions=3, strength=0.5)
    again = Whitening.restore(through_files(whitening.state()).arrays)
    np.testing.assert_array_equal(again.apply(vectors), whitening.apply(vectors))


def test_vectors_of_another_length_are_refused():
    with pytest.raises(ShapeMismatch, match="length 6"):
        Whitening.fit(stretched(20)).apply(np.ones((2, 4), np.float32))
