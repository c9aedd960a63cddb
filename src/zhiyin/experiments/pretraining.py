"""Pre-training as one call: data, base model and settings in, a model folder out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zhiyin.contracts import Progress
from zhiyin.data.dataset import Dataset
from zhiyin.experiments.runs import readable_part, run_beside
from zhiyin.experiments.settings_file import nested
from zhiyin.language.model_files import locate_model
from zhiyin.language.pretraining.settings import PretrainingConfig
from zhiyin.pipeline.registry import part_with_torch

_PLACE = "zhiyin.language.pretraining"


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
    fitting, texts = part_with_torch(f"{_PLACE}.fitting"), part_with_torch(f"{_PLACE}.shop_texts")
    config = PretrainingConfig.parse(nested(order.settings), where="pretrain")
    fitting.refuse_full_folder(order.out)
    model = locate_model(order.base)
    shop = texts.shop_texts(readable_part(dataset, order.protocol), config)
    surroundings = run_beside(
        order.out, "pretrain", seed=order.seed, progress=progress, tracker=order.tracker
    )
    with surroundings as run:
        facts: dict[str, Any] = fitting.pretrain(model, shop, config, order.out, run)
    return facts
