"""Where the curves of a run are written for other programs to show."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol

from zhiyin.domain.extras import from_extra

TrackerName = Literal["none", "csv", "tensorboard", "wandb", "mlflow"]


class Tracker(Protocol):
    """What Lightning calls a logger, as far as training needs it."""

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Write figures down that hold after so many steps."""

    def save(self) -> None:
        """Bring to disk what is only in memory."""

    def finalize(self, status: str) -> None:
        """End the run: ``success`` or ``failed``."""


def open_tracker(name: TrackerName, folder: Path, run: str) -> Tracker | None:
    """Open the tracker of this name; None for ``none``.

    Everything stays on this machine unless the tracker's own environment variables say otherwise: W&B runs
    offline unless ``WANDB_MODE`` is set, MLflow writes files unless ``MLFLOW_TRACKING_URI`` names a server.

    Args:
        name: Which.
        folder: Where it writes; made when missing.
        run: What the run is called.

    Raises:
        MissingExtra: when its package is not installed.
    """
    if name == "none":
        return None
    folder.mkdir(parents=True, exist_ok=True)
    with from_extra("trackers", name):
        return _OPENERS[name](folder, run)


def _csv(folder: Path, run: str) -> Tracker:
    from lightning.fabric.loggers import CSVLogger  # noqa: PLC0415 - optional extra

    opened: Tracker = CSVLogger(str(folder), name=run, flush_logs_every_n_steps=1)
    return opened


def _tensorboard(folder: Path, run: str) -> Tracker:
    importlib.import_module("tensorboard")
    from lightning.fabric.loggers import TensorBoardLogger  # noqa: PLC0415 - optional extra

    opened: Tracker = TensorBoardLogger(str(folder), name=run)
    return opened


def _wandb(folder: Path, run: str) -> Tracker:
    importlib.import_module("wandb")
    from lightning.pytorch.loggers import WandbLogger  # noqa: PLC0415 - optional extra

    class Finishing(WandbLogger):
        """Ends the run in W&B too, which otherwise waits for the process to end."""

        def finalize(self, status: str) -> None:
            super().finalize(status)
            self.experiment.finish(exit_code=0 if status == "success" else 1)

    offline = "WANDB_MODE" not in os.environ
    opened: Tracker = Finishing(name=run, save_dir=str(folder), project="zhiyin", offline=offline)
    return opened


def _mlflow(folder: Path, run: str) -> Tracker:
    importlib.import_module("mlflow")
    from lightning.pytorch.loggers import MLFlowLogger  # noqa: PLC0415 - optional extra

    logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells every start of its own database
    where = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder / 'mlflow.db'}"
    opened: Tracker = MLFlowLogger(experiment_name="zhiyin", run_name=run, tracking_uri=where)
    return opened


_OPENERS = {"csv": _csv, "tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow}
