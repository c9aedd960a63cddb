"""Where training runs, and with which numbers."""

from __future__ import annotations

import atexit
import gc
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning.fabric import Fabric
from lightning.fabric.strategies import DDPStrategy, Strategy
from torch.distributed.device_mesh import DeviceMesh

from zhiyin.domain.errors import ConfigError
from zhiyin.domain.processes import n_processes
from zhiyin.training.settings import TrainingSettings
from zhiyin.training.sharding import sharding_strategy


def open_fabric(settings: TrainingSettings, *, sharding: bool = False) -> Fabric:
    """Return Lightning Fabric for the devices and the precision of the settings.

    One process uses one device. More processes are started from outside, by ``torchrun`` or by Ray, which
    tell each how many there are; gradients are then averaged over them.

    Args:
        settings: Of the training.
        sharding: Whether layers are divided over the processes, instead of kept by each.

    Raises:
        ConfigError: when the devices are not there.
    """
    accelerator = accelerator_of(settings.devices)
    precision = "bf16-mixed" if uses_bfloat16(settings.precision, accelerator) else "32-true"
    n_here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    n_nodes = n_processes() // n_here
    strategy = _strategy(sharding=sharding)
    with _quiet("lightning.fabric"), _quiet("lightning.pytorch"):
        fabric = Fabric(
            accelerator=accelerator, strategy=strategy, devices=n_here, num_nodes=n_nodes, precision=precision
        )
        fabric.launch()
    if n_processes() > 1:
        atexit.register(_leave_the_others, fabric.strategy.device_mesh if sharding else None)
    return fabric


def _leave_the_others(mesh: DeviceMesh | None) -> None:
    """End the threads that talk to other processes; an interpreter that ends before them may be aborted.

    They end with the last reference to their group. A mesh keeps references, and what PyTorch remembers of
    operations on divided tensors keeps the mesh.
    """
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    if mesh is not None:
        vars(mesh).get("_pg_registry", {}).clear()
        gc.collect()


def _strategy(*, sharding: bool) -> Strategy | str:
    if sharding:
        return sharding_strategy()
    # Parts of a language model may have no say in the loss, such as the pooler of BERT.
    return DDPStrategy(find_unused_parameters=True) if n_processes() > 1 else "auto"


@contextmanager
def _quiet(logger_name: str) -> Iterator[None]:
    """Let a logger pass warnings only for a while; precision and devices are in our own report."""
    logger = logging.getLogger(logger_name)
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def accelerator_of(devices: str) -> str:
    """Return ``cpu`` or ``gpu`` for the setting ``auto``, ``cpu`` or ``gpu``.

    Raises:
        ConfigError: when a GPU is asked for and there is none.
    """
    has_gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    if devices == "gpu" and not has_gpu:
        raise ConfigError(
            "Devices 'gpu' were asked for, but torch sees none.",
            remedy="Set training.devices to 'cpu' or 'auto', or install a torch that knows the GPU.",
        )
    return "gpu" if devices != "cpu" and has_gpu else "cpu"


def uses_bfloat16(precision: str, accelerator: str) -> bool:
    """Whether matrix products run in bfloat16: as asked, or where the hardware multiplies it natively."""
    if precision != "auto":
        return precision == "bfloat16"
    if accelerator == "cpu":
        return torch.cpu._is_avx512_bf16_supported()
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported()


def device_facts(fabric: Fabric) -> dict[str, str | int]:
    """Say for the report what the training ran on."""
    on_nvidia = fabric.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name(fabric.device) if on_nvidia else str(fabric.device),
        "n_devices": fabric.world_size,
        "threads": torch.get_num_threads(),
        "cpu_count": os.cpu_count() or 1,
        "precision": str(fabric._precision.precision),
    }
