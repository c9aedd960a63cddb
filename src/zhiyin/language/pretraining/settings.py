"""Settings of pre-training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from zhiyin.contracts import Config, Probability
from zhiyin.language.parameters import MethodConfig
from zhiyin.training.settings import StepSettings, TrainingSettings

Objective = Literal["masked", "causal", "contrastive", "next_item"]


class ReadingSettings(TrainingSettings):
    """The training loop as it suits a model that knows its language already: short, with small steps."""

    max_epochs: PositiveInt = 3
    """Passes over the texts at most."""
    patience: PositiveInt = 2
    """Passes without a better figure on the held-out texts after which training stops."""
    epochs_without_validation: PositiveInt = 3
    """Passes over the texts when none are held out."""
    learning_rate: PositiveFloat = 5e-5
    """Step size of AdamW after the warm-up."""
    weight_decay: NonNegativeFloat = 0.01
    """Decoupled weight decay of matrices; vectors and scalars are never decayed."""
    tokens_per_batch: PositiveInt = 4096
    """Tokens of a batch."""
    averaging: Probability = 0.0
    """Decay of the running average of weights that is validated and kept; 0 keeps the weights themselves."""


class PretrainingConfig(Config):
    """What is read, what is learned from it, how long."""

    objectives: tuple[Objective, ...] = ()
    """What is learned, one after the other: ``masked`` words, the next word (``causal``), which texts belong
    together (``contrastive``), what was taken after what (``next_item``). Empty takes ``contrastive`` for a
    sentence encoder, ``masked`` for another encoder, ``causal`` for a decoder."""
    max_tokens: Annotated[int, Field(ge=8)] = 128
    """Tokens of a block or of a text; no more than the model can read."""
    mask_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.15
    """Share of the tokens that ``masked`` hides."""
    temperature: PositiveFloat = 0.05
    """Divides the cosines of ``contrastive`` and ``next_item``: the smaller, the more the closest
    wrong texts count."""
    together: Probability = 0.5
    """Share of the pairs of ``contrastive`` that are items which people took one after the other; the others
    are one text read twice under dropout."""
    reads_reviews: bool = True
    """Read columns of the interactions that hold sentences."""
    reads_histories: bool = True
    """Read what people took, title after title; ``contrastive`` reads items only."""
    new_words: NonNegativeInt = 0
    """Frequent words of the catalogue, broken to pieces by the tokenizer, that become words of their own."""
    held_out: Annotated[float, Field(ge=0.0, le=0.5)] = 0.05
    """Share of the texts on which the progress is judged; 0 judges nothing and keeps the last weights."""
    method: MethodConfig = MethodConfig()
    """How much of the model is trained; what is added to it is worked into its weights at the end."""
    steps: StepSettings = StepSettings()
    """How the learning rate moves, and what a step sums up."""
    training: ReadingSettings = ReadingSettings()
    """Settings of the training loop."""
