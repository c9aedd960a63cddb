"""For catalogues too large to compare one and all: the nearest items through an approximate index."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from zhiyin.contracts import DenseOpinion, Opinion
from zhiyin.contracts.scores import nan_unless
from zhiyin.domain import PAD, Barred, BoolArray, FloatArray, IndexArray, LongArray
from zhiyin.sources.eight_bits import EightBits
from zhiyin.stores.vectors.hnsw import UsearchConfig
from zhiyin.stores.vectors.index import VectorIndex
from zhiyin.stores.vectors.usearch import UsearchIndex

_CONFIG = UsearchConfig(connectivity=16, expansion_add=64, expansion_search=64, dtype="i8")
"""Found 98 % of the 200 nearest of 60,000 vectors in 0.08 ms; at least as many as asked for are looked at."""
THOROUGH = UsearchConfig(connectivity=24, expansion_add=200, expansion_search=1000, dtype="i8")
"""For vectors that fall into no groups, as those of factor models: few ways in a graph lead to the best."""
_FEW_ALLOWED = 0.05
"""Where a smaller share of the catalogue may be shown, exactly that share is compared one and all."""
_SPARE = 1.2
"""How much further the index is asked than the share of allowed items makes necessary."""
_NUMBERS_AT_ONCE = 1 << 23
"""Numbers of item vectors put into an index at once: 32 MB."""
_NUMBERS_IN_CACHE = 1 << 18
"""Numbers of item vectors gathered at once to be multiplied: 1 MB, which a cache holds."""


ItemVectors: TypeAlias = FloatArray | EightBits
"""(I, D) vectors of the items, in float32 or rounded."""


class Indexed(ABC):
    """What sources share that compare vectors, one and all or, in large catalogues, through an index.

    Class attributes:
        index_config: How thoroughly the index is searched.
    """

    index_config: ClassVar[UsearchConfig] = _CONFIG
    _index: VectorIndex | None = None

    @property
    @abstractmethod
    def item_vectors(self) -> ItemVectors:
        """(I, D) vectors of all items, those that came after training included.

        Raises:
            NotFitted: before `fit` or `restore`.
        """

    @property
    def is_dense(self) -> bool:
        """Whether there is no index."""
        return self._index is None

    def search_in(self, make: Callable[[ItemVectors], VectorIndex]) -> None:
        """Look items up in another index of the same vectors from now on, where there is one at all."""
        if self._index is not None:
            self._index = make(self.item_vectors)

    def _build_index(self, above: int) -> None:
        """Make the index of catalogues of more than so many items."""
        self._index = index_of(self.item_vectors, above=above, config=self.index_config)

    def _restore_index(self, arrays: Mapping[str, npt.NDArray[np.generic]], above: int) -> None:
        """Read what `index_state` returned, or make the index."""
        self._index = restored_index(arrays, self.item_vectors, above=above, config=self.index_config)

    def _index_arrivals(self, vectors: FloatArray) -> None:
        """Put the (M, D) vectors of items that come after all others into the index, if there is one.

        Readers that do not know the items yet pass over them, so the index may be shared with such readers.
        """
        if self._index is not None:
            first = len(self.item_vectors)
            self._index.put(np.arange(first, first + len(vectors), dtype=np.int32), vectors)


def index_of(vectors: ItemVectors, *, above: int, config: UsearchConfig = _CONFIG) -> VectorIndex | None:
    """Build an index of item vectors under their places, with all cores.

    Returns:
        None where there are at most ``above`` items, or usearch is not installed: comparing one and all then
        answers exactly, and slower.
    """
    if len(vectors) <= above or find_spec("usearch") is None:
        return None
    index = UsearchIndex(vectors.shape[1], config)
    at_once = max(1, _NUMBERS_AT_ONCE // max(vectors.shape[1], 1))
    for start in range(0, len(vectors), at_once):
        places = np.arange(start, min(start + at_once, len(vectors)), dtype=np.int32)
        index.put(places, taken(vectors, places))
    index.config = _serving(config)
    return index


def index_state(index: VectorIndex | None) -> dict[str, npt.NDArray[np.generic]]:
    """Return the files of an index as arrays of bytes; none where there is none."""
    if not isinstance(index, UsearchIndex):
        return {}
    with tempfile.TemporaryDirectory() as folder:
        index.save(Path(folder))
        return {
            f"{_PREFIX}{path.name}": np.fromfile(path, dtype=np.uint8)
            for path in sorted(Path(folder).iterdir())
        }


def restored_index(
    arrays: Mapping[str, npt.NDArray[np.generic]],
    vectors: ItemVectors,
    *,
    above: int,
    config: UsearchConfig = _CONFIG,
) -> VectorIndex | None:
    """Read what `index_state` returned; where there is nothing, build what `index_of` would."""
    files = {name.removeprefix(_PREFIX): array for name, array in arrays.items() if name.startswith(_PREFIX)}
    if not files or find_spec("usearch") is None or len(vectors) <= above:
        return index_of(vectors, above=above, config=config)
    index = UsearchIndex(vectors.shape[1], _serving(config))
    with tempfile.TemporaryDirectory() as folder:
        for name, array in files.items():
            array.tofile(Path(folder) / name)
        index.load(Path(folder))
    return index


_PREFIX = "index."


def _serving(config: UsearchConfig) -> UsearchConfig:
    """Leave one thread: a service has other requests for its other cores."""
    return replace(config, threads=1)


@contextmanager
def with_all_cores(index: VectorIndex) -> Iterator[None]:
    """Let searches take all cores for a while, where the index runs in this process."""
    if not isinstance(index, UsearchIndex):
        yield
        return
    serving, index.config = index.config, replace(index.config, threads=0)
    try:
        yield
    finally:
        index.config = serving


@dataclass(frozen=True, eq=False)
class NearestOpinion(Opinion):
    """Inner products with item vectors: those of given items exactly, the largest through an index.

    Attributes:
        index: Item vectors under their places; it may hold further ones.
        vectors: (I, D), the same vectors.
        asked: (B, D) float32.
        is_silent: (B,) bool, queries without an opinion.
        without_vector: (M,) int64, items without an opinion on them.
    """

    index: VectorIndex
    vectors: ItemVectors
    asked: FloatArray
    is_silent: BoolArray
    without_vector: LongArray

    def best(self, n: int, barred: Barred) -> IndexArray:
        """See `Opinion.best`; an approximate index may miss some."""
        barred = barred.among(len(self.vectors))
        share = 1.0
        if barred.open_to_all is not None:
            if len(barred.open_to_all) <= _FEW_ALLOWED * len(self.vectors):
                return self._best_among(barred.open_to_all, n, barred)
            share = len(barred.open_to_all) / len(self.vectors)
        n_asked = n + barred.most_in_a_row
        if share < 1.0:
            n_asked = int(np.ceil(n_asked / share * _SPARE))
        found, _ = self.index.search(self.asked, min(n_asked, len(self.vectors)))
        found = np.where(found < len(self.vectors), found, np.int32(PAD))  # others arrived meanwhile
        is_useless = barred.holds(found) | self.is_silent[:, None]
        if len(self.without_vector):
            is_useless |= np.isin(found, self.without_vector)
        is_useless |= np.cumsum(~is_useless & (found != PAD), axis=1) > n
        return np.where(is_useless, np.int32(PAD), found)

    def at(self, item_index: IndexArray) -> FloatArray:
        """See `Opinion.at`; exact."""
        n_queries, width = item_index.shape
        scores = np.empty(item_index.shape, dtype=np.float32)
        places = np.clip(item_index, 0, len(self.vectors) - 1)
        at_once = max(1, _NUMBERS_IN_CACHE // max(width * self.vectors.shape[1], 1))
        for start in range(0, n_queries, at_once):
            part = slice(start, start + at_once)
            scores[part] = _products_at(self.vectors, places[part], self.asked[part])
        is_heard = (item_index >= 0) & (item_index < len(self.vectors)) & ~self.is_silent[:, None]
        if len(self.without_vector):
            is_heard &= ~np.isin(item_index, self.without_vector)
        return scores + nan_unless(is_heard)

    def of_rows(self, rows: LongArray) -> NearestOpinion:
        """Return the same of (M,) of the queries."""
        return replace(self, asked=self.asked[rows], is_silent=self.is_silent[rows])

    def _best_among(self, items: LongArray, n: int, barred: Barred) -> IndexArray:
        """Return the best of a few (K,) rising items, each compared."""
        if not len(items):
            return np.empty((len(self.asked), 0), dtype=np.int32)
        scores = self.asked @ taken(self.vectors, items).T
        scores[self.is_silent] = -np.inf
        scores[:, np.isin(items, self.without_vector)] = -np.inf
        column = np.minimum(np.searchsorted(items, barred.item), len(items) - 1)
        is_there = items[column] == barred.item
        among = Barred(len(self.asked), len(items), None, barred.row[is_there], column[is_there])
        place = DenseOpinion(scores).best(n, among)
        return np.where(place == PAD, PAD, items[place]).astype(np.int32)


def taken(vectors: ItemVectors, places: IndexArray | LongArray) -> FloatArray:
    """Return (…, D) float32 vectors at places (…)."""
    return vectors.take(places) if isinstance(vectors, EightBits) else vectors.take(places, axis=0)


def _products_at(vectors: ItemVectors, places: IndexArray, asked: FloatArray) -> FloatArray:
    """Return (B, N) float32 inner products of the vectors at (B, N) places with (B, D)."""
    if isinstance(vectors, EightBits):
        return vectors.products_at(places, asked)
    products: FloatArray = np.matmul(vectors.take(places, axis=0), asked[..., None])[..., 0]
    return products
