"""The nearest items of every item of a large catalogue, found once, so that a request need not search."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from zhiyin.contracts import Edges, Opinion
from zhiyin.domain import PAD, Barred, BoolArray, FloatArray, Histories, IndexArray, Progress
from zhiyin.domain.errors import StoreError
from zhiyin.sources.nearest import ItemVectors, NearestOpinion, taken, with_all_cores
from zhiyin.stores.vectors.index import VectorIndex, no_neighbours

_LOG = logging.getLogger(__name__)
LISTED = 64
"""Neighbours of each item that are kept, five bytes each."""
_LISTS_PAY = 50
"""With fewer items than this for each neighbour kept, a search costs little."""
_STEPS = np.float32(127)
"""Inner products are kept in so many steps up to 1."""
_SEARCHED_AT_ONCE = 8192
_MOST_BARRED = 0.5
"""Where more of the catalogue is barred for everybody, lists hold too few that are open."""
_PREFIX = "lists."


@dataclass(frozen=True, eq=False)
class ItemLists:
    """The nearest items of each item, as edges of a graph.

    Attributes:
        trained: (I, I) sparse int8, row a holding the items nearest to a and their inner products with a in
            steps of 1/127; those that would be 0 are left out.
        arrivals: (M, I + M) sparse int8, the same for items that came after training.
    """

    trained: sp.csr_array
    arrivals: sp.csr_array

    @classmethod
    def of(cls, index: VectorIndex | None, vectors: ItemVectors, progress: Progress) -> Self | None:
        """Search the neighbours of all items, with all cores.

        Args:
            index: The vectors under their places; None where all are compared.
            vectors: (I, D), none longer than 1.
            progress: Told how far it is.

        Returns:
            None without an index, and where it is so small that lists save nothing.
        """
        n_items = len(vectors)
        if index is None or n_items < _LISTS_PAY * LISTED:
            return None
        starts = range(0, n_items, _SEARCHED_AT_ONCE)
        parts = []
        with with_all_cores(index):
            for start in progress.track(starts, "semantic neighbours: listing those of every item"):
                places = np.arange(start, min(start + _SEARCHED_AT_ONCE, n_items))
                found = _rows_of(index, taken(vectors, places), n_items)
                parts.append(_kept(*found, found[0] != places[:, None], n_items))
        return cls(sp.csr_array(sp.vstack(parts, format="csr")), _empty(0, n_items))

    def __len__(self) -> int:
        """How many items have a list."""
        return int(self.trained.shape[0] + self.arrivals.shape[0])

    def with_items(self, index: VectorIndex, vectors: FloatArray) -> Self:
        """Return these lists with those of (M, D) new items, whose neighbours are linked with them both ways.

        Ask after the vectors were put into the index. Each new item lists the items before it: those after it
        list it, and are reached through their own lists.
        """
        n_then = len(self) + len(vectors)
        try:
            found, products = _rows_of(index, vectors, n_then)
        except StoreError as error:  # of an index outside this process: the items must come in all the same
            _LOG.warning("%d new items have no links before the next training: %s", len(vectors), error)
            found, products = no_neighbours(len(vectors), 1)
        before = found < np.arange(len(self), n_then)[:, None]
        earlier = self.arrivals
        parts = (earlier.data, earlier.indices, earlier.indptr)
        wider = sp.csr_array(parts, shape=(earlier.shape[0], n_then))
        rows = sp.vstack([wider, _kept(found, products, before, n_then)], format="csr")
        return type(self)(self.trained, sp.csr_array(rows))

    def walked(self, histories: Histories, weights: FloatArray) -> Edges:
        """Follow the lists of all events; (T,) float32 weights say what each counts."""
        edges = Edges.walked(histories, weights, self.trained)
        n_trained = self.trained.shape[0]
        if self.arrivals.shape[0]:
            edges = edges.joined(Edges.walked(histories, weights, self.arrivals, first_item=n_trained))
            back = Edges.walked(histories, weights, self._to_arrivals)
            edges = edges.joined(Edges(back.row, back.item + n_trained, back.weight))
        return edges

    def state(self) -> dict[str, npt.NDArray[np.generic]]:
        """Return both as arrays."""
        return {**_parts(self.trained, "trained"), **_parts(self.arrivals, "arrivals")}

    @classmethod
    def restored(cls, arrays: Mapping[str, npt.NDArray[np.generic]]) -> Self | None:
        """Take over what `state` returned; None where there is nothing."""
        if f"{_PREFIX}trained.offsets" not in arrays:
            return None
        return cls(_restored(arrays, "trained"), _restored(arrays, "arrivals"))

    @cached_property
    def _to_arrivals(self) -> sp.csr_array:
        """(I + M, M) edges from items to those that came after training."""
        return sp.csr_array(self.arrivals.T)


@dataclass(frozen=True, eq=False)
class ListedOpinion(Opinion):
    """The nearest items of a mean of vectors: chosen from the lists of what went into it, scored exactly.

    What lies near a mean lies near some of its parts, and the sum of its listed inner products with them
    says almost as well which are the best. Queries for which the lists hold too few are searched.

    Attributes:
        listed: The sums, of B queries.
        nearest: Scores and searches of the same queries.
    """

    listed: Opinion
    nearest: NearestOpinion

    def best(self, n: int, barred: Barred) -> IndexArray:
        """See `Opinion.best`; lists may miss some."""
        barred = barred.among(len(self.nearest.vectors))
        open_to_all = barred.open_to_all  # which other sources of the batch ask for, too
        if open_to_all is not None and len(open_to_all) < (1 - _MOST_BARRED) * barred.n_items:
            return self.nearest.best(n, barred)
        found = self.listed.best(n, barred)
        is_short = ((found != PAD).sum(axis=1) < n) & ~self.nearest.is_silent
        if not is_short.any():
            return found
        rows = np.flatnonzero(is_short)
        searched = self.nearest.of_rows(rows).best(n, barred.of_rows(rows))
        both = np.full((len(found), max(found.shape[1], searched.shape[1])), PAD, dtype=np.int32)
        both[:, : found.shape[1]] = found
        both[rows] = PAD
        both[rows, : searched.shape[1]] = searched
        return both

    def at(self, item_index: IndexArray) -> FloatArray:
        """See `Opinion.at`; exact."""
        return self.nearest.at(item_index)


def _rows_of(index: VectorIndex, vectors: FloatArray, n_known: int) -> tuple[IndexArray, FloatArray]:
    """Return the (M, N) nearest of the first I items to (M, D) vectors, and inner products."""
    found, products = index.search(vectors, min(LISTED + 1, n_known))
    return np.where(found < n_known, found, np.int32(PAD)), products


def _kept(found: IndexArray, products: FloatArray, may_stay: BoolArray, n_items: int) -> sp.csr_array:
    """Return (M, I) sparse int8 neighbours: of (M, N) found ones those that may stay, and are near at all."""
    steps = np.clip(np.rint(products * _STEPS), -_STEPS, _STEPS)
    is_near: BoolArray = (found != PAD) & may_stay & (steps > 0)
    is_near &= np.cumsum(is_near, axis=1) <= LISTED
    offsets = np.append(0, np.cumsum(is_near.sum(axis=1))).astype(np.int32)
    return sp.csr_array((steps[is_near].astype(np.int8), found[is_near], offsets), (len(found), n_items))


def _empty(n_rows: int, n_columns: int) -> sp.csr_array:
    return sp.csr_array((n_rows, n_columns), dtype=np.int8)


def _parts(matrix: sp.csr_array, name: str) -> dict[str, npt.NDArray[np.generic]]:
    parts = {"closeness": matrix.data, "item": matrix.indices, "offsets": matrix.indptr}
    return {
        **{f"{_PREFIX}{name}.{part}": array for part, array in parts.items()},
        f"{_PREFIX}{name}.n_columns": np.array([matrix.shape[1]], dtype=np.int64),
    }


def _restored(arrays: Mapping[str, npt.NDArray[np.generic]], name: str) -> sp.csr_array:
    parts = tuple(arrays[f"{_PREFIX}{name}.{part}"] for part in ("closeness", "item", "offsets"))
    shape = (len(parts[2]) - 1, int(arrays[f"{_PREFIX}{name}.n_columns"][0]))
    return sp.csr_array(parts, shape=shape)
