"""Settings of a training that goes on from weights that are there."""

from __future__ import annotations

from typing import TypeVar

from zhiyin.contracts import Continuing
from zhiyin.training.batches import size_of_batch
from zhiyin.training.settings import TrainingSettings

WARMUP_STEPS = 20
"""The optimiser starts without memory, the weights do not: a short warm-up is enough."""
FEWEST_GOING_ON = 16
"""Batches of a pass over what is new, at least: in fewer steps hardly anything moves."""
Settings = TypeVar("Settings", bound=TrainingSettings)


def shortened(settings: Settings, continuing: Continuing, n_inputs: int | None = None) -> Settings:
    """Return the settings of a training for going on: fewer passes, smaller steps.

    Args:
        settings: Those of a training from the start.
        continuing: How to go on.
        n_inputs: What a pass reads; batches become smaller where there is little. None keeps their size.
    """
    tokens = settings.tokens_per_batch
    if n_inputs is not None:
        tokens = size_of_batch(tokens, n_inputs, fewest=FEWEST_GOING_ON)
    return settings.model_copy(
        update={
            "max_epochs": continuing.epochs,
            "epochs_without_validation": continuing.epochs,
            "learning_rate": settings.learning_rate * continuing.learning_rate_share,
            "warmup_steps": min(settings.warmup_steps, WARMUP_STEPS),
            "tokens_per_batch": tokens,
        }
    )
