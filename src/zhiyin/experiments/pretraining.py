"""Pre-training as one call: data, base model and settings in, a model folder out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from zhiyin.contracts import Progress, Silent
from zhiyin.data.dataset import Dataset
from zhiyin.domain.errors import MissingExtra, RequestError
from zhiyin.experiments.settings_file import nested
from zhiyin.experiments.splitting import refuse_unknown_protocol, split_by
from zhiyin.language.model_files import locate_model
from zhiyin.language.pretraining.settings import PretrainingConfig

_PLACE = "zhiyin.language.pretraining"
CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class PretrainingOrder:
    """What is to be pre-trained.

    Attributes:
        out: Folder of the new model.
        base: What to start from: a folder, a Hugging Face id, or ``default``.
        settings: Dotted path below `PretrainingConfig` → value; lists as JSON.
        seed: Of every draw.
        tracker: Where curves are written; see `zhiyin.training.trackers`.
        protocol: What it would hold back is not read, so that the model may be evaluated by it afterwards;
            everything is read when None.
    """

    out: Path
    base: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    tracker: str = "none"
    protocol: str | None = None


def pretrain_on(
    dataset: Dataset, order: PretrainingOrder, progress: Progress | None = None
) -> dict[str, Any]:
    """Pre-train a language model on the texts of a data set.

    A killed run goes on where it stood: its checkpoints lie beside ``out``, in ``OUT.checkpoints``, and go
    when the model is written. Curves of a tracker lie in ``OUT.runs``.

    Args:
        dataset: Whose texts are read.
        order: What, from what, where to.
        progress: Who listens.

    Returns:
        What `zhiyin.language.pretraining.fitting.pretrain` returns.

    Raises:
        ConfigError: when a setting, the base model or ``out`` is wrong, or no item has any words.
        MissingExtra: when the packages for language models are not installed.
        RequestError: when there is no such protocol.
        TrainingError: when the loss is not a number.
    """
    try:
        fitting, texts = import_module(f"{_PLACE}.fitting"), import_module(f"{_PLACE}.shop_texts")
        trackers = import_module("zhiyin.training.trackers")
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "torch", "language") from None
    out = order.out
    config = PretrainingConfig.parse(nested(order.settings), where="pretrain")
    fitting.refuse_full_folder(out)
    model = locate_model(order.base)
    shop = texts.shop_texts(readable_part(dataset, order.protocol), config)
    folder = out.with_name(f"{out.name}.{CHECKPOINTS}")
    opened = trackers.open_tracker(order.tracker, out.with_name(f"{out.name}.runs"), f"pretrain-{out.name}")
    run = fitting.Run(order.seed, progress or Silent(), folder, [] if opened is None else [opened])
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


def readable_part(dataset: Dataset, protocol: str | None) -> Dataset:
    """Return what a protocol trains on; everything where it would hold nothing back, or there is none.

    Raises:
        RequestError: when there is no such protocol.
    """
    if protocol is None:
        return dataset
    refuse_unknown_protocol(protocol)
    try:
        return split_by(protocol, dataset).train
    except RequestError:  # nobody did enough for anything to be held back
        return dataset
