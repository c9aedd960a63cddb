"""Where training runs, and with which numbers."""

from __future__ import annotations

import os

import torch
from lightning.fabric import Fabric

from zhiyin.domain.errors import ConfigError
from zhiyin.training.settings import TrainingSettings

KINDS = ("auto", "cpu", "gpu")


def open_fabric(settings: TrainingSettings) -> Fabric:
    """Return Lightning Fabric for the devices and the precision of the settings.

    Raises:
        ConfigError: when the devices are not known, or not there.
    """
    accelerator, n_devices = parse_devices(settings.devices)
    precision = "bf16-mixed" if uses_bfloat16(settings.precision, accelerator) else "32-true"
    return Fabric(accelerator=accelerator, devices=n_devices, precision=precision)


def parse_devices(devices: str) -> tuple[str, int]:
    """Read ``auto``, ``cpu``, ``gpu`` or ``gpu:2`` as an accelerator and a number of devices.

    Raises:
        ConfigError: when it is none of these, or when there is no such device here.
    """
    kind, _, number = devices.partition(":")
    if kind not in KINDS or not (number or "1").isdigit() or int(number or 1) < 1:
        raise ConfigError(
            f"Devices '{devices}' are not known.",
            possible="It can be auto, cpu, gpu, or gpu:2 for two of them.",
        )
    has_gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    if kind == "gpu" and not has_gpu:
        raise ConfigError(
            "Devices 'gpu' were asked for, but torch sees none.",
            remedy="Set training.devices to 'cpu' or 'auto', or install a torch that knows the GPU.",
        )
    return ("gpu" if kind != "cpu" and has_gpu else "cpu"), int(number or 1)


def uses_bfloat16(precision: str, accelerator: str) -> bool:
    """Whether matrix products run in bfloat16: as asked, or where the hardware multiplies it natively."""
    if precision != "auto":
        return precision == "bfloat16"
    if accelerator == "cpu":
        return torch.cpu._is_avx512_bf16_supported()
    return torch.cuda.is_available() and torch.cuda.is_bf16_supported()


def device_facts(fabric: Fabric) -> dict[str, str | int]:
    """Say for the report what the training ran on."""
    on_cpu = fabric.device.type == "cpu"
    return {
        "device": str(fabric.device) if on_cpu else torch.cuda.get_device_name(fabric.device),
        "n_devices": fabric.world_size,
        "threads": torch.get_num_threads(),
        "cpu_count": os.cpu_count() or 1,
        "precision": str(fabric._precision.precision),
    }
