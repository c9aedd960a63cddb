"""The catalogue as language, with an encoder that counts what it is asked."""

import gc
import subprocess
import sys
import weakref
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from zhiyin.domain import Catalogue
from zhiyin.language import catalogue as catalogue_module
from zhiyin.language.catalogue import Language
from zhiyin.language.texts import TextTemplate
from zhiyin.testing.listening import Listening
from zhiyin.testing.toy_language import HashedWords


class Counting(HashedWords):
    def __init__(self) -> None:
        super().__init__(16)
        self.asked: list[str] = []

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        self.asked += list(texts)
        return super().encode(texts)


def catalogue(*titles: str | None) -> Catalogue:
    ids = [f"id {place}" for place in range(len(titles))]
    table = pl.DataFrame(
        {"item_id": ids, "title": list(titles)}, schema={"item_id": pl.String, "title": pl.String}
    )
    return Catalogue.from_table(table)


def test_nothing_is_encoded_twice(tmp_path: Path):
    encoder = Counting()
    language = Language(encoder=encoder, cache_folder=tmp_path)
    first = language.vectors(catalogue("red hat", "blue hat", "red hat"))
    assert encoder.asked == ["red hat", "blue hat"]
    np.testing.assert_array_equal(first[0], first[2])
    again = Language(encoder=encoder, cache_folder=tmp_path).vectors(
        catalogue("blue hat", "red hat", "new hat")
    )
    assert encoder.asked == ["red hat", "blue hat", "new hat"]
    np.testing.assert_array_equal(again[:2], first[[1, 0]])


def test_vectors_are_those_of_the_texts_in_order(tmp_path: Path):
    language = Language(
        encoder=HashedWords(16), cache_folder=tmp_path, template=TextTemplate(columns=("title",))
    )
    items = catalogue("title one", "two", "three")
    expected = HashedWords(16).encode(language.texts(items))
    np.testing.assert_array_equal(language.vectors(items), expected)
    np.testing.assert_array_equal(language.vectors(items.rows(np.array([2, 0]))), expected[[2, 0]])
    assert language.vectors(items) is language.vectors(items)


def test_each_portion_is_kept_before_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Killed(Counting):
        def encode(self, texts: Sequence[str]) -> np.ndarray:
            if "three" in texts:
                raise KeyboardInterrupt
            return super().encode(texts)

    monkeypatch.setattr(catalogue_module, "_TEXTS_PER_PORTION", 2)
    items = catalogue("one", "two", "three")
    with pytest.raises(KeyboardInterrupt):
        Language(encoder=Killed(), cache_folder=tmp_path).vectors(items)
    encoder = Counting()
    vectors = Language(encoder=encoder, cache_folder=tmp_path).vectors(items)
    assert encoder.asked == ["three"]
    np.testing.assert_array_equal(vectors, HashedWords(16).encode(["one", "two", "three"]))


def test_an_item_without_words_gets_zeros(tmp_path: Path):
    vectors = Language(encoder=HashedWords(16), cache_folder=tmp_path).vectors(catalogue("hat", None))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 0], rtol=1e-6)


def test_an_empty_catalogue(tmp_path: Path):
    assert Language(encoder=HashedWords(16), cache_folder=tmp_path).vectors(catalogue()).shape == (0, 16)


def test_shared_vectors_cannot_be_written_to(tmp_path: Path):
    vectors = Language(encoder=HashedWords(16), cache_folder=tmp_path).vectors(catalogue("hat"))
    with pytest.raises(ValueError, match="read-only"):
        vectors[0, 0] = 3


def test_an_encoder_goes_once_a_training_has_read_the_catalogue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    loaded: list[weakref.ref[Counting]] = []

    def load(*_: object, **__: object) -> Counting:
        encoder = Counting()
        loaded.append(weakref.ref(encoder))
        return encoder

    monkeypatch.setattr(catalogue_module, "load_encoder", load)
    monkeypatch.setattr(catalogue_module, "_LOADED", weakref.WeakValueDictionary())
    monkeypatch.setattr(catalogue_module, "_TEXTS_OF_A_CATALOGUE", 2)
    language = Language(cache_folder=tmp_path)
    language.lets_go = True
    few, many = catalogue("hat", "coat"), catalogue("hat", "coat", "scarf", "glove", "shoe")
    language.vectors(few)
    assert loaded[0]() is not None
    vectors = language.vectors(many)
    assert loaded[0]() is None
    # Another text loads it again, and what was read is known without.
    np.testing.assert_array_equal(language.encode(["sock"]), HashedWords(16).encode(["sock"]))
    assert len(loaded) == 2
    np.testing.assert_array_equal(Language(cache_folder=tmp_path).vectors(many), vectors)
    assert len(loaded) == 2


def test_catalogues_that_tell_nobody_share_an_encoder(monkeypatch: pytest.MonkeyPatch):
    loaded: list[Counting] = []

    def load(*_: object, **__: object) -> Counting:
        loaded.append(Counting())
        return loaded[-1]

    monkeypatch.setattr(catalogue_module, "load_encoder", load)
    # Another test's encoder may still be there.
    monkeypatch.setattr(catalogue_module, "_LOADED", weakref.WeakValueDictionary())
    first, second = Language(), Language()
    assert first.encoder is second.encoder
    assert Language(precision="float32").encoder is not first.encoder
    assert Language(progress=Listening()).encoder is not first.encoder  # it would tell the wrong listener
    n_loaded = len(loaded)
    loaded.clear()
    del first, second
    gc.collect()
    assert Language().encoder is loaded[0]  # whom nobody holds is let go
    assert n_loaded == 3


def test_importing_the_language_loads_no_torch():
    program = "import sys, zhiyin.language.catalogue as c; c.Language(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
