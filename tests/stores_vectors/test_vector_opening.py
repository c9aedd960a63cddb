"""From URLs to indexes, and what is said where that does not work."""

import json
import socket
from dataclasses import fields
from importlib import util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiyin.domain.errors import ConfigError, MissingExtra, StoreError
from zhiyin.stores.vectors.exact import ExactIndex
from zhiyin.stores.vectors.hnsw import Layout, UsearchConfig
from zhiyin.stores.vectors.opening import EXACT_BELOW, open_index, suited_index
from zhiyin.stores.vectors.usearch import UsearchIndex

PACKAGES = {
    "usearch:": "pip install 'zhiyin[vectors]'",
    "postgresql://localhost/x": "pip install 'zhiyin[postgres]'",
    "milvus://localhost": "pip install 'zhiyin[milvus]'",
}


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("faiss:", "'faiss:' is not known"),
        ("exact", "'exact' is not known"),
        ("exact:///folder", "takes no place"),
        ("usearch:folder", "names no folder"),
        ("milvus:///folder", "names no file"),
    ],
)
def test_urls_that_name_nothing(url: str, says: str) -> None:
    with pytest.raises(StoreError, match=says):
        open_index(url, name="items", dimension=2)


def test_a_password_in_a_url_is_not_repeated() -> None:
    with pytest.raises(StoreError) as error:
        open_index("mysql://ann:secret@host/db", name="items", dimension=2)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("conectivity=8", "Did you mean 'connectivity'"),
        ("connectivity=many", "whole number"),
        ("connectivity=1", "2 to 100"),
        ("dtype=f8", "f32, f16, i8"),
        ("connectivity=60&expansion_add=100", "twice"),
    ],
)
def test_settings_that_cannot_be(query: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        open_index(f"usearch:?{query}", name="items", dimension=2)


def test_settings_reach_the_graph() -> None:
    index = open_index("usearch:?connectivity=8&dtype=i8&threads=1", name="items", dimension=2)
    assert isinstance(index, UsearchIndex)
    assert index.config == UsearchConfig(connectivity=8, dtype="i8", threads=1)


@pytest.mark.parametrize("url", PACKAGES)
def test_a_missing_package_says_its_extra(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("usearch", "pgvector", "milvus"):
        monkeypatch.setattr(f"zhiyin.stores.vectors.{module}.find_spec", lambda _: None)
    with pytest.raises(MissingExtra) as error:
        open_index(url, name="items", dimension=2)
    assert PACKAGES[url] in str(error.value)


@pytest.mark.parametrize("scheme", ["postgresql", "milvus"])
def test_a_server_that_is_away(scheme: str) -> None:
    for package in ("psycopg", "pgvector", "pymilvus"):
        if util.find_spec(package) is None:
            pytest.skip(f"needs the package {package}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(StoreError, match="does not answer") as error:
        open_index(f"{scheme}://ann:secret@127.0.0.1:{port}/x", name="items", dimension=2)
    assert "secret" not in str(error.value)


def test_another_dimension_than_the_one_stored(vectors_postgres_url: str) -> None:
    open_index(vectors_postgres_url, name="narrow", dimension=2).close()
    with pytest.raises(StoreError, match="2 numbers in the database, not 3"):
        open_index(vectors_postgres_url, name="narrow", dimension=3)


def test_connections_that_broke_are_made_again(vectors_postgres_url: str) -> None:
    import psycopg

    index = open_index(vectors_postgres_url, name="broken", dimension=2)
    index.put(np.array([1], np.int32), np.ones((1, 2), np.float32))
    with psycopg.connect(vectors_postgres_url, autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            " AND datname = current_database()"
        )
    assert len(index) == 1
    index.close()
    with pytest.raises(StoreError, match="closed"):
        len(index)


def test_two_processes_see_each_others_vectors_in_postgresql(vectors_postgres_url: str) -> None:
    first, second = (open_index(vectors_postgres_url, name="shared", dimension=2) for _ in range(2))
    first.put(np.array([1], np.int32), np.array([[1, 0]], np.float32))
    second.put(np.array([2], np.int32), np.array([[0, 9]], np.float32))
    keys, products = first.search(np.array([[1, 1]], np.float32), 3)
    assert keys.tolist() == [[2, 1, -1]]
    assert products[0, :2].tolist() == [9, 1]
    first.close()
    second.close()


def test_a_damaged_folder_is_said(tmp_path: Path) -> None:
    index = UsearchIndex(2, folder=tmp_path)
    index.put(np.array([1], np.int32), np.ones((1, 2), np.float32))
    index.close()
    graph = next(tmp_path.glob("graph-*.usearch"))
    graph.write_bytes(graph.read_bytes()[:20])
    with pytest.raises(StoreError, match="cannot be read"):
        UsearchIndex(2, folder=tmp_path)
    (tmp_path / "vectors.json").write_text("{")
    with pytest.raises(StoreError, match="cannot be read"):
        UsearchIndex(2, folder=tmp_path)


def test_saving_again_leaves_one_graph(tmp_path: Path) -> None:
    index = UsearchIndex(2, folder=tmp_path)
    for number in range(3):
        index.put(np.array([number], np.int32), np.ones((1, 2), np.float32))
        index.save(tmp_path)
    assert [path.name for path in tmp_path.glob("graph-*")] == ["graph-3.usearch"]
    assert json.loads((tmp_path / "vectors.json").read_text())["graph"] == "graph-3.usearch"
    index.close()


def test_the_suited_kind_changes_where_it_says() -> None:
    assert suited_index(EXACT_BELOW - 1) == "exact:"
    assert suited_index(EXACT_BELOW) == "usearch:"


@given(st.integers(1, 40), st.integers(1, 6), st.sampled_from(["f32", "i8"]), st.integers(0, 2**32 - 1))
def test_the_layout_keeps_inner_products_and_evens_lengths(
    n_vectors: int, dimension: int, dtype: str, seed: int
) -> None:
    random = np.random.default_rng(seed)
    vectors = (random.normal(size=(n_vectors, dimension)) * random.lognormal(0, 1, (n_vectors, 1))).astype(
        np.float32
    )
    queries = random.normal(size=(3, dimension)).astype(np.float32)
    layout = Layout.of(vectors, dtype)
    written, (asked, factor) = layout.written(vectors), layout.asked(queries)
    products = (asked.astype(np.float32) @ written.astype(np.float32).T) * factor
    right = queries @ vectors.T
    largest = np.abs(vectors).max() * np.abs(queries).max() * dimension
    np.testing.assert_allclose(products, right, rtol=0, atol=largest * (1e-5 if dtype == "f32" else 0.01))
    np.testing.assert_allclose(
        layout.read(written),
        vectors,
        rtol=0,
        atol=np.abs(vectors).max() * (1e-6 if dtype == "f32" else 0.005),
    )
    if dtype == "f32":
        lengths = np.linalg.norm(written, axis=1)
        right_lengths = np.maximum(np.linalg.norm(vectors, axis=1), layout.length)
        np.testing.assert_allclose(lengths, right_lengths, rtol=1e-4)


@given(st.lists(st.tuples(st.booleans(), st.sets(st.integers(0, 12), max_size=6)), max_size=12))
def test_the_exact_index_equals_a_dictionary(steps: list[tuple[bool, set[int]]]) -> None:
    random, index, right = np.random.default_rng(0), ExactIndex(3), {}
    for is_put, chosen in steps:
        keys = np.array(sorted(chosen), np.int32)
        if is_put:
            vectors = random.normal(size=(len(keys), 3)).astype(np.float32)
            index.put(keys, vectors)
            right.update(zip(keys.tolist(), vectors, strict=True))
        else:
            index.remove(keys)
            right = {key: vector for key, vector in right.items() if key not in chosen}
    query = random.normal(size=(1, 3)).astype(np.float32)
    best = sorted(right, key=lambda key: -float(query[0] @ right[key]))
    found = index.search(query, 15)[0][0].tolist()
    assert len(index) == len(right)
    assert found == best + [-1] * (15 - len(best))


def test_the_guide_names_every_setting_with_its_default() -> None:
    page = (Path(__file__).parents[2] / "docs/guide/vectors.md").read_text("utf-8")
    for setting in fields(UsearchConfig):
        assert f"| `{setting.name}` | {setting.default} |" in page
    assert f"fewer than {EXACT_BELOW:,} vectors" in page
