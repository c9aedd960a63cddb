"""Vectors in PostgreSQL with the extension pgvector: shared by all processes, written durably."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar

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

if TYPE_CHECKING:
    from psycopg import Connection

    from zhiyin.stores.vectors.connections import Connections

T = TypeVar("T")

_LARGEST_DIMENSION = 1_999
"""pgvector indexes 2,000 numbers; one is used for the layout."""
_LARGEST_EXPANSION = 1_000
_COMPARED_ONE_AND_ALL = 2_000
_SEARCH_MILLISECONDS = 10_000
"""After which a search ends, also one that waits for a lock."""
_REGISTER = """
CREATE TABLE IF NOT EXISTS zhiyin_vector_indexes (
    tenant text NOT NULL, name text NOT NULL, dimension integer NOT NULL, length double precision,
    PRIMARY KEY (tenant, name)
)"""
_NEIGHBOURS = """
SELECT asked.number, near.key, near.distance
FROM unnest(%s::vector[]) WITH ORDINALITY AS asked (vector, number)
CROSS JOIN LATERAL (
    SELECT key, vector <#> asked.vector AS distance FROM {table} ORDER BY vector <#> asked.vector LIMIT %s
) AS near"""


class PgvectorIndex:
    """Approximate neighbours in a table of its own for each tenant and name.

    A graph is made after the first `put`, so put the whole catalogue at once where you can; that first put
    also chooses the layout. A server that went away and came back is connected to again.

    Args:
        url: ``postgresql://user:password@host/database``.
        name: Of the index.
        dimension: D, at most 1,999.
        tenant: To whom it belongs.
        config: Settings of the graph.

    Raises:
        StoreError: when the server is away, has no pgvector 0.8 or newer, or holds another dimension.
        MissingExtra: when psycopg or pgvector is not installed.
    """

    def __init__(
        self, url: str, name: str, dimension: int, tenant: str = "default", config: HnswConfig | None = None
    ) -> None:
        _require_packages()
        if dimension > _LARGEST_DIMENSION:
            raise StoreError(f"pgvector indexes at most {_LARGEST_DIMENSION} numbers; got {dimension}.")
        from psycopg import sql  # noqa: PLC0415

        from zhiyin.stores.vectors.connections import Connections  # noqa: PLC0415

        self.dimension = dimension
        self.config = config or HnswConfig()
        self._tenant, self._name = tenant, name
        self._length: float | None = None
        digest = digest_of(tenant, name)
        self._table = sql.Identifier(f"zhiyin_vectors_{digest}")
        self._graph = sql.Identifier(f"zhiyin_graph_{digest}")
        self._sql = sql.SQL
        self._connections: Connections = Connections(url)
        try:
            self._do(self._register)
        except BaseException:
            self._connections.close()
            raise

    def __len__(self) -> int:
        statement = self._sql("SELECT count(*) FROM {}").format(self._table)
        row = self._do(lambda connection: connection.execute(statement).fetchone())
        return int(row[0]) if row else 0

    def put(self, keys: IndexArray, vectors: FloatArray) -> None:
        """Add vectors, or replace those of known keys, all or none; see `VectorIndex.put`."""
        keys, vectors = checked_entries(keys, vectors, self.dimension)
        if len(keys):
            # kept only after the commit: what a failed first put chose is chosen again
            self._length = self._do(lambda connection: self._write(connection, keys, vectors))

    def fill(self, vectors: FloatArray) -> bool:
        """Put a whole catalogue unless it is there, all or nothing; see `StoredIndex.fill`.

        Of processes that fill the same index at once, one does, and the others wait for it.
        """
        keys, vectors = checked_entries(np.arange(len(vectors), dtype=np.int32), vectors, self.dimension)
        counted = self._sql("SELECT count(*) FROM {}").format(self._table)

        def fill(connection: Connection[Any]) -> float | None:
            self._length_locked(connection)
            row = connection.execute(counted).fetchone()
            return None if row is not None and row[0] >= len(keys) else self._write(connection, keys, vectors)

        length = self._do(fill)
        if length is not None:
            self._length = length
        return length is not None

    def remove(self, keys: IndexArray) -> None:
        """Remove vectors; unknown keys are ignored."""
        keys = checked_keys(keys)
        statement = self._sql("DELETE FROM {} WHERE key = ANY(%s)").format(self._table)
        self._do(lambda connection: connection.execute(statement, (keys.tolist(),)))

    def search(self, queries: FloatArray, k: int) -> tuple[IndexArray, FloatArray]:
        """Find the k largest inner products, approximately; see `VectorIndex.search`."""
        queries = checked_queries(queries, k, self.dimension)
        keys, products = no_neighbours(len(queries), k)
        if not len(queries):
            return keys, products
        found = self._do(lambda connection: self._neighbours(connection, queries, k))
        if not found:
            return keys, products
        row, key, distance = (np.array(column) for column in zip(*found, strict=True))
        order = np.lexsort((key, distance, row))
        row = row[order] - 1
        place = np.arange(len(row)) - np.searchsorted(row, row)
        keys[row, place] = key[order]
        products[row, place] = -distance[order]
        return keys, products

    def close(self) -> None:
        """Close the connections; the vectors stay in the database."""
        self._connections.close()

    @staticmethod
    def drop(url: str, name: str, tenant: str) -> None:
        """Remove an index with all its vectors, if it is there; see `drop_stored`."""
        _require_packages()
        from zhiyin.stores.vectors.connections import Connections  # noqa: PLC0415

        connections = Connections(url)
        try:
            connections.do(partial(_drop, tenant=tenant, name=name))
        finally:
            connections.close()

    def _do(self, work: Callable[[Connection[Any]], T]) -> T:
        return self._connections.do(work)

    def _register(self, connection: Connection[Any]) -> None:
        place = (self._tenant, self._name)
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('zhiyin_vector_indexes'))")
        connection.execute(_REGISTER)
        known = connection.execute(
            "SELECT dimension, length FROM zhiyin_vector_indexes WHERE tenant = %s AND name = %s", place
        ).fetchone()
        if known is None:
            connection.execute(
                "INSERT INTO zhiyin_vector_indexes (tenant, name, dimension) VALUES (%s, %s, %s)",
                (*place, self.dimension),
            )
            statement = self._sql("CREATE TABLE {} (key integer PRIMARY KEY, vector vector({}) NOT NULL)")
            connection.execute(statement.format(self._table, self.dimension + 1))
        elif known[0] != self.dimension:
            raise StoreError(
                f"The vectors '{self._name}' have {known[0]} numbers in the database, not {self.dimension}.",
                remedy="Give the new vectors another name.",
            )
        else:
            self._length = known[1]

    def _write(self, connection: Connection[Any], keys: IndexArray, vectors: FloatArray) -> float:
        length, is_first = self._length, False
        if length is None:
            length, is_first = self._chosen_length(connection, vectors)
        written = Layout("f32", length, 1.0).written(vectors)
        connection.execute("CREATE TEMPORARY TABLE coming (key integer, vector vector) ON COMMIT DROP")
        into = "COPY coming FROM STDIN (FORMAT BINARY)"
        with connection.cursor() as cursor, cursor.copy(into) as copy:
            copy.set_types(["int4", "vector"])
            for row in zip(keys.tolist(), written, strict=True):
                copy.write_row(row)
        statement = "INSERT INTO {} SELECT key, vector FROM coming ORDER BY key ON CONFLICT (key) "
        statement += "DO UPDATE SET vector = excluded.vector"
        connection.execute(self._sql(statement).format(self._table))
        if is_first:
            statement = (
                "CREATE INDEX {} ON {} USING hnsw (vector vector_ip_ops) WITH (m = {}, ef_construction = {})"
            )
            settings = (self.config.connectivity, self.config.expansion_add)
            connection.execute(self._sql(statement).format(self._graph, self._table, *settings))
        return length

    def _chosen_length(self, connection: Connection[Any], vectors: FloatArray) -> tuple[float, bool]:
        """Return the length of the layout, and whether this put is the first and chose it."""
        known = self._length_locked(connection)
        if known is not None:
            return known, False
        length = Layout.of(vectors, "f32").length
        connection.execute(
            "UPDATE zhiyin_vector_indexes SET length = %s WHERE tenant = %s AND name = %s",
            (length, self._tenant, self._name),
        )
        return length, True

    def _length_locked(self, connection: Connection[Any]) -> float | None:
        """Return the length that was chosen, if any; others that write wait until this one is done."""
        asked = "SELECT length FROM zhiyin_vector_indexes WHERE tenant = %s AND name = %s FOR UPDATE"
        known = connection.execute(asked, (self._tenant, self._name)).fetchone()
        if known is None:
            raise StoreError(f"The vectors '{self._name}' were dropped from the database meanwhile.")
        return None if known[0] is None else float(known[0])

    def _neighbours(
        self, connection: Connection[Any], queries: FloatArray, k: int
    ) -> list[tuple[int, int, float]]:
        enough = max(_COMPARED_ONE_AND_ALL, 2 * k)
        statement = "SELECT count(*) FROM (SELECT FROM {} LIMIT %s) AS first_rows"
        counted = connection.execute(self._sql(statement).format(self._table), (enough + 1,)).fetchone()
        is_small = counted is None or counted[0] <= enough
        connection.execute(
            "SELECT set_config('enable_indexscan', %s, true), set_config('hnsw.ef_search', %s, true), "
            f"set_config('statement_timeout', '{_SEARCH_MILLISECONDS}', true)",
            (
                "off" if is_small else "on",
                str(min(_LARGEST_EXPANSION, max(k, self.config.expansion_search))),
            ),
        )
        asked, _ = Layout("f32", 0.0, 1.0).asked(queries)
        found: list[tuple[int, int, float]] = connection.execute(
            self._sql(_NEIGHBOURS).format(table=self._table), (list(asked), k)
        ).fetchall()
        return found


def _require_packages() -> None:
    for package in ("psycopg", "pgvector"):
        if find_spec(package) is None:
            raise MissingExtra(package, "postgres")


def _drop(connection: Connection[Any], tenant: str, name: str) -> None:
    from psycopg import sql  # noqa: PLC0415

    known = connection.execute("SELECT to_regclass('zhiyin_vector_indexes')").fetchone()
    if known is None or known[0] is None:
        return
    connection.execute("DELETE FROM zhiyin_vector_indexes WHERE tenant = %s AND name = %s", (tenant, name))
    table = sql.Identifier(f"zhiyin_vectors_{digest_of(tenant, name)}")
    connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(table))
