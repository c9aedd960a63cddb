"""What surrounds the training of a language model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from zhiyin.contracts import Progress, Silent
from zhiyin.training.trackers import Tracker


@dataclass(frozen=True)
class Run:
    """What surrounds the training of a language model.

    Attributes:
        seed: Of every draw.
        progress: Who listens.
        checkpoints: Folder in which a killed run is taken up; None keeps nothing.
        trackers: Who writes the curves down.
    """

    seed: int = 0
    progress: Progress = field(default_factory=Silent)
    checkpoints: Path | None = None
    trackers: Sequence[Tracker] = ()
