"""Component states as files: safetensors for arrays, JSON for facts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from zhiyin.contracts import ComponentState
from zhiyin.domain import Histories
from zhiyin.domain.errors import BundleError

_ARRAYS = "arrays.safetensors"
_FACTS = "facts.json"


def write_state(state: ComponentState, folder: Path) -> None:
    """Write a state into a new folder."""
    folder.mkdir(parents=True)
    save_file({name: np.ascontiguousarray(array) for name, array in state.arrays.items()}, folder / _ARRAYS)
    (folder / _FACTS).write_text(json.dumps(dict(state.facts), ensure_ascii=False), encoding="utf-8")


def read_state(folder: Path) -> ComponentState:
    """Read what `write_state` wrote.

    Raises:
        BundleError: when a file is missing or damaged.
    """
    try:
        facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
        return ComponentState(load_file(folder / _ARRAYS), facts)
    except (OSError, ValueError, SafetensorError) as error:
        raise BundleError(f"{folder} cannot be read: {error}.", remedy="Train the bundle again.") from None


def histories_state(histories: Histories) -> ComponentState:
    """Histories as a state."""
    return ComponentState(
        {
            "offsets": histories.offsets,
            "item_index": histories.item_index,
            "event_index": histories.event_index,
            "timestamp": histories.timestamp,
            "value": histories.value,
        }
    )


def histories_of(state: ComponentState) -> Histories:
    """Histories from a state."""
    columns = {name: np.asarray(array) for name, array in state.arrays.items()}
    return Histories(**columns)
