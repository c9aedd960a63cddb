"""Settings of the multi-task ranker."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from zhiyin.contracts import AnyOf, Between, Config, Probability, SearchRange
from zhiyin.training.settings import TrainingSettings


class RankerTraining(TrainingSettings):
    """Settings of the loop: rows are cheap and soon learned by heart, so epochs are few."""

    max_epochs: PositiveInt = 12
    """Passes over the rows at most, towards which the learning rate falls; patience may end earlier."""
    patience: PositiveInt = 2
    """Epochs without a better validation metric after which training stops."""
    epochs_without_validation: PositiveInt = 6
    """Passes over the rows when there is nothing to validate on."""
    max_minutes: PositiveFloat = 30.0
    """Minutes after which training stops with the best weights so far."""
    learning_rate: PositiveFloat = 2e-3
    """Step size of AdamW at its highest."""
    warmup_steps: NonNegativeInt = 100
    """Steps over which the learning rate rises from zero."""
    tokens_per_batch: PositiveInt = 4096
    """Rows of a batch, or events read for them, whichever are more."""
    averaging: Probability = 0.999
    """Decay of the running average of weights that is validated and kept; 0 keeps the weights themselves."""
    precision: Literal["auto", "float32", "bfloat16"] = "float32"
    """Numbers of the matrix products; they are small, so that halves save little."""


class BalanceConfig(Config):
    """What the loss of each task counts beside the others."""

    name: Literal["plain", "root", "scaled", "uncertainty"] = "plain"
    """How losses are added: as they are; divided by the root of the loss of always saying the mean, or by
    that loss, which both help rare answers; or with weights learned from the noise of each task."""
    task_weights: dict[str, NonNegativeFloat] = Field(default_factory=dict)
    """Further weight of the loss of a task; 1 where a task is not named."""


class RankerConfig(Config):
    """Settings of `MultiTaskRanker`."""

    dimension: PositiveInt = 64
    """Length of the vectors of users, items and events."""
    hidden: PositiveInt = 64
    """Units of each of the two layers that all tasks share."""
    n_experts: PositiveInt = 1
    """Copies of these layers; with several, each task weighs them by a gate of its own."""
    text_dimension: PositiveInt = 128
    """Directions of the text vectors that are read, those along which texts differ most."""
    history_length: PositiveInt = 500
    """Events that are read for a row: the newest, or those around it where rows are drawn at random."""
    identity_dropout: Probability = 0.0
    """Share of users and items of a batch whose own vectors are hidden; 1 never reads who and which it is."""
    context: tuple[str, ...] = ()
    """Columns of the rows that are read; words as they are, numbers in equally filled ranges."""
    balance: BalanceConfig = BalanceConfig()
    """What the loss of each task counts."""
    groups: Literal["one", "validated"] = "one"
    """Whether all tasks share one network, or each is answered by the network that foretells it best for
    users held back from validation: that of all tasks, its own, or that of some tasks."""
    shrinkage: NonNegativeFloat = 0.05
    """Pull of vectors towards zero: of the own ones of users and items, and of what is read from texts."""
    dropout: Probability = 0.1
    """Share of activations set to zero while training."""
    training: RankerTraining = RankerTraining()
    """Settings of the training loop."""

    search_space: ClassVar[Mapping[str, SearchRange]] = {
        "dimension": AnyOf((32, 64, 128)),
        "n_experts": AnyOf((1, 4)),
        "identity_dropout": Between(0.0, 0.5),
        "balance.name": AnyOf(("plain", "root", "scaled", "uncertainty")),
        "shrinkage": Between(0.01, 0.5, by_ratio=True),
        "dropout": Between(0.0, 0.5),
        "training.learning_rate": Between(5e-4, 5e-3, by_ratio=True),
    }
