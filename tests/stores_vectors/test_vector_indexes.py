"""Every kind of index keeps the promises of `VectorIndex`."""

import hashlib
from pathlib import Path

import pytest

from zhiyin.stores.vectors.index import VectorIndex
from zhiyin.stores.vectors.opening import open_index
from zhiyin.testing.vector_contract import VectorIndexContract


class TestExact(VectorIndexContract):
    def open(self, folder: Path, dimension: int, *, name: str, tenant: str) -> VectorIndex:
        return open_index("exact:", name=name, dimension=dimension, tenant=tenant)


class UsearchContract(VectorIndexContract):
    persists = True
    settings = ""

    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("usearch", reason="needs the package usearch")

    def open(self, folder: Path, dimension: int, *, name: str, tenant: str) -> VectorIndex:
        return open_index(
            f"usearch:///{folder}?{self.settings}", name=name, dimension=dimension, tenant=tenant
        )


class TestUsearch(UsearchContract):
    tolerance = 2e-3  # eleven bits


class TestUsearchFullPrecision(UsearchContract):
    settings = "dtype=f32"


class TestUsearchBytes(UsearchContract):
    settings = "dtype=i8&expansion_search=600"
    tolerance = 3e-2  # seven bits


class TestPgvector(VectorIndexContract):
    persists = True
    n_recall = 3_300  # more than 2,000 are left after removing: the graph is asked

    @pytest.fixture(autouse=True)
    def _server(self, vectors_postgres_url: str) -> None:
        self.url = vectors_postgres_url

    def open(self, folder: Path, dimension: int, *, name: str, tenant: str) -> VectorIndex:
        tenant += hashlib.sha256(str(folder).encode()).hexdigest()[:8]
        return open_index(self.url, name=name, dimension=dimension, tenant=tenant)


class TestMilvus(VectorIndexContract):
    persists = True

    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("pymilvus", reason="needs the package pymilvus")
        pytest.importorskip("milvus_lite", reason="needs the package milvus-lite")

    def open(self, folder: Path, dimension: int, *, name: str, tenant: str) -> VectorIndex:
        return open_index(f"milvus:///{folder}/v.db", name=name, dimension=dimension, tenant=tenant)
