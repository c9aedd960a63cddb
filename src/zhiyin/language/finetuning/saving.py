"""A fine-tuned model on disk: what was trained, beside the name of the base it belongs to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from zhiyin.domain.errors import ConfigError
from zhiyin.language.finetuning.losses import Scale
from zhiyin.language.finetuning.model import FinetunedModel, prepared_model, wording_for
from zhiyin.language.finetuning.settings import FinetuningConfig, TaskConfig
from zhiyin.language.finetuning.wording import Background
from zhiyin.language.model_files import FINETUNED, MERGED, ModelFolder, locate_model
from zhiyin.language.opened import open_model, save_model
from zhiyin.stores.whole_folder import bring_back, whole_folder

_FORMAT = 1
_WEIGHTS = "weights.safetensors"
_ADDITION, _HEAD = "addition.", "head."


def save_finetuned(
    model: FinetunedModel, folder: Path, texts: Mapping[str, str], *, merge: bool = False
) -> None:
    """Write a model into a folder that appears whole or not at all.

    ``finetuned.json`` names the base and holds the settings, ``weights.safetensors`` what was trained.

    Args:
        model: As training left it. With ``merge`` it cannot be trained or saved any more.
        folder: Where; a folder that holds a fine-tuned model is replaced.
        texts: File name → text of further files, such as the card ``README.md``.
        merge: Whether to write the whole network with what was learned worked into it too, in ``merged``:
            any program that reads models of Hugging Face reads it, and it is as fast as the base.

    Raises:
        ConfigError: when the folder holds something else, or the method cannot be merged.
    """
    from safetensors.torch import save_file  # noqa: PLC0415 - optional extra

    refuse_strange_folder(folder)
    refuse_unmergeable(model.config, merge=merge)
    with whole_folder(folder) as draft:
        additions = {f"{_ADDITION}{name}": weight for name, weight in model.part.additions().items()}
        heads = {f"{_HEAD}{name}": weight for name, weight in model.heads().items()}
        whole = {name: weight.contiguous() for name, weight in (additions | heads).items()}
        save_file(whole, draft / _WEIGHTS)
        for name, text in texts.items():
            (draft / name).write_text(text, encoding="utf-8")
        if merge:
            model.part.merge()
            save_model(model.opened, draft / MERGED, texts.get("README.md", ""))
        (draft / FINETUNED).write_text(json.dumps(_record(model), indent=2), encoding="utf-8")


def load_finetuned(folder: Path, background: Background) -> FinetunedModel:
    """Load a model that `save_finetuned` wrote.

    Args:
        folder: Where.
        background: Items and users it will read about.

    Raises:
        ConfigError: when the folder holds no such model, or its base is another one than it was trained on.
    """
    from safetensors import SafetensorError  # noqa: PLC0415 - optional extra
    from safetensors.torch import load_file  # noqa: PLC0415 - optional extra

    record = read_record(folder)
    base = _base_of(record, folder)
    config = FinetuningConfig.parse(record["config"], where="finetune")
    tasks = {name: TaskConfig.parse(task, where=f"tasks.{name}") for name, task in record["tasks"].items()}
    scales = {name: Scale(**scale) for name, scale in record["scales"].items()}
    opened = open_model(base)
    wording = wording_for(opened, background.liked_from(record.get("liked_from")), config)
    model = prepared_model(opened, wording, config, tasks, scales=scales)
    try:
        weights = load_file(folder / _WEIGHTS)
    except (SafetensorError, OSError):
        raise _damaged(folder / _WEIGHTS) from None
    model.part.take(_below(_ADDITION, weights))
    model.take_heads(_below(_HEAD, weights))
    model.reader.eval()
    return model


def _damaged(file: Path) -> ConfigError:
    return ConfigError(
        f"{file} is damaged or missing.", remedy="Fine-tune again, or fetch the whole folder once more."
    )


def read_record(folder: Path) -> dict[str, Any]:
    """Return what a fine-tuned model says about itself.

    Raises:
        ConfigError: when the folder holds none, or one of a newer version.
    """
    bring_back(folder)
    file = folder / FINETUNED
    if not file.is_file():
        found = (
            ", ".join(sorted(path.name for path in folder.iterdir())[:6]) if folder.is_dir() else "nothing"
        )
        raise ConfigError(
            f"'{folder}' holds no fine-tuned model: it has no {FINETUNED}.",
            possible=f"It holds: {found or 'nothing'}.",
            remedy="Give the folder that zhiyin finetune wrote (--out).",
        )
    try:
        record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        raise _damaged(file) from None
    if record.get("format") != _FORMAT:
        raise ConfigError(
            f"'{folder}' was written in format {record.get('format')}, which this version does not read.",
            possible=f"This version reads format {_FORMAT}.",
            remedy="Update Zhiyin, or fine-tune again.",
        )
    return record


def refuse_strange_folder(folder: Path) -> None:
    """Refuse to write over anything that is not a fine-tuned model.

    Raises:
        ConfigError: when there is something else.
    """
    is_full = folder.is_file() or (folder.is_dir() and any(folder.iterdir()))
    if is_full and not (folder / FINETUNED).is_file():
        raise ConfigError(
            f"{folder} holds something that is no fine-tuned model; it would be written over.",
            remedy="Choose another place for --out; nothing was changed.",
        )


def refuse_unmergeable(config: FinetuningConfig, *, merge: bool) -> None:
    """Refuse to promise a plain network where the method leaves parts beside it.

    Raises:
        ConfigError: when it does.
    """
    if merge and not config.method.can_merge:
        raise ConfigError(
            f"What '{config.method.name}' learns cannot be worked into the weights of the base.",
            possible="Methods that can be merged: full, top, lora, adalora, ia3.",
            remedy="Leave --merge out; the model is served with its additions beside it.",
        )


def _record(model: FinetunedModel) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "base": model.opened.folder.name,
        "base_folder": str(model.opened.folder.folder.absolute()),
        "base_fingerprint": model.opened.folder.fingerprint,
        "config": model.config.model_dump(mode="json"),
        "tasks": {name: task.model_dump(mode="json") for name, task in model.tasks.items()},
        "scales": {name: asdict(scale) for name, scale in model.scales.items()},
        "liked_from": model.wording.liked_from,
    }


def _base_of(record: Mapping[str, Any], folder: Path) -> ModelFolder:
    # A folder named from another working directory is still where it was.
    there = ModelFolder(record["base"], Path(record["base_folder"]))
    if there.folder.is_dir() and there.fingerprint == record["base_fingerprint"]:
        return there
    base = locate_model(record["base"])
    if base.fingerprint != record["base_fingerprint"]:
        raise ConfigError(
            f"'{folder}' was trained on another '{record['base']}' than the one on this machine.",
            remedy="Bring the base it was trained on, or fine-tune again.",
        )
    return base


def _below(prefix: str, weights: Mapping[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(prefix): weight for name, weight in weights.items() if name.startswith(prefix)}
