"""The real default model, against sentence-transformers itself."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from zhiyin.domain.errors import ConfigError
from zhiyin.language.catalogue import Language
from zhiyin.language.encoder import SentenceEncoder, load_encoder
from zhiyin.language.model_files import locate_model

TEXTS = [
    "a red woollen hat",
    "red beanie made of wool",
    "garden spade with a long handle",
    "龙井茶",
    "",
]
TEXTS += [f"a longer text about number {place} " * (1 + 5 * place) for place in range(10)]


@pytest.fixture(scope="module")
def exact() -> SentenceEncoder:
    return load_encoder(precision="float32")


@pytest.fixture(scope="module")
def reference():
    sentence_transformers = pytest.importorskip("sentence_transformers")
    return sentence_transformers.SentenceTransformer(str(locate_model().folder), device="cpu")


def test_float32_vectors_equal_those_of_sentence_transformers(exact, reference):
    np.testing.assert_allclose(exact.encode(TEXTS), reference.encode(TEXTS), atol=2e-6)


def test_bfloat16_keeps_the_cosine(reference):
    vectors = load_encoder(precision="bfloat16").encode(TEXTS)
    cosines = (vectors * reference.encode(TEXTS)).sum(axis=1)
    assert cosines.mean() > 0.9998
    assert cosines.min() > 0.999
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_what_means_the_same_is_close(exact):
    hat, beanie, spade = exact.encode(TEXTS[:3])
    assert hat @ beanie > 0.5
    assert hat @ spade < 0.3


def test_equal_texts_are_read_once_and_order_is_kept(exact, monkeypatch):
    read: list[str] = []
    tokens = exact._tokens
    monkeypatch.setattr(exact, "_tokens", lambda texts: read.extend(texts) or tokens(texts))
    vectors = exact.encode(["b", "a", "b"])
    assert read == ["b", "a"]
    np.testing.assert_array_equal(vectors[0], vectors[2])
    np.testing.assert_allclose(vectors[1], exact.encode(["a"])[0], atol=2e-6)


def test_no_texts_no_vectors(exact):
    assert exact.encode([]).shape == (0, 384)
    assert exact.dimension == 384


def test_names_tell_models_and_precisions_apart(exact):
    assert exact.name.startswith("sentence-transformers/all-MiniLM-L6-v2 ")
    assert exact.name.endswith(" float32")


def test_pooling_of_the_folder_is_honoured(exact, tmp_path: Path):
    folder = tmp_path / "first-token"
    shutil.copytree(locate_model().folder, folder)
    pooling = {
        "word_embedding_dimension": 384,
        "pooling_mode_cls_token": True,
        "pooling_mode_mean_tokens": False,
    }
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    first_token = load_encoder(folder, precision="float32")
    assert not np.allclose(first_token.encode(TEXTS[:2]), exact.encode(TEXTS[:2]), atol=1e-2)
    assert first_token.name != exact.name


def test_a_damaged_model_is_a_clear_error(tmp_path: Path):
    folder = tmp_path / "damaged"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bert"}')
    (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_encoder(folder)


def test_a_kept_vector_needs_no_model(tmp_path: Path):
    first = Language(cache_folder=tmp_path).encode(["a red hat"])
    later = Language(cache_folder=tmp_path)
    np.testing.assert_array_equal(later.encode(["a red hat"]), first)
    assert later._encoder is None


def test_the_number_of_threads_is_left_as_it_was(exact):
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        exact.encode(["short"])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
