"""Settings of the text two-tower."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import NonNegativeInt, PositiveFloat, PositiveInt

from zhiyin.contracts import AnyOf, Between, Config, Probability, SearchRange
from zhiyin.training.settings import TrainingSettings


class TwoTowerTraining(TrainingSettings):
    """Settings of the loop: texts are long to read, so epochs are short and none is averaged."""

    max_epochs: PositiveInt = 60
    """Epochs at most, each of a hundred steps at most; early stopping usually ends earlier."""
    patience: PositiveInt = 3
    """Epochs without a better validation metric after which training stops."""
    epochs_without_validation: PositiveInt = 4
    """Epochs when there is nothing to validate on."""
    max_minutes: PositiveFloat = 20.0
    """Minutes after which training stops with the best weights so far."""
    learning_rate: PositiveFloat = 5e-4
    """Step size of AdamW after the warm-up."""
    warmup_steps: NonNegativeInt = 20
    """Steps over which the learning rate rises from zero."""
    tokens_per_batch: PositiveInt = 512
    """Events of a step, whose texts are all read and compared with each other."""
    averaging: Probability = 0.0
    """Decay of the running average of weights; above 0 all texts are read once more for each epoch."""


class TextTwoTowerConfig(Config):
    """Settings of `TextTwoTower`."""

    rank: NonNegativeInt = 16
    """Rank of the adapters in the encoder; 0 leaves it as it is. What stands behind it always learns."""
    adapted_layers: PositiveInt = 2
    """Last layers of the encoder that get adapters. Those below are read once, so fewer train faster."""
    max_tokens: PositiveInt = 32
    """Tokens of an item's text that are read."""
    history_length: PositiveInt = 10
    """Newest events of a history that are read."""
    whitening: Probability = 0.5
    """0 compares the vectors as they are, 1 whitened ones."""
    temperature: PositiveFloat = 0.1
    """What cosines are divided by at the start of training; learned from then on."""
    popularity_correction: Probability = 1.0
    """How much of an item's popularity is explained away; less of it costs items that are new."""
    index_above: PositiveInt = 100_000
    """Catalogues of more items are searched through an approximate index, which needs usearch."""
    training: TwoTowerTraining = TwoTowerTraining()
    """Settings of the training loop."""

    search_space: ClassVar[Mapping[str, SearchRange]] = {
        "rank": AnyOf((8, 16, 32)),
        "whitening": Between(0.0, 1.0),
        "popularity_correction": Between(0.0, 1.0),
        "training.learning_rate": Between(1e-4, 2e-3, by_ratio=True),
    }
