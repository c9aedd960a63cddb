"""The last good state of a training run, on disk, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Snapshot = dict[str, Any]


def fingerprint(facts: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    """Return a short name of settings and data; another one means that a checkpoint is of another run."""
    digest = hashlib.blake2b(json.dumps(facts, sort_keys=True, default=str).encode(), digest_size=16)
    for name in sorted(arrays):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(arrays[name]).reshape(-1).data)  # no copy: it may be large
    return digest.hexdigest()


class Checkpoint:
    """One file that is replaced in one step, so that a kill leaves the old or the new one.

    Args:
        folder: Where; made when missing. None keeps nothing.
        name: Of the run, such as the source that is trained.
        fingerprint: Of settings and data.
    """

    def __init__(self, folder: Path | None, name: str, fingerprint: str) -> None:
        self.path = folder / f"{name}.ckpt" if folder is not None else None
        self._fingerprint = fingerprint

    def write(self, snapshot: Snapshot) -> None:
        """Replace the file by this snapshot of tensors and plain values."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self.path.with_suffix(f".{os.getpid()}.part")
        with unfinished.open("wb") as file:
            torch.save({"fingerprint": self._fingerprint, **snapshot}, file)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self.path)

    def read(self) -> Snapshot | None:
        """Return the snapshot; None when there is none, it is of another run, or it is damaged."""
        if self.path is None or not self.path.exists():
            return None
        try:
            snapshot: Snapshot = torch.load(self.path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError):
            return None
        return snapshot if snapshot.get("fingerprint") == self._fingerprint else None
