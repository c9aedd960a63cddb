"""A few connections to PostgreSQL, made when needed and made again when the server was away."""

from __future__ import annotations

import queue
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar
from urllib.parse import urlsplit

import psycopg
from pgvector.psycopg import register_vector

from zhiyin.domain.errors import StoreError

T = TypeVar("T")

_IDLE_AT_MOST = 8
OLDEST_PGVECTOR = (0, 8)


class Connections:
    """Runs a piece of work as one transaction on a connection of its own.

    Args:
        url: ``postgresql://user:password@host/database``.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._place = urlsplit(self._url).hostname or "this machine"
        self._idle: queue.LifoQueue[psycopg.Connection[Any]] = queue.LifoQueue(_IDLE_AT_MOST)
        self._is_closed = False

    def do(self, work: Callable[[psycopg.Connection[Any]], T]) -> T:
        """Return what the work returns; done once more where it failed on a connection kept from before.

        Raises:
            StoreError: when the server is away or refuses.
        """
        if self._is_closed:
            raise StoreError("The index of vectors is closed.")
        try:
            kept = self._kept()
            if kept is not None:
                with suppress(psycopg.OperationalError):  # the server went away meanwhile
                    return self._done(kept, work)
            return self._done(self._connected(), work)
        except psycopg.OperationalError as error:
            raise StoreError(
                f"PostgreSQL at {self._place} does not answer: {error}",
                remedy="See whether the server runs and the URL is right.",
            ) from error
        except psycopg.Error as error:
            raise StoreError(f"PostgreSQL at {self._place} refuses: {error}") from error

    def close(self) -> None:
        """Close all connections that are not at work; the others close when their work is done."""
        self._is_closed = True
        while (connection := self._kept()) is not None:
            connection.close()

    def _done(self, connection: psycopg.Connection[Any], work: Callable[[psycopg.Connection[Any]], T]) -> T:
        try:
            with connection.transaction():
                result = work(connection)
        except BaseException:
            connection.close()
            raise
        try:
            if self._is_closed:
                raise queue.Full
            self._idle.put_nowait(connection)
        except queue.Full:
            connection.close()
        return result

    def _kept(self) -> psycopg.Connection[Any] | None:
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            return None

    def _connected(self) -> psycopg.Connection[Any]:
        connection = psycopg.connect(self._url, autocommit=True, connect_timeout=10)
        try:
            self._with_vectors(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _with_vectors(self, connection: psycopg.Connection[Any]) -> None:
        asked = "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
        version = connection.execute(asked).fetchone()
        if version is None:
            try:
                with connection.transaction():
                    connection.execute("SELECT pg_advisory_xact_lock(hashtext('zhiyin_vector_indexes'))")
                    connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            except psycopg.Error as error:
                raise StoreError(
                    f"PostgreSQL at {self._place} has no pgvector: {error}",
                    remedy="Install pgvector there, and let an administrator run  CREATE EXTENSION vector",
                ) from error
            version = connection.execute(asked).fetchone()
        if version is not None and tuple(map(int, version[0].split(".")[:2])) < OLDEST_PGVECTOR:
            raise StoreError(
                f"PostgreSQL at {self._place} has pgvector {version[0]}; 0.8 or newer is needed.",
                remedy="Update it there, then run  ALTER EXTENSION vector UPDATE",
            )
        register_vector(connection)
        connection.execute("SET hnsw.iterative_scan = strict_order")
