# ruff: noqa: D102 - the name of a test is its sentence
"""One suite for every index of vectors: what `VectorIndex` promises, checked from the outside."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from zhiyin.domain.arrays import PAD, FloatArray, IndexArray
from zhiyin.domain.errors import ShapeMismatch, StoreError, ZhiyinError
from zhiyin.stores.vectors.exact import ExactIndex
from zhiyin.stores.vectors.index import VectorIndex

NORTH, EAST, SOUTH = 7, 3, 2_000_000_000
COMPASS = np.array([NORTH, EAST, SOUTH], np.int32), np.array([[0, 2], [1, 0], [0, -4]], np.float32)
"""Three vectors of lengths 2, 1 and 4, under keys with wide gaps."""


def clustered(
    n_vectors: int, dimension: int = 16, *, seed: int = 0, n_queries: int = 50
) -> tuple[FloatArray, FloatArray]:
    """Return (M, D) vectors in clusters, of lengths that differ by a third, and (B, D) queries near them."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(max(1, n_vectors // 100), dimension))
    of = random.integers(0, len(centres), n_vectors + n_queries)
    points = centres[of] + 0.5 * random.normal(size=(len(of), dimension))
    points[:n_vectors] *= random.lognormal(0, 0.3, size=(n_vectors, 1))
    return points[:n_vectors].astype(np.float32), points[n_vectors:].astype(np.float32)


def recall(found: IndexArray, right: IndexArray) -> float:
    """Return the share of the (B, k) right keys that are among the (B, k) found ones."""
    hits = [np.isin(row, there).mean() for row, there in zip(right, found, strict=True)]
    return float(np.mean(hits))


class VectorIndexContract(ABC):
    """Subclass it, say how to open an index in a folder, and pytest runs the suite.

    Class attributes:
        tolerance: How far an inner product may be off, relative to the largest.
        persists: Whether another index opened in the same folder after `close` finds the vectors.
        n_recall: Vectors with which recall is measured.
    """

    tolerance: ClassVar[float] = 1e-5
    persists: ClassVar[bool] = False
    n_recall: ClassVar[int] = 6_000

    @abstractmethod
    def open(self, folder: Path, dimension: int, *, name: str, tenant: str) -> VectorIndex:
        """Open the index of this name and tenant that belongs to the folder, or make it."""

    @pytest.fixture
    def make(self, tmp_path: Path) -> Iterator[Callable[..., VectorIndex]]:
        """Opens indexes of 2 numbers called "items" unless told otherwise, and closes them after the test."""
        opened = []

        def make(dimension: int = 2, *, name: str = "items", tenant: str = "default") -> VectorIndex:
            opened.append(self.open(tmp_path, dimension, name=name, tenant=tenant))
            return opened[-1]

        yield make
        for index in opened:
            index.close()

    def assert_products(self, found: FloatArray, expected: FloatArray) -> None:
        scale = float(np.nanmax(np.abs(expected), initial=1.0))
        np.testing.assert_allclose(found, expected, rtol=0, atol=self.tolerance * scale)

    def test_the_largest_inner_products_come_first_not_the_nearest_directions(
        self, make: Callable[..., VectorIndex]
    ) -> None:
        index = make()
        index.put(*COMPASS)
        keys, products = index.search(np.array([[2, 1], [0, -1], [10, 1]], np.float32), 2)
        assert keys.dtype == np.int32
        assert products.dtype == np.float32
        # (2, 1): north 2, east 2 are equal; (10, 1): east 10 before north 2; (0, -1): south 4 before east 0
        assert set(keys[0]) == {NORTH, EAST}
        assert keys[1:].tolist() == [[SOUTH, EAST], [EAST, NORTH]]
        self.assert_products(products, np.array([[2, 2], [4, 0], [10, 2]], np.float32))

    def test_an_empty_index_finds_nothing(self, make: Callable[..., VectorIndex]) -> None:
        index = make()
        assert len(index) == 0
        keys, products = index.search(np.ones((3, 2), np.float32), 4)
        assert keys.tolist() == [[PAD] * 4] * 3
        assert np.isnan(products).all()
        assert products.shape == (3, 4)

    def test_more_asked_for_than_there_are_is_padded(self, make: Callable[..., VectorIndex]) -> None:
        index = make()
        index.put(*COMPASS)
        for n_queries in (1, 2):
            keys, products = index.search(np.tile(np.array([[1, 2]], np.float32), (n_queries, 1)), 5)
            assert keys.tolist() == [[NORTH, EAST, SOUTH, PAD, PAD]] * n_queries
            self.assert_products(products[:, :3], np.array([[4, 1, -8]] * n_queries, np.float32))
            assert np.isnan(products[:, 3:]).all()

    def test_no_queries_and_no_keys(self, make: Callable[..., VectorIndex]) -> None:
        index = make()
        index.put(*COMPASS)
        index.put(np.empty(0, np.int32), np.empty((0, 2), np.float32))
        index.remove(np.empty(0, np.int32))
        keys, products = index.search(np.empty((0, 2), np.float32), 3)
        assert keys.shape == products.shape == (0, 3)
        assert len(index) == 3

    def test_a_known_key_is_replaced(self, make: Callable[..., VectorIndex]) -> None:
        index = make()
        index.put(*COMPASS)
        index.put(np.array([EAST, 4], np.int32), np.array([[-1, 0], [1, 1]], np.float32))
        assert len(index) == 4
        keys, products = index.search(np.array([[-1, 0]], np.float32), 4)
        assert keys[0, 0] == EAST
        assert sorted(keys[0]) == [EAST, 4, NORTH, SOUTH]
        self.assert_products(products, np.array([[1, 0, 0, -1]], np.float32))

    def test_a_removed_key_is_gone_and_may_come_back(self, make: Callable[..., VectorIndex]) -> None:
        index = make()
        index.put(*COMPASS)
        index.remove(np.array([NORTH, 99, 99, -1], np.int32))
        assert len(index) == 2
        assert index.search(np.array([[0, 1]], np.float32), 3)[0].tolist() == [[EAST, SOUTH, PAD]]
        index.remove(np.array([EAST, SOUTH], np.int32))
        assert len(index) == 0
        assert index.search(np.array([[0, 1]], np.float32), 1)[0].tolist() == [[PAD]]
        index.put(np.array([NORTH], np.int32), np.array([[0, 5]], np.float32))
        keys, products = index.search(np.array([[0, 1]], np.float32), 2)
        assert keys.tolist() == [[NORTH, PAD]]
        self.assert_products(products[:, :1], np.array([[5]], np.float32))

    def test_vectors_of_zeros_and_queries_of_zeros(self, make: Callable[..., VectorIndex]) -> None:
        index = make()
        index.put(np.array([1, 2], np.int32), np.array([[0, 0], [0, 1]], np.float32))
        keys, products = index.search(np.array([[0, 0], [0, -1]], np.float32), 2)
        assert keys[1].tolist() == [1, 2]
        self.assert_products(products, np.array([[0, 0], [0, -1]], np.float32))

    def test_much_larger_vectors_may_come_later(self, make: Callable[..., VectorIndex]) -> None:
        index = make()
        index.put(*COMPASS)
        index.put(np.array([1], np.int32), np.array([[300, 0]], np.float32))
        keys, products = index.search(np.array([[1, 0]], np.float32), 2)
        assert keys.tolist()[0][0] == 1
        self.assert_products(products[:, :1], np.array([[300]], np.float32))

    def test_most_true_neighbours_are_found(self, make: Callable[..., VectorIndex]) -> None:
        vectors, queries = clustered(self.n_recall)
        index, exact = make(16), ExactIndex(16)
        numbers = np.arange(self.n_recall, dtype=np.int32)
        for each in (index, exact):
            each.put(numbers, vectors)
        self._assert_finds(index, exact, queries)

    def test_they_are_found_after_replacing_half_and_removing_a_third(
        self, make: Callable[..., VectorIndex]
    ) -> None:
        vectors, queries = clustered(self.n_recall)
        newer, _ = clustered(self.n_recall, seed=1)
        index, exact = make(16), ExactIndex(16)
        numbers = np.arange(self.n_recall, dtype=np.int32)
        for each in (index, exact):
            each.put(numbers, vectors)
            each.put(numbers[::2], newer[::2])
            each.remove(numbers[::3])
        assert len(index) == len(exact)
        self._assert_finds(index, exact, queries)

    def _assert_finds(self, index: VectorIndex, exact: VectorIndex, queries: FloatArray) -> None:
        right, expected = exact.search(queries, 100)
        keys, products = index.search(queries, 100)
        share = recall(keys, right)
        assert share >= 0.95, f"{share:.1%} of the true neighbours were found"
        assert (np.diff(products, axis=1) <= 0).all(), "the answer is not in order"
        assert all(len(set(row)) == 100 for row in keys.tolist()), "a key was found twice"
        both = keys[:, 0] == right[:, 0]
        assert both.mean() >= 0.9
        self.assert_products(products[both, 0], expected[both, 0])

    def test_one_query_alone_equals_its_row_of_a_batch(self, make: Callable[..., VectorIndex]) -> None:
        vectors, queries = clustered(3_000)
        index = make(16)
        index.put(np.arange(3_000, dtype=np.int32), vectors)
        together = index.search(queries, 10)
        for row in (0, 7):
            alone = index.search(queries[row : row + 1], 10)
            assert alone[0].tolist() == [together[0][row].tolist()]
            self.assert_products(alone[1], together[1][row : row + 1])

    def test_it_changes_nothing_it_was_given_and_keeps_no_hold_of_it(
        self, make: Callable[..., VectorIndex]
    ) -> None:
        index, keys, vectors = make(), COMPASS[0].copy(), COMPASS[1].copy()
        query = np.array([[1, 2]], np.float32)
        index.put(keys, vectors)
        before = index.search(query, 3)
        np.testing.assert_array_equal(vectors, COMPASS[1])
        vectors[:], keys[:] = 100, 5
        assert index.search(query, 3)[0].tolist() == before[0].tolist()
        assert query.tolist() == [[1, 2]]

    def test_what_does_not_fit_is_refused(self, make: Callable[..., VectorIndex]) -> None:
        index = make()
        index.put(*COMPASS)
        one, row = np.array([1], np.int32), np.ones((1, 2), np.float32)
        wrong: list[tuple[type[ZhiyinError], Callable[[], object]]] = [
            (ShapeMismatch, lambda: index.put(one, np.ones((1, 3), np.float32))),
            (ShapeMismatch, lambda: index.put(one, np.ones(2, np.float32))),
            (ShapeMismatch, lambda: index.put(np.array([1, 2], np.int32), row)),
            (ShapeMismatch, lambda: index.put(one[:, None], row)),
            (ShapeMismatch, lambda: index.put(np.array([0.5]), row)),
            (ShapeMismatch, lambda: index.search(np.ones((1, 3), np.float32), 1)),
            (ShapeMismatch, lambda: index.search(np.ones(2, np.float32), 1)),
            (ShapeMismatch, lambda: index.search(row, 0)),
            (ShapeMismatch, lambda: index.remove(one[:, None])),
            (StoreError, lambda: index.put(np.array([-1], np.int32), row)),
            (StoreError, lambda: index.put(np.array([4, 4], np.int32), np.ones((2, 2), np.float32))),
            (StoreError, lambda: index.put(one, row * np.nan)),
            (StoreError, lambda: index.search(row * np.inf, 1)),
        ]
        for error, action in wrong:
            with pytest.raises(error):
                action()
        assert len(index) == 3

    def test_names_and_tenants_do_not_see_each_other(self, make: Callable[..., VectorIndex]) -> None:
        places = [("items", "a"), ("items", "A"), ("Items", "a"), ("it/../ems", "a"), ("';--\"", "茶 %_")]
        indexes = [make(name=name, tenant=tenant) for name, tenant in places]
        for number, index in enumerate(indexes):
            index.put(np.array([number], np.int32), np.array([[1, number]], np.float32))
        for number, index in enumerate(indexes):
            assert len(index) == 1
            assert index.search(np.ones((1, 2), np.float32), 2)[0].tolist() == [[number, PAD]]

    def test_searches_while_another_thread_puts(self, make: Callable[..., VectorIndex]) -> None:
        vectors, queries = clustered(3_250)
        index, is_done = make(16), threading.Event()
        numbers = np.arange(3_250, dtype=np.int32)
        index.put(numbers[:2_500], vectors[:2_500])
        held = queries[:4] @ vectors.T
        largest = float(np.abs(held).max())

        def write() -> None:
            try:
                for start in range(2_500, 3_250, 250):
                    part = slice(start, start + 250)
                    index.put(numbers[part], vectors[part])
                    index.put(numbers[:250], vectors[:250])
            finally:
                is_done.set()

        def read() -> int:
            n_answers = 0
            while not is_done.is_set() or not n_answers:
                keys, products = index.search(queries[:4], 20)
                assert (keys != PAD).all()
                right = np.take_along_axis(held, keys.astype(np.int64), axis=1)
                np.testing.assert_allclose(products, right, rtol=0, atol=self.tolerance * largest)
                n_answers += 1
            return n_answers

        with ThreadPoolExecutor(3) as pool:
            writing, reading = pool.submit(write), [pool.submit(read) for _ in range(2)]
            writing.result()
            assert all(each.result() for each in reading)
        assert len(index) == 3_250

    def test_what_was_put_survives_closing(self, tmp_path: Path) -> None:
        if not self.persists:
            pytest.skip("this index keeps nothing, and promises nothing")
        vectors, queries = clustered(3_000)
        index = self.open(tmp_path, 16, name="items", tenant="default")
        with closing(index):
            index.put(np.arange(3_000, dtype=np.int32), vectors)
            index.remove(np.arange(100, dtype=np.int32))
            before = index.search(queries, 10)
        index.close()
        with closing(self.open(tmp_path, 16, name="items", tenant="default")) as again:
            assert len(again) == 2_900
            after = again.search(queries, 10)
            np.testing.assert_array_equal(after[0], before[0])
            self.assert_products(after[1], before[1])
            again.put(np.array([1], np.int32), queries[:1] * 50)
            assert again.search(queries[:1], 1)[0].tolist() == [[1]]
        with pytest.raises(StoreError, match="16 numbers"):
            self.open(tmp_path, 8, name="items", tenant="default")
