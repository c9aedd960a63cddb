"""What a figure was measured with."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from importlib import import_module, metadata
from types import ModuleType

try:
    resource: ModuleType | None = import_module("resource")
except ImportError:  # Windows has no such module, and no cheap way to ask.
    resource = None

TOLD = ("zhiyin", "numpy", "scipy", "polars", "torch", "lightning", "transformers", "sentence-transformers")


def peak_memory_mb() -> float | None:
    """Most memory this process has held at once, in MiB; None where the system does not say."""
    if resource is None:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak) / (2**20 if sys.platform == "darwin" else 2**10)


def versions() -> Mapping[str, str]:
    """Versions of Python, of Zhiyin and of the packages below it that are installed; none is imported."""
    found = {"python": platform.python_version()}
    for package in TOLD:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
