"""Pre-training as one call: data, base model and settings in, a model folder out."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from zhiyin.contracts import Progress, Silent
from zhiyin.data.dataset import Dataset
from zhiyin.domain.errors import MissingExtra
from zhiyin.experiments.settings_file import nested
from zhiyin.language.model_files import locate_model
from zhiyin.language.pretraining.settings import PretrainingConfig

_PLACE = "zhiyin.language.pretraining"
CHECKPOINTS = "checkpoints"


def pretrain_on(
    dataset: Dataset,
    out: Path,
    *,
    base: str,
    settings: Mapping[str, Any],
    seed: int = 0,
    progress: Progress | None = None,
    tracker: str = "none",
) -> dict[str, Any]:
    """Pre-train a language model on the texts of a data set.

    A killed run goes on where it stood: its checkpoints lie beside ``out``, in ``OUT.checkpoints``, and go
    when the model is written. Curves of a tracker lie in ``OUT.runs``.

    Args:
        dataset: Whose texts are read.
        out: Folder of the new model.
        base: What to start from: a folder, a Hugging Face id, or ``default``.
        settings: Dotted path below `PretrainingConfig` → value; lists as JSON.
        seed: Of every draw.
        progress: Who listens.
        tracker: Where curves are written; see `zhiyin.training.trackers`.

    Returns:
        What `zhiyin.language.pretraining.fitting.pretrain` returns.

    Raises:
        ConfigError: when a setting, the base model or ``out`` is wrong, or no item has any words.
        MissingExtra: when the packages for language models are not installed.
        TrainingError: when the loss is not a number.
    """
    try:
        fitting, texts = import_module(f"{_PLACE}.fitting"), import_module(f"{_PLACE}.shop_texts")
        trackers = import_module("zhiyin.training.trackers")
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "torch", "language") from None
    config = PretrainingConfig.parse(nested(settings), where="pretrain")
    fitting.refuse_full_folder(out)
    model = locate_model(base)
    shop = texts.shop_texts(dataset, config)
    folder = out.with_name(f"{out.name}.{CHECKPOINTS}")
    opened = trackers.open_tracker(tracker, out.with_name(f"{out.name}.runs"), f"pretrain-{out.name}")
    run = fitting.Run(seed, progress or Silent(), folder, [] if opened is None else [opened])
    try:
        facts: dict[str, Any] = fitting.pretrain(model, shop, config, out, run)
    except BaseException:
        if opened is not None:
            opened.finalize("failed")
        raise
    if opened is not None:
        opened.finalize("success")
    for file in folder.glob("*.ckpt"):
        file.unlink()
    if folder.is_dir():
        folder.rmdir()
    return facts
