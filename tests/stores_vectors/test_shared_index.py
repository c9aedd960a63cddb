"""Indexes that processes share: filled once, read by all, and later vectors beside them."""

import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zhiyin.domain.arrays import FloatArray, IndexArray
from zhiyin.domain.errors import StoreError
from zhiyin.stores.vectors import milvus as milvus_module
from zhiyin.stores.vectors import shared as shared_module
from zhiyin.stores.vectors.exact import ExactIndex
from zhiyin.stores.vectors.opening import drop_stored, open_index, open_stored_index
from zhiyin.stores.vectors.shared import SharedIndex

TRAINED = np.array([[1, 0], [0, 2], [3, 3]], np.float32)
ASKED = np.array([[1, 0], [0, 1]], np.float32)


@pytest.fixture(params=["postgresql", "milvus"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store of vectors that is really there."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    pytest.importorskip("pymilvus", reason="needs the package pymilvus")
    pytest.importorskip("milvus_lite", reason="needs the package milvus-lite")
    return f"milvus:///{tmp_path}/v.db"


def test_a_store_is_filled_once(url: str) -> None:
    index = open_stored_index(url, name="b/semantic", dimension=2)
    assert index.fill(TRAINED)
    assert not index.fill(TRAINED + 1), "the vectors are there"
    assert index.fill(np.vstack([TRAINED, TRAINED])), "more than are there"
    assert len(index) == 6
    keys, products = index.search(ASKED, 2)
    assert set(keys[0]) == {2, 5}
    assert products[0].tolist() == [3, 3]
    index.close()


def test_another_process_finds_what_was_filled(url: str) -> None:
    index = open_stored_index(url, name="b/semantic", dimension=2)
    index.fill(TRAINED)
    if url.startswith("milvus"):
        index.close()  # a file belongs to one process at a time
    other = open_stored_index(url, name="b/semantic", dimension=2)
    assert not other.fill(TRAINED)
    assert other.search(ASKED, 1)[0].tolist() == [[2], [2]]
    other.close()


def test_what_is_dropped_is_gone_and_nothing_else(url: str) -> None:
    for name in ("b/semantic", "c/semantic"):
        index = open_stored_index(url, name=name, dimension=2, tenant="tea")
        index.fill(TRAINED)
        index.close()
    drop_stored(url, name="b/semantic", tenant="tea")
    drop_stored(url, name="b/semantic", tenant="tea")
    drop_stored(url, name="c/semantic", tenant="coffee")
    for name, n in (("b/semantic", 0), ("c/semantic", 3)):
        index = open_stored_index(url, name=name, dimension=2 + (n == 0), tenant="tea")
        assert len(index) == n
        index.close()


@pytest.mark.parametrize("url", ["exact:", "usearch:///folder"])
def test_an_index_in_the_process_cannot_be_shared(url: str) -> None:
    with pytest.raises(StoreError, match=r"are not kept in '(exact|usearch):'") as raised:
        open_stored_index(url, name="b/semantic", dimension=2)
    assert "milvus://" in str(raised.value.possible)


def test_later_vectors_stand_among_those_of_training() -> None:
    stored = open_index("exact:", name="items", dimension=2)
    stored.put(np.arange(3, dtype=np.int32), TRAINED)
    shared = SharedIndex(stored, 3)
    assert shared.search(ASKED, 4)[0].tolist() == [[2, 0, 1, -1], [2, 1, 0, -1]]
    shared.put(np.array([3, 4], np.int32), np.array([[9, 0], [2, 0]], np.float32))
    keys, products = shared.search(ASKED, 4)
    assert keys.tolist() == [[3, 2, 4, 0], [2, 1, 0, 3]]
    assert products[0].tolist() == [9, 3, 2, 1]
    assert len(shared) == 5
    assert len(stored) == 3
    shared.remove(np.array([3], np.int32))
    assert shared.search(ASKED, 6)[0][0].tolist() == [2, 4, 0, 1, -1, -1]
    with pytest.raises(StoreError, match="Key 2 is one of the 3"):
        shared.put(np.array([2], np.int32), np.ones((1, 2), np.float32))
    with pytest.raises(StoreError, match="Key 0 is one of the 3"):
        shared.remove(np.array([0], np.int32))


class Away(ExactIndex):
    """A store that is away as long as it is told to be."""

    is_away = True
    n_asked = 0

    def search(self, queries: FloatArray, k: int) -> tuple[IndexArray, FloatArray]:
        self.n_asked += 1
        if self.is_away:
            raise StoreError("PostgreSQL at db does not answer.")
        return super().search(queries, k)


def test_a_store_that_is_away_is_left_alone_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr(shared_module.time, "monotonic", lambda: now)
    stored = Away(2)
    shared = SharedIndex(stored, 3)
    for _ in range(5):
        with pytest.raises(StoreError, match="does not answer"):
            shared.search(ASKED, 1)
    assert stored.n_asked == 1
    now, stored.is_away = now + 5.1, False
    assert shared.search(ASKED, 1)[0].tolist() == [[-1], [-1]]
    shared.search(ASKED, 1)
    assert stored.n_asked == 3


class Hanging(ExactIndex):
    """A store that takes a search and never answers, until it is let go."""

    def __init__(self, dimension: int) -> None:
        super().__init__(dimension)
        self.go_on = threading.Event()
        self.is_closed = False

    def search(self, queries: FloatArray, k: int) -> tuple[IndexArray, FloatArray]:
        self.go_on.wait(20)
        return super().search(queries, k)

    def close(self) -> None:
        self.is_closed = True


def test_a_store_that_hangs_is_waited_for_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_module, "_SEARCH_SECONDS", 0.05)
    monkeypatch.setattr(shared_module, "_REST_SECONDS", 0.0)
    stored = Hanging(2)
    shared = SharedIndex(stored, 3)
    for _ in range(shared_module._MOST_HANGING * shared_module._PORTIONS):
        with pytest.raises(StoreError, match="did not answer within"):
            shared.search(ASKED, 1)
    with pytest.raises(StoreError, match="still hang"):
        shared.search(ASKED, 1)
    stored.go_on.set()
    until = time.monotonic() + 10
    while shared._n_hanging:
        assert time.monotonic() < until
        time.sleep(0.01)
    assert shared.search(ASKED, 1)[0].tolist() == [[-1], [-1]]
    del shared
    gc.collect()
    assert stored.is_closed, "nobody holds the index any more"


def test_a_bad_query_is_no_outage_and_very_many_neighbours_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_module, "_MOST_FOUND", 2)
    stored = open_index("exact:", name="items", dimension=2)
    stored.put(np.arange(3, dtype=np.int32), TRAINED)
    shared = SharedIndex(stored, 3)
    with pytest.raises(StoreError, match="finite"):
        shared.search(np.full((1, 2), np.nan, np.float32), 1)
    assert shared.search(ASKED, 5)[0].tolist() == [[2, 0, -1, -1, -1], [2, 1, -1, -1, -1]]


def test_a_large_batch_in_portions_is_answered_in_its_order() -> None:
    random = np.random.default_rng(0)
    stored = open_index("exact:", name="items", dimension=4)
    stored.put(np.arange(200, dtype=np.int32), random.normal(size=(200, 4)).astype(np.float32))
    asked = random.normal(size=(101, 4)).astype(np.float32)
    for found, expected in zip(
        SharedIndex(stored, 200).search(asked, 5), stored.search(asked, 5), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_of_those_who_fill_at_once_one_does(postgres_url: str) -> None:
    indexes = [open_stored_index(postgres_url, name="b/semantic", dimension=8) for _ in range(3)]
    vectors = np.random.default_rng(0).normal(size=(3_000, 8)).astype(np.float32)
    with ThreadPoolExecutor(3) as pool:
        filled = list(pool.map(lambda index: index.fill(vectors), indexes))
    assert sorted(filled) == [False, False, True]
    assert len(indexes[0]) == 3_000
    for index in indexes:
        index.close()


def test_the_other_way_to_name_postgresql(postgres_url: str) -> None:
    url = postgres_url.replace("postgresql://", "postgresql+psycopg://")
    open_stored_index(url, name="b/semantic", dimension=2).close()
    drop_stored(url, name="b/semantic")
    open_stored_index(url, name="b/semantic", dimension=3).close()


@pytest.mark.parametrize(
    ("url", "uri"),
    [
        ("milvus+tls://u:p%2Fw@vec", "https://vec:19530"),
        ("milvus://u:p%2Fw@vec:19531", "http://vec:19531"),
    ],
)
def test_milvus_is_reached_encrypted_where_asked(url: str, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pymilvus", reason="needs the package pymilvus")
    asked: list[dict[str, Any]] = []

    def refused(settings: dict[str, Any]) -> None:
        asked.append(settings)
        raise OSError("nobody is there")

    monkeypatch.setattr(milvus_module, "_client", refused)
    for work in (open_stored_index, drop_stored):
        with pytest.raises(StoreError, match="does not answer"):
            work(url, name="b", **({"dimension": 2} if work is open_stored_index else {}))
    assert [(one["uri"], one["token"]) for one in asked] == [(uri, "u:p/w")] * 2


def test_what_is_no_url_is_not_repeated() -> None:
    with pytest.raises(StoreError, match="not kept in what the setting says"):
        open_stored_index("host=db password=topsecret", name="b", dimension=2)
