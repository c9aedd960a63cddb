"""Settings of the learning loop."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from zhiyin.contracts import Config, Continuing, Probability

INCREMENTAL = "incremental"
FULL = "full"


class RefreshConfig(Config):
    """How a bundle learns what happened since it was trained."""

    recipe: str = INCREMENTAL
    """'incremental' goes on from the bundle, 'full' trains its recipe from nothing, or a recipe by name."""
    fewest_new_events: NonNegativeInt = 500
    """New events below which a round ends at once; they stay for the next one."""
    held_back_share: Annotated[float, Field(gt=0.0, le=0.9)] = 0.2
    """Newest share of the new events from which the events to judge by are taken, one a user at most."""
    most_held_back: PositiveInt = 6_000
    """Events held back at most; a third of them for validation, the rest to judge by."""
    fewest_to_weigh: NonNegativeInt = 1_000
    """Validation events from which on the weights of the merge are fitted again; below, they are kept."""
    continuing: Continuing = Continuing()
    """For sources that go on from where they stand."""
    seed: int = 0
    """Of every random choice."""


class JudgingConfig(Config):
    """When a refreshed bundle may replace the one in use; both rank for the newest events."""

    fewest_events: PositiveInt = 200
    """Events to judge by below which nothing is decided, and the round waits for more."""
    tolerated_loss: Probability = 0.05
    """Relative loss of NDCG@10, measured, above which it is refused although chance could explain it."""
    n_resamples: Annotated[int, Field(ge=100)] = 1_000
    """Bootstrap resamples behind the interval of the difference."""


class DriftConfig(Config):
    """When data or quality count as drifted."""

    warning: PositiveFloat = 0.1
    """Population stability index from which on a distribution is said to move."""
    alert: PositiveFloat = 0.25
    """Population stability index from which on it is an alert."""
    fewest_events: PositiveInt = 500
    """Events on either side below which distributions are not compared."""
    quality_allowance: NonNegativeFloat = 0.5
    """Page–Hinkley: standard errors by which quality may lie below its mean without counting."""
    quality_alert: PositiveFloat = 5.0
    """Page–Hinkley: summed standard errors below the mean that raise the alert."""


class LoopConfig(Config):
    """The loop: refresh, judge, publish, watch, again and again."""

    every_minutes: PositiveFloat = 15.0
    """Minutes from the beginning of one round to that of the next."""
    keep_versions: Annotated[int, Field(ge=2)] = 3
    """Published bundles that stay in the store for a rollback, the one in use included."""
    longest_backoff_minutes: PositiveFloat = 240.0
    """After errors a round waits twice as long as before, at most this long."""
    lease_seconds: PositiveFloat = 120.0
    """A loop that has not said for so long that it lives has lost its tenant to another one."""
    refresh: RefreshConfig = RefreshConfig()
    """How a bundle learns."""
    judging: JudgingConfig = JudgingConfig()
    """When it may replace the one in use."""
    drift: DriftConfig = DriftConfig()
    """What is watched."""
