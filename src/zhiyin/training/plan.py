"""What is to be trained, without saying how."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from zhiyin.training.adversarial import Adversary
from zhiyin.training.settings import TrainingSettings
from zhiyin.training.trackers import Tracker


class Memory(Protocol):
    """What remembers something beside the weights from step to step."""

    def state(self) -> dict[str, Any]:
        """Return it, as tensors, numbers, texts and lists of them."""

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` returned."""


@dataclass(frozen=True, eq=False)
class TrainingPlan:
    """One training run. What transforms a run (privacy, compression, scale) takes and returns a plan.

    Attributes:
        name: What progress and checkpoints call it.
        module: Its ``forward(batch)`` returns the loss, () float; it ends with the best weights.
        batches: Epoch, counted from 1 → the batches of that epoch, described by small values such as row
            numbers; the same epoch must give the same batches in every process.
        collate: A description → the batch that ``module`` takes, on any device.
        quality: The validation metric of ``module`` as it stands, higher is better; None when there is
            nothing to validate on.
        settings: How long, how fast, on what.
        seed: Of dropout and every other draw while training.
        fingerprint: Of settings and data; a checkpoint with another one is not resumed.
        metric: What ``quality`` returns is called.
        least_steps: Patience ends nothing before so many steps: a metric may fall before it rises.
        accumulation: Batches whose gradients are averaged before a step is taken.
        schedule: Step, counted from 1 → factor of the learning rate; without one it rises over the warm-up
            of the settings and then stays.
        after_step: Told the number of every step when it is taken, such as what gives out a budget of ranks.
        memory: What ``after_step`` remembers, so that checkpoints hold it.
        adversary: Who nudges vectors to make the loss larger; gradients of each batch and of the nudged
            batch are added, the loss that is told is of the batch itself. None for nobody.
        n_kept: Best epochs whose weights are kept. With more than one, their average is judged at the end
            and taken when it is not worse, and all of them stand in the curve that is returned.
        trackers: Who writes the curves down, beside the record that is returned.
    """

    name: str
    module: nn.Module
    batches: Callable[[int], Sequence[Any]]
    collate: Callable[[Any], Any]
    quality: Callable[[], float] | None
    settings: TrainingSettings
    seed: int
    fingerprint: str
    metric: str = "ndcg_at_10"
    least_steps: int = 0
    accumulation: int = 1
    schedule: Callable[[int], float] | None = None
    after_step: Callable[[int], None] | None = None
    memory: Memory | None = None
    trackers: Sequence[Tracker] = ()
    adversary: Adversary | None = None
    n_kept: int = 1

    def quality_now(self) -> float | None:
        """Judge the module as it stands; it stays in the mode for answering. None without a metric."""
        if self.quality is None:
            return None
        self.module.eval()
        with torch.inference_mode():
            return self.quality()
