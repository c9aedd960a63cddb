"""How long, how fast and on what anything is trained by gradients."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from zhiyin.contracts import Config, Probability
from zhiyin.training.schedule import Decay


class TrainingSettings(Config):
    """Settings of the loop, the same for every trained component."""

    max_epochs: PositiveInt = 60
    """Passes over the training data at most; early stopping usually ends earlier."""
    patience: PositiveInt = 4
    """Epochs without a better validation metric after which training stops."""
    epochs_without_validation: PositiveInt = 15
    """Passes over the training data when there is nothing to validate on."""
    max_minutes: PositiveFloat = 40.0
    """Minutes after which training stops with the best weights so far."""
    learning_rate: PositiveFloat = 1e-3
    """Step size of AdamW after the warm-up."""
    warmup_steps: NonNegativeInt = 200
    """Steps over which the learning rate rises from zero."""
    weight_decay: NonNegativeFloat = 0.0
    """Decoupled weight decay of matrices; vectors and scalars are never decayed."""
    tokens_per_batch: PositiveInt = 2048
    """Events a batch holds, padding not counted."""
    gradient_clip: PositiveFloat = 1.0
    """Longest gradient allowed; longer ones are shortened to it."""
    averaging: Probability = 0.99
    """Decay of the running average of weights that is validated and kept; 0 keeps the weights themselves."""
    devices: Literal["auto", "cpu", "gpu"] = "auto"
    """Where to train; ``auto`` takes a GPU where there is one. Several are used when torchrun starts us."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Numbers of the matrix products; ``auto`` takes bfloat16 where the processor multiplies it natively."""


class StepSettings(Config):
    """How large a step is and what it sums up, where models are large and runs short."""

    decay: Decay = "linear"
    """How the learning rate falls after the warm-up: ``none``, ``linear`` or ``cosine``."""
    warmup_share: Probability = 0.06
    """Share of all steps over which the learning rate rises from zero."""
    accumulation: PositiveInt = 1
    """Batches whose gradients are averaged before a step is taken."""
    checkpointing: bool = False
    """Compute inner states again instead of keeping them: less memory, a third more time."""
    sharding: bool = False
    """Divide the layers, their gradients and what the optimizer remembers over the processes that torchrun
    started (FSDP), instead of keeping all of it in each."""


class AdversaryConfig(Config):
    """Small changes to the vectors of words or items, chosen to hurt, that a model learns to bear."""

    name: Literal["none", "fgm", "pgd"] = "none"
    """``fgm`` takes one step along the gradient (Miyato et al., 2017) and reads each batch twice; ``pgd``
    takes several small ones (Madry et al., 2018) and reads it once more a step; ``none`` attacks nothing."""
    radius: PositiveFloat = 0.05
    """How far the vectors of an example are moved at most, as a share of their own length."""
    step_share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5
    """Length of a step of ``pgd``, as a share of the radius."""
    n_steps: PositiveInt = 3
    """Steps of ``pgd``."""
