"""Vectors on disk: found again, never half written, damage noticed."""

import multiprocessing
import os
import signal
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from zhiyin.domain.errors import ZhiyinWarning
from zhiyin.language import cache as cache_module
from zhiyin.language.cache import VectorCache, default_cache_folder
from zhiyin.testing.toy_language import HashedWords

ENCODER = HashedWords(8)


def filled(folder: Path, texts: list[str]) -> VectorCache:
    cache = VectorCache(folder, "toy")
    cache.add(texts, ENCODER.encode(texts))
    return cache


def assert_holds(cache: VectorCache, texts: list[str]) -> None:
    is_there, vectors = cache.find(texts)
    assert is_there.all()
    np.testing.assert_array_equal(vectors, ENCODER.encode(texts))


def test_what_was_added_is_found_bit_by_bit_in_another_object(tmp_path: Path):
    filled(tmp_path, ["red hat", "龙井茶", "", "x" * 5000])
    fresh = VectorCache(tmp_path, "toy")
    assert_holds(fresh, ["龙井茶", "red hat", "", "x" * 5000, "red hat"])
    is_there, vectors = fresh.find(["blue hat", "red hat"])
    assert is_there.tolist() == [False, True]
    assert vectors.shape == (1, 8)


def test_an_empty_cache_finds_nothing(tmp_path: Path):
    is_there, vectors = VectorCache(tmp_path / "none", "toy").find(["a", "b"])
    assert not is_there.any()
    assert len(vectors) == 0
    assert VectorCache(tmp_path, "toy").find([])[0].shape == (0,)


def test_encoders_do_not_share(tmp_path: Path):
    filled(tmp_path, ["red hat"])
    assert not VectorCache(tmp_path, "toy 2").find(["red hat"])[0].any()


def test_a_writer_is_seen_by_a_cache_that_is_already_open(tmp_path: Path):
    reader = VectorCache(tmp_path, "toy")
    assert not reader.find(["later"])[0].any()
    filled(tmp_path, ["later"])
    assert_holds(reader, ["later"])


@pytest.mark.parametrize("damage", ["cut", "flipped", "other", "empty", "header"])
def test_a_damaged_file_is_removed_with_a_warning_and_the_rest_stays(tmp_path: Path, damage: str):
    cache = filled(tmp_path, ["a", "b"])
    (hurt,) = cache.folder.glob("*.vectors")
    filled(tmp_path, ["c"])
    content = hurt.read_bytes()
    hurt.write_bytes(
        {
            "cut": content[:-5],
            "flipped": content[:-5] + bytes([content[-5] ^ 1]) + content[-4:],
            "other": b"something else",
            "empty": b"",
            "header": content.replace(b'"n": 2', b'"n": 9'),
        }[damage]
    )
    fresh = VectorCache(tmp_path, "toy")
    with pytest.warns(ZhiyinWarning, match="damaged"):
        is_there, _ = fresh.find(["a", "b", "c"])
    assert is_there.tolist() == [False, False, True]
    assert not hurt.exists()
    fresh.add(["a", "b"], ENCODER.encode(["a", "b"]))
    assert_holds(VectorCache(tmp_path, "toy"), ["a", "b", "c"])


def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    cache = VectorCache(tmp_path / "file", "toy")
    with pytest.warns(ZhiyinWarning, match="cannot be kept"):
        cache.add(["a"], ENCODER.encode(["a"]))
    assert_holds(cache, ["a"])


def test_many_small_files_become_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cache_module, "_SEGMENTS_BEFORE_JOINING", 5)
    texts = [f"text {place}" for place in range(12)]
    cache = VectorCache(tmp_path, "toy")
    for text in texts:
        cache.add([text], ENCODER.encode([text]))
    assert len(list(cache.folder.glob("*.vectors"))) < 5
    assert_holds(VectorCache(tmp_path, "toy"), texts)
    assert_holds(cache, texts)


def _write_for_ever(folder: Path, first: int) -> None:
    cache = VectorCache(folder, "toy")
    for place in range(first, first + 100_000):
        cache.add([f"text {place}"], ENCODER.encode([f"text {place}"]))


def test_writers_at_the_same_time_that_are_killed_leave_only_whole_files(tmp_path: Path):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_for_ever, args=(tmp_path, 1_000_000 * k)) for k in range(2)]
    for writer in writers:
        writer.start()
    reader = VectorCache(tmp_path, "toy")
    deadline = time.monotonic() + 20
    wanted = ["text 3", "text 1000003"]
    while not reader.find(wanted)[0].all() and time.monotonic() < deadline:
        time.sleep(0.02)
    for writer in writers:
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
    assert_holds(
        VectorCache(tmp_path, "toy"), wanted
    )  # a damaged file would be a warning, and warnings are errors


def test_the_folder_is_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ZHIYIN_CACHE", str(tmp_path))
    assert default_cache_folder() == tmp_path / "vectors"
    monkeypatch.delenv("ZHIYIN_CACHE")
    assert default_cache_folder() == Path.home() / ".cache" / "zhiyin" / "vectors"


def test_one_text_among_many_is_read_by_itself(tmp_path: Path):
    texts = [f"text {number}" for number in range(2_000)]
    filled(tmp_path, texts)
    fresh = VectorCache(tmp_path, "toy")
    assert_holds(fresh, ["text 7", "text 1999", "text 0"])
    assert_holds(fresh, texts[::-1])


def test_a_file_that_is_shortened_or_removed_while_it_is_known(tmp_path: Path):
    texts = [f"text {number}" for number in range(100)]
    for damage in (lambda path: os.truncate(path, 2_000), Path.unlink):
        cache = filled(tmp_path, texts)
        assert_holds(cache, texts)
        damage(next(cache.folder.glob("*.vectors")))
        is_there, vectors = cache.find(["text 99"])
        assert not is_there.any()
        assert len(vectors) == 0
        for path in cache.folder.glob("*.vectors"):
            path.unlink()


def test_files_of_another_length_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cache_module, "_SEGMENTS_BEFORE_JOINING", 4)
    other = VectorCache(tmp_path, "toy")
    other.add(["long"], HashedWords(16).encode(["long"]))
    (kept,) = other.folder.glob("*.vectors")
    cache = VectorCache(tmp_path / "x", "toy")
    cache.folder = other.folder
    for place in range(8):
        cache._looked_at.add(kept.name)
        cache.add([f"text {place}"], ENCODER.encode([f"text {place}"]))
    assert kept.is_file()
    assert_holds(cache, [f"text {place}" for place in range(8)])


def test_where_nothing_can_be_written_portions_are_joined_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cache_module, "_MOST_SEGMENTS", 3)
    (tmp_path / "file").write_text("no folder")
    cache = VectorCache(tmp_path / "file", "toy")
    texts = [f"text {number}" for number in range(9)]
    for text in texts:
        with pytest.warns(ZhiyinWarning, match="cannot be kept"):
            cache.add([text, "again"], ENCODER.encode([text, "again"]))
    assert len(cache._segments) <= 3
    assert_holds(cache, [*texts, "again"])


def test_files_that_somebody_else_joined_are_no_hindrance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cache_module, "_SEGMENTS_BEFORE_JOINING", 4)
    one, other = VectorCache(tmp_path, "toy"), VectorCache(tmp_path, "toy")
    texts = [f"text {number}" for number in range(12)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for place, text in enumerate(texts):
            cache = (one, other)[place % 4 == 3]  # the other one joins what the first one knows
            cache.add([text], ENCODER.encode([text]))
    for cache in (one, other, VectorCache(tmp_path, "toy")):
        assert_holds(cache, texts)


def test_too_many_segments_are_joined_although_files_are_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(cache_module, "_MOST_SEGMENTS", 3)
    cache = VectorCache(tmp_path, "toy")
    for text in ("a", "b"):
        cache.add([text], ENCODER.encode([text]))
    for path in cache.folder.glob("*.vectors"):
        path.unlink()
    for text in ("c", "d"):
        cache.add([text], ENCODER.encode([text]))
    assert_holds(cache, ["c", "d"])
    assert not cache.find(["a", "b"])[0].any()
