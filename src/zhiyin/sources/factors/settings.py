"""Settings of the factor models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from zhiyin.contracts import AnyOf, Between, Config, Probability, SearchRange
from zhiyin.training.settings import TrainingSettings


class FactorTraining(TrainingSettings):
    """Settings of the loop: a step touches few vectors, so it may be long."""

    learning_rate: PositiveFloat = 0.02
    """Step size of AdamW after the warm-up."""
    warmup_steps: NonNegativeInt = 20
    """Steps over which the learning rate rises from zero."""


class LightGcnTraining(FactorTraining):
    """Settings of the loop: each batch spreads once, so few large ones are faster than many."""

    patience: PositiveInt = 8
    """Epochs without a better validation metric after which training stops."""
    tokens_per_batch: PositiveInt = 16_384
    """Pairs of user and item in a batch."""


class FactorConfig(Config):
    """Settings that all factor models share."""

    dimension: PositiveInt = 64
    """Length of the vectors of users and items."""
    loss: Literal["softmax", "pairwise"] = "softmax"
    """``softmax`` compares with negatives shared by a batch, ``pairwise`` with a few of each pair's own."""
    n_negatives: PositiveInt = 1024
    """Items drawn as negatives: for each batch with ``softmax``, for each pair with ``pairwise``."""
    negative_power: Probability = 0.75
    """Negatives are drawn by (count + 1) to this power: 0 draws all items alike, 1 by popularity."""
    regularisation: NonNegativeFloat = 1e-4
    """What the mean squared length of the learned vectors of a batch adds to the loss."""
    history_decay: Probability | Literal["auto"] = "auto"
    """What each step back in the history is multiplied by when asked; ``auto`` is chosen on validation."""
    index_above: PositiveInt = 1_000_000
    """Catalogues of more items are searched through an approximate index, which needs usearch."""
    training: FactorTraining = FactorTraining()
    """Settings of the training loop; a batch holds ``tokens_per_batch`` pairs of user and item."""

    search_space: ClassVar[Mapping[str, SearchRange]] = {
        "dimension": AnyOf((32, 64, 128)),
        "loss": AnyOf(("softmax", "pairwise")),
        "negative_power": Between(0.0, 1.0),
        "regularisation": Between(1e-5, 1e-1, by_ratio=True),
        "training.learning_rate": Between(2e-3, 5e-2, by_ratio=True),
    }


class BprConfig(FactorConfig):
    """Settings of `Bpr`."""

    regularisation: NonNegativeFloat = 1e-2
    """What the mean squared length of the learned vectors of a batch adds to the loss."""


class LightGcnConfig(FactorConfig):
    """Settings of `LightGcn`."""

    n_layers: PositiveInt = 3
    """Steps between users and items over which the vectors of items are spread."""
    hide_target: bool = True
    """Leave an item out of its user's history while it is the target, so that it cannot speak for itself."""
    training: LightGcnTraining = LightGcnTraining()
    """Settings of the training loop; a batch holds ``tokens_per_batch`` pairs of user and item."""

    search_space: ClassVar[Mapping[str, SearchRange]] = {
        **FactorConfig.search_space,
        "n_layers": Between(1, 4),
    }
