"""A graph of neighbours in this process (HNSW, Malkov and Yashunin 2016), by the package usearch."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from zhiyin.domain.arrays import FloatArray, IndexArray
from zhiyin.domain.errors import MissingExtra, StoreError
from zhiyin.stores.vectors.hnsw import Layout, UsearchConfig
from zhiyin.stores.vectors.index import checked_entries, checked_keys, checked_queries, no_neighbours
from zhiyin.stores.vectors.turns import Turns

_CARD = "vectors.json"
_FORMAT = 1
_COMPARED_ONE_AND_ALL = 2_000
"""Up to so many vectors a graph saves nothing and could miss some."""
_AT_ONCE = 512
"""Vectors added before waiting searches get their turn."""
_SETTLED = 10_000
"""From so many vectors on, those that come later no longer change the layout."""


_HEADROOM = 1.25
"""By how much larger numbers may become before a large graph is laid out anew again."""


class UsearchIndex:
    """Approximate neighbours in memory; a folder keeps them.

    Args:
        dimension: D.
        config: Settings of the graph.
        folder: Where `close` writes the index, and whence it is read; ``None`` keeps nothing.

    Raises:
        MissingExtra: when usearch is not installed.
        StoreError: when the folder holds an index of another dimension, or one that cannot be read.
    """

    def __init__(
        self, dimension: int, config: UsearchConfig | None = None, *, folder: Path | None = None
    ) -> None:
        if find_spec("usearch") is None:
            raise MissingExtra("usearch", "vectors")
        self.dimension = dimension
        self.config = config or UsearchConfig()
        self._folder = folder
        self._writing = threading.Lock()
        self._turns = Turns()
        self._layout = Layout(self.config.dtype, 0.0, 1.0)
        self._laid_out_for = 0
        self._graph = self._empty_graph(self._layout)
        if folder is not None and (folder / _CARD).is_file():
            self.load(folder)

    def __len__(self) -> int:
        return len(self._graph)

    @property
    def memory_bytes(self) -> int:
        """What the graph and its vectors hold in memory."""
        return int(self._graph.memory_usage)

    def put(self, keys: IndexArray, vectors: FloatArray) -> None:
        """Add vectors, or replace those of known keys; see `VectorIndex.put`."""
        keys, vectors = checked_entries(keys, vectors, self.dimension)
        if not len(keys):
            return
        with self._writing:
            self._prepare(vectors)
            for start in range(0, len(keys), _AT_ONCE):
                part = slice(start, start + _AT_ONCE)
                written = self._layout.written(vectors[part])
                with self._turns.writing():
                    self._graph.remove(keys[part])
                    self._graph.add(keys[part], written, threads=self.config.threads)

    def remove(self, keys: IndexArray) -> None:
        """Remove vectors; unknown keys are ignored."""
        keys = checked_keys(keys)
        with self._writing, self._turns.writing():
            self._graph.remove(keys[keys >= 0])

    def search(self, queries: FloatArray, k: int) -> tuple[IndexArray, FloatArray]:
        """Find the k largest inner products, approximately; see `VectorIndex.search`."""
        queries = checked_queries(queries, k, self.dimension)
        keys, products = no_neighbours(len(queries), k)
        if not len(queries):
            return keys, products
        with self._turns.reading():
            n_here = len(self._graph)
            if not n_here:
                return keys, products
            asked, factor = self._layout.asked(queries)
            found = self._graph.search(
                asked,
                min(k, n_here),
                threads=1 if len(queries) == 1 else self.config.threads,
                exact=n_here <= max(_COMPARED_ONE_AND_ALL, 2 * k),
            )
        width = found.keys.shape[-1]  # one query's answer is a plain row, without padding
        is_found = np.isfinite(found.distances.reshape(len(queries), width))
        keys[:, :width][is_found] = found.keys.reshape(is_found.shape)[is_found]
        products[:, :width] = (1 - found.distances.reshape(is_found.shape)) * factor
        return keys, products

    def close(self) -> None:
        """Write the index into its folder, if it has one, and give the memory back."""
        if self._folder is not None:
            self.save(self._folder)
            self._folder = None
        with self._writing, self._turns.writing():
            self._graph = self._empty_graph(self._layout)

    def save(self, folder: Path) -> None:
        """Write the index as two files; what was there is replaced at once or not at all.

        Raises:
            StoreError: when the folder cannot be written.
        """
        with self._writing, self._turns.reading():
            try:
                folder.mkdir(parents=True, exist_ok=True)
                before = sorted(folder.glob("graph-*.usearch"))
                number = 1 + max((int(path.stem.removeprefix("graph-")) for path in before), default=0)
                graph = folder / f"graph-{number}.usearch"
                self._graph.save(str(graph))
                card = {"format": _FORMAT, "dimension": self.dimension, "graph": graph.name}
                card |= {"laid_out_for": self._laid_out_for, "layout": asdict(self._layout)}
                new = folder / f"{_CARD}.new"
                new.write_text(json.dumps(card, indent=1), encoding="utf-8")
                new.replace(folder / _CARD)
                for path in before:
                    path.unlink()
            except (OSError, RuntimeError) as error:
                raise StoreError(f"The vectors cannot be written to '{folder}': {error}.") from error

    def load(self, folder: Path) -> None:
        """Take over the index that `save` wrote, with the dtype it has there.

        Raises:
            StoreError: when there is none, it cannot be read, or its dimension differs.
        """
        remedy = "Remove the folder; the index is built again from the vectors."
        try:
            card = json.loads((folder / _CARD).read_text(encoding="utf-8"))
            dimension, layout = card["dimension"], Layout(**card["layout"])
            laid_out_for, path = card["laid_out_for"], folder / Path(card["graph"]).name
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"The vectors in '{folder}' cannot be read: {error}.", remedy=remedy) from error
        if dimension != self.dimension:
            raise StoreError(
                f"The vectors in '{folder}' have {dimension} numbers, not {self.dimension}.", remedy=remedy
            )
        graph = self._empty_graph(layout)
        try:
            graph.load(str(path))
        except (OSError, RuntimeError) as error:
            raise StoreError(f"The vectors in '{folder}' cannot be read: {error}.", remedy=remedy) from error
        with self._writing, self._turns.writing():
            self._graph, self._layout, self._laid_out_for = graph, layout, laid_out_for

    def _prepare(self, coming: FloatArray) -> None:
        """Lay the graph out anew while it is small, and where a vector to come has too large a number."""
        n_then = len(self._graph) + len(coming)
        is_small = self._laid_out_for < _SETTLED and n_then >= 2 * self._laid_out_for
        if not is_small and self._layout.holds(coming):
            return
        keys = np.asarray(self._graph.keys[: len(self._graph)], dtype=np.int64)
        here = np.empty((0, self.dimension), np.float32)
        if len(keys):
            here = self._layout.read(np.stack(self._graph.get(keys)))
        headroom = 1.0 if is_small else _HEADROOM
        layout = Layout.of(np.vstack([here, coming]), self._layout.dtype, headroom=headroom)
        graph = self._empty_graph(layout)
        if len(keys):
            graph.add(keys, layout.written(here), threads=self.config.threads)
        with self._turns.writing():
            self._graph, self._layout, self._laid_out_for = graph, layout, n_then

    def _empty_graph(self, layout: Layout) -> Any:
        from usearch.index import Index  # noqa: PLC0415

        return Index(
            ndim=self.dimension + layout.n_added,
            metric="ip",
            dtype=layout.dtype,
            connectivity=self.config.connectivity,
            expansion_add=self.config.expansion_add,
            expansion_search=self.config.expansion_search,
        )
