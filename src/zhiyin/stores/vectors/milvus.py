"""Vectors in Milvus: a server of its own for very many vectors, or a file in this process (Milvus Lite)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import numpy as np

from zhiyin.domain.arrays import FloatArray, IndexArray
from zhiyin.domain.errors import MissingExtra, StoreError
from zhiyin.stores.vectors.hnsw import HnswConfig, Layout
from zhiyin.stores.vectors.index import (
    checked_entries,
    checked_keys,
    checked_queries,
    digest_of,
    no_neighbours,
)

T = TypeVar("T")

_WRITTEN_AT_ONCE = 4_000_000
"""Numbers sent in one call: 16 MB, below what a server takes."""
_LARGEST_K = 16_384
_TRIED_FOR_SECONDS = 10.0


class MilvusIndex:
    """Approximate neighbours in a collection of its own for each tenant and name.

    Args:
        url: ``milvus://host:19530``, ``milvus://user:password@host:19530``, the same with ``milvus+tls``,
            ``milvus:///relative.db`` or ``milvus:////absolute.db``.
        name: Of the index.
        dimension: D.
        tenant: To whom it belongs.
        config: Settings of the graph.

    Raises:
        StoreError: when the server is away, or holds another dimension.
        MissingExtra: when pymilvus is not installed.
    """

    def __init__(
        self, url: str, name: str, dimension: int, tenant: str = "default", config: HnswConfig | None = None
    ) -> None:
        _require_package()
        self.dimension = dimension
        self.config = config or HnswConfig()
        self._layout: Layout | None = None
        self._collection = _collection(tenant, name)
        self._place, settings = _connection(url)
        self._client: Any = None
        self._client = self._do(lambda: _client(settings))
        try:
            self._do(lambda: self._prepare(name))
        except BaseException:
            self._client.close()
            raise

    def __len__(self) -> int:
        counted = self._do(lambda: self._client.query(self._collection, output_fields=["count(*)"]))
        return int(counted[0]["count(*)"])

    def put(self, keys: IndexArray, vectors: FloatArray) -> None:
        """Add vectors, or replace those of known keys; see `VectorIndex.put`."""
        keys, vectors = checked_entries(keys, vectors, self.dimension)
        if not len(keys):
            return
        if self._layout is None:
            self._layout = self._do(self._layout_there) or Layout.of(vectors, "f32")
        written = self._layout.written(vectors)
        at_once = max(1, _WRITTEN_AT_ONCE // written.shape[1])
        for start in range(0, len(keys), at_once):
            part = slice(start, start + at_once)
            pairs = zip(keys[part].tolist(), written[part], strict=True)
            rows = [{"key": key, "vector": vector} for key, vector in pairs]
            self._do(partial(self._client.upsert, self._collection, rows))

    def fill(self, vectors: FloatArray) -> bool:
        """Put a whole catalogue unless it is there; see `StoredIndex.fill`.

        Killed in the middle, it is done again by the next one who fills.
        """
        keys, vectors = checked_entries(np.arange(len(vectors), dtype=np.int32), vectors, self.dimension)
        if len(self) >= len(keys):
            return False
        self.put(keys, vectors)
        return True

    @staticmethod
    def drop(url: str, name: str, tenant: str) -> None:
        """Remove an index with all its vectors, if it is there; see `drop_stored`."""
        _require_package()
        place, settings = _connection(url)
        client = _asked(place, lambda: _client(settings))
        try:
            _asked(place, lambda: client.drop_collection(_collection(tenant, name)))
        finally:
            client.close()

    def remove(self, keys: IndexArray) -> None:
        """Remove vectors; unknown keys are ignored."""
        keys = checked_keys(keys)
        if len(keys):
            self._do(lambda: self._client.delete(self._collection, ids=keys.tolist()))

    def search(self, queries: FloatArray, k: int) -> tuple[IndexArray, FloatArray]:
        """Find the k largest inner products, approximately, k at most 16,384; see `VectorIndex.search`."""
        queries = checked_queries(queries, k, self.dimension)
        keys, products = no_neighbours(len(queries), k)
        if k > _LARGEST_K:
            raise StoreError(f"Milvus finds at most {_LARGEST_K} neighbours at once; asked for {k}.")
        if not len(queries):
            return keys, products
        asked, _ = Layout("f32", 0.0, 1.0).asked(queries)
        settings = {"params": {"ef": max(k, self.config.expansion_search)}}
        found = self._do(
            lambda: self._client.search(
                self._collection,
                data=list(asked),
                anns_field="vector",
                limit=k,
                search_params=settings,
                output_fields=["key"],
            )
        )
        for row, hits in enumerate(found):
            keys[row, : len(hits)] = [hit["key"] for hit in hits]
            products[row, : len(hits)] = [hit["distance"] for hit in hits]
        return keys, products

    def close(self) -> None:
        """Close the connection; the vectors stay where they are."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _prepare(self, name: str) -> None:
        """Make the collection, or see that the one there has D numbers."""
        from pymilvus import DataType  # noqa: PLC0415

        if not self._client.has_collection(self._collection):
            schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
            schema.add_field("key", DataType.INT64, is_primary=True)
            schema.add_field("vector", DataType.FLOAT_VECTOR, dim=self.dimension + 1)
            graph = self._client.prepare_index_params()
            settings = {"M": self.config.connectivity, "efConstruction": self.config.expansion_add}
            graph.add_index("vector", index_type="HNSW", metric_type="IP", params=settings)
            self._client.create_collection(
                self._collection, schema=schema, index_params=graph, consistency_level="Strong"
            )
        fields = self._client.describe_collection(self._collection)["fields"]
        stored = next(int(field["params"]["dim"]) for field in fields if field["name"] == "vector") - 1
        if stored != self.dimension:
            raise StoreError(
                f"The vectors '{name}' have {stored} numbers in Milvus, not {self.dimension}.",
                remedy="Give the new vectors another name.",
            )
        self._client.load_collection(self._collection)

    def _layout_there(self) -> Layout | None:
        """Read the layout off the vectors stored: nineteen of twenty have its length."""
        rows = self._client.query(self._collection, filter="key >= 0", output_fields=["vector"], limit=100)
        if not rows:
            return None
        lengths = np.linalg.norm(np.array([row["vector"] for row in rows], np.float32), axis=1)
        return Layout("f32", float(np.median(lengths)), 1.0)

    def _do(self, work: Callable[[], T]) -> T:
        return _asked(self._place, work)


def _asked(place: str, work: Callable[[], T]) -> T:
    from pymilvus.exceptions import MilvusException  # noqa: PLC0415

    try:
        return work()
    except (MilvusException, ConnectionError, OSError) as error:
        raise StoreError(
            f"Milvus at {place} does not answer: {error}",
            remedy="See whether the server runs and the URL is right.",
        ) from error


def _collection(tenant: str, name: str) -> str:
    return f"zhiyin_{digest_of(tenant, name)}"


def _require_package() -> None:
    if find_spec("pymilvus") is None:
        raise MissingExtra("pymilvus", "milvus")


def _connection(url: str) -> tuple[str, dict[str, Any]]:
    """Return what to call the place, and the settings of the client."""
    parts = urlsplit(url)
    if not parts.hostname:
        file = unquote(url.partition(":///")[2])
        if not file.endswith(".db"):
            raise StoreError(
                f"'{file}' names no file of Milvus Lite.",
                possible="A file is milvus:///file.db (relative) or milvus:////folder/file.db (absolute).",
            )
        if find_spec("milvus_lite") is None:
            raise StoreError(
                "A file of vectors needs the package 'milvus-lite', which is not installed.",
                remedy="Install it:  pip install milvus-lite",
            )
        return f"'{file}'", {"uri": str(Path(file).absolute())}
    protocol = "https" if parts.scheme == "milvus+tls" else "http"
    address = f"{protocol}://{parts.hostname}:{parts.port or 19530}"
    settings: dict[str, Any] = {"uri": address, "timeout": _TRIED_FOR_SECONDS}
    if parts.username:
        settings["token"] = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return f"{parts.hostname}:{parts.port or 19530}", settings


def _client(settings: dict[str, Any]) -> Any:
    from pymilvus import MilvusClient  # noqa: PLC0415

    return MilvusClient(**settings)
