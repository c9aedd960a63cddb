"""From a URL to an index of vectors."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qsl, quote, unquote

from zhiyin.domain.errors import StoreError
from zhiyin.stores.vectors.exact import ExactIndex
from zhiyin.stores.vectors.hnsw import UsearchConfig
from zhiyin.stores.vectors.index import StoredIndex, VectorIndex
from zhiyin.stores.vectors.milvus import MilvusIndex
from zhiyin.stores.vectors.pgvector import PgvectorIndex
from zhiyin.stores.vectors.usearch import UsearchIndex

_POSSIBLE = (
    "An index is exact: (in memory), usearch: (in memory) or usearch:///folder, "
    "postgresql://user:password@host/database, milvus://host:19530, milvus+tls://host or milvus:///file.db."
)
EXACT_BELOW = 100_000
"""Vectors below which comparing one and all is quick enough; docs/benchmarks.md has the measurement."""


def open_index(url: str, *, name: str, dimension: int, tenant: str = "default") -> VectorIndex:
    """Open, or make, an index.

    Args:
        url: Which kind and where, such as ``exact:``, ``usearch:?dtype=i8``, ``usearch:///relative/folder``,
            ``usearch:////absolute/folder``.
        name: Of the index; several of one tenant may live behind one URL.
        dimension: D, numbers per vector.
        tenant: To whom it belongs; tenants do not see each other's vectors.

    Raises:
        StoreError: when the kind is not known, the store is away, or holds vectors of another dimension.
        ConfigError: when a setting in the URL is unknown or out of range.
        MissingExtra: when the package of this kind is not installed.
    """
    scheme, colon, rest = url.partition(":")
    if scheme not in _OPENERS or not colon:
        raise StoreError(f"The index '{scheme}{colon}' is not known.", possible=_POSSIBLE)
    if not name or not tenant:
        raise StoreError("An index needs a name and a tenant; one of them is empty.")
    if dimension < 1:
        raise StoreError(f"An index needs vectors of at least 1 number; got {dimension}.")
    return _OPENERS[scheme](rest, name, dimension, tenant)


def open_stored_index(url: str, *, name: str, dimension: int, tenant: str = "default") -> StoredIndex:
    """Open, or make, an index outside this process, in PostgreSQL or Milvus; see `open_index`.

    Raises:
        StoreError: also where the URL is that of an index in this process.
    """
    kind, url = _stored_kind(url), stored_url(url)
    index = open_index(url, name=name, dimension=dimension, tenant=tenant)
    assert isinstance(index, kind)
    return index


def drop_stored(url: str, *, name: str, tenant: str = "default") -> None:
    """Remove an index in PostgreSQL or Milvus with all its vectors, if it is there.

    Raises:
        StoreError: when the URL is of another kind, or the store is away.
        MissingExtra: when the package of this kind is not installed.
    """
    _stored_kind(url).drop(stored_url(url), name, tenant)


def stored_url(url: str) -> str:
    """Return a URL of PostgreSQL or Milvus as their clients read it; nothing is opened.

    Raises:
        StoreError: when it is of another kind.
    """
    _stored_kind(url)
    return url.replace("postgresql+psycopg:", "postgresql:", 1)


def _stored_kind(url: str) -> type[PgvectorIndex] | type[MilvusIndex]:
    scheme = url.partition(":")[0]
    if scheme not in _STORED:
        # What is no URL may be anything, a password for instance.
        told = f"'{scheme}:'" if scheme in _OPENERS else "what the setting says"
        raise StoreError(
            f"Vectors that processes share are not kept in {told}.",
            possible="It may be postgresql://user:password@host/database, milvus://host:19530, "
            "milvus+tls://host or milvus:///file.db.",
            remedy="Without it each process has an index of its own, which needs no setting.",
        )
    return _STORED[scheme]


def suited_index(n_vectors: int) -> str:
    """Return the URL of the index in memory that suits so many vectors: ``exact:`` or ``usearch:``."""
    return "exact:" if n_vectors < EXACT_BELOW else "usearch:"


def _open_exact(rest: str, name: str, dimension: int, tenant: str) -> VectorIndex:  # noqa: ARG001
    if rest.strip("/"):
        raise StoreError(f"An exact index lives in memory and takes no place; got 'exact:{rest}'.")
    return ExactIndex(dimension)


def _open_usearch(rest: str, name: str, dimension: int, tenant: str) -> VectorIndex:
    place, _, settings = rest.partition("?")
    config = UsearchConfig.parse(dict(parse_qsl(settings, keep_blank_values=True)))
    path = unquote(place.removeprefix("///"))
    if not path:
        return UsearchIndex(dimension, config)
    if not place.startswith("///"):
        raise StoreError(
            f"'usearch:{place}' names no folder.",
            possible="A folder is usearch:///folder (relative) or usearch:////folder (absolute).",
        )
    return UsearchIndex(dimension, config, folder=Path(path) / _as_file_name(tenant) / _as_file_name(name))


def _open_pgvector(rest: str, name: str, dimension: int, tenant: str) -> VectorIndex:
    return PgvectorIndex(f"postgresql:{rest}", name, dimension, tenant)


def _open_milvus(rest: str, name: str, dimension: int, tenant: str) -> VectorIndex:
    return MilvusIndex(f"milvus:{rest}", name, dimension, tenant)


def _open_milvus_encrypted(rest: str, name: str, dimension: int, tenant: str) -> VectorIndex:
    return MilvusIndex(f"milvus+tls:{rest}", name, dimension, tenant)


def _as_file_name(text: str) -> str:
    """Return a name no other text has, not even where capitals make no difference."""
    digest = hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]
    return f"{quote(text, safe='')[:60]}-{digest}"


_OPENERS: dict[str, Callable[[str, str, int, str], VectorIndex]] = {
    "exact": _open_exact,
    "usearch": _open_usearch,
    "postgresql": _open_pgvector,
    "postgresql+psycopg": _open_pgvector,
    "milvus": _open_milvus,
    "milvus+tls": _open_milvus_encrypted,
}
_STORED: dict[str, type[PgvectorIndex] | type[MilvusIndex]] = {
    "postgresql": PgvectorIndex,
    "postgresql+psycopg": PgvectorIndex,
    "milvus": MilvusIndex,
    "milvus+tls": MilvusIndex,
}
