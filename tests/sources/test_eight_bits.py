"""Vectors of eight bits, against plain whole numbers and against what was rounded."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from zhiyin.sources import eight_bits
from zhiyin.sources.eight_bits import EightBits


def directions(n: int, dimension: int, seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal((n, dimension)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


@given(some.integers(1, 40), some.integers(1, 400), some.floats(1e-30, 1e30), some.integers(0, 99))
def test_no_number_moves_by_more_than_half_a_step(n, dimension, length, seed):
    vectors = directions(n, dimension, seed) * np.float32(length)
    kept = EightBits.of(vectors)
    step = np.abs(vectors).max(axis=1, keepdims=True) / 127
    assert (np.abs(kept.take(np.arange(n)) - vectors) <= 0.55 * step).all()


def test_rows_of_zeros_stay_zeros():
    kept = EightBits.of(np.array([[0, 0], [0, -3]], dtype=np.float32))
    assert kept.is_empty.tolist() == [True, False]
    assert kept.products(np.ones((1, 2), dtype=np.float32))[0, 0] == 0
    assert kept.take(np.array([[0, 1]])).tolist() == [[[0, 0], [0, kept.take(np.array([1]))[0, 1]]]]


@pytest.mark.parametrize("fast", [False, True])
def test_every_processor_adds_the_same_whole_numbers(monkeypatch, fast):
    if fast and not eight_bits.multiplies_whole_numbers():
        pytest.skip("this processor has no such instructions")
    monkeypatch.setattr(eight_bits, "multiplies_whole_numbers", lambda: fast)
    items, asked = EightBits.of(directions(300, 384, 1)), directions(7, 384, 2)
    rounded = EightBits.of(asked)
    sums = rounded.numbers.astype(np.int64) @ items.numbers.astype(np.int64).T
    expected = (sums.astype(np.float32) * items.scale) * rounded.scale[:, None]
    np.testing.assert_array_equal(items.products(asked), expected)


def test_cosines_lose_what_is_said():
    items, asked = directions(3000, 384, 1), directions(20, 384, 2)
    lost = EightBits.of(items).products(asked) - asked @ items.T
    assert lost.std() < 6e-4
    assert np.abs(lost).max() < 3e-3


def test_nearly_the_same_vectors_become_the_same():
    vectors = directions(50, 384, 1)
    again = vectors * np.float32(1 + 2e-7)
    same = EightBits.of(vectors).take(np.arange(50)) == EightBits.of(again).take(np.arange(50))
    assert same.mean() > 0.999


def test_restored_as_kept_and_older_floats_rounded():
    vectors = directions(20, 16, 3)
    kept = EightBits.of(vectors)
    again = EightBits.restored(kept.arrays())
    np.testing.assert_array_equal(again.numbers, kept.numbers)
    np.testing.assert_array_equal(again.scale, kept.scale)
    older = EightBits.restored({"vectors": vectors.astype(np.float16)})
    np.testing.assert_allclose(older.take(np.arange(20)), vectors, atol=0.01)


def test_what_follows_stands_behind():
    vectors = directions(9, 16, 4)
    whole, parts = EightBits.of(vectors), EightBits.of(vectors[:5]).followed_by(EightBits.of(vectors[5:]))
    np.testing.assert_array_equal(whole.take(np.arange(9)), parts.take(np.arange(9)))
    assert parts.shape == (9, 16)


def test_products_with_some_are_those_of_the_rounded_vectors():
    items, asked = EightBits.of(directions(50, 32, 1)), directions(3, 32, 2)
    places = np.random.default_rng(0).integers(0, 50, (3, 7))
    expected = np.einsum("bnd,bd->bn", items.take(places), asked)
    np.testing.assert_allclose(items.products_at(places, asked), expected, atol=1e-6)
