"""What a component is trained on, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zhiyin.contracts.language import CatalogueLanguage
from zhiyin.data.dataset import Dataset
from zhiyin.domain import Examples, Progress, Silent


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Everything a component may look at while it is trained.

    Attributes:
        dataset: The training part only; validation and test events are not in it.
        language: The catalogue as texts and vectors.
        validation: What settings, weights and the moment to stop are chosen on. None when there is too
            little data to hold any back; components then use their defaults.
        seed: Of every random choice.
        progress: Who listens.
        checkpoints: Folder where long training leaves its last good state, or None.
    """

    dataset: Dataset
    language: CatalogueLanguage
    validation: Examples | None = None
    seed: int = 0
    progress: Progress = field(default_factory=Silent)
    checkpoints: Path | None = None


@dataclass(frozen=True)
class ComponentState:
    """What training left behind, ready to be written without pickle.

    Attributes:
        arrays: Name → numpy array; written as safetensors.
        facts: Name → anything JSON can hold.
    """

    arrays: Mapping[str, npt.NDArray[np.generic]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
