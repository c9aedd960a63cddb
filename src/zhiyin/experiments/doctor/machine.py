"""The machine: processors, memory, disk, folders, clock, limits."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from zhiyin.experiments.doctor.findings import Finding, Mark, judged
from zhiyin.language.cache import default_cache_folder

_MIN_FREE_GB = 2.0
_MIN_MEMORY_GB = 2.0
_MIN_FILES = 4_096
_SLOW_FLUSH_MS = 10.0
_GIGABYTE = 1e9
_FAST_FEATURES = ("avx2", "avx512f", "asimd", "neon")
_CLOCK_NOT_SET = 5
"""What adjtimex(2) returns where the clock is not synchronised."""


def look_at_machine() -> Iterator[Finding]:
    """Look at everything that belongs to no part of Zhiyin."""
    yield _processors()
    yield _memory()
    yield from _disks()
    yield _clock()
    yield _open_files()


def look_at_port(host: str, port: int) -> Finding:
    """Say whether the service could listen here."""
    place = f"{host}:{port}"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((host, port))
        except OSError as error:
            return Finding(
                "port",
                Mark.WARNING,
                f"{place} cannot be listened on: {error.strerror}",
                "Fine where the service runs already; else choose another:  zhiyin serve --port 8001",
            )
    return Finding("port", Mark.GOOD, f"{place} is free")


def flush_milliseconds(folder: Path, n: int = 15) -> float:
    """Measure how long a small write takes until it is on the disk: the median, in milliseconds.

    Raises:
        OSError: when the folder cannot be written to.
    """
    taken = []
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".zhiyin-doctor-") as file:
        for _ in range(n):
            start = time.perf_counter()
            file.write(b"\0" * 4_096)
            file.flush()
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - start)
    return statistics.median(taken) * 1_000


def judge_flush(name: str, milliseconds: float) -> Finding:
    """Say whether a disk is fast enough for a store."""
    return judged(
        name,
        f"a durable write takes {milliseconds:.2f} ms",
        is_well=milliseconds <= _SLOW_FLUSH_MS,
        remedy="Single events wait this long for their 202; put the store on a local SSD, or send batches.",
    )


def look_at_folder(name: str, folder: Path) -> Finding:
    """Say whether files can be made in a folder, or where it would be made."""
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            return Finding(name, Mark.GOOD, f"{folder} can be written to")
    except OSError as error:
        return Finding(name, Mark.BAD, f"{folder} cannot be written to: {error.strerror}", _mend(folder))


def _mend(folder: Path) -> str:
    return f"Give the user {os.environ.get('USER') or _user_id()} the right to write to {folder}."


def _user_id() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else "that runs Zhiyin"


def _processors() -> Finding:
    affinity = getattr(os, "sched_getaffinity", None)
    usable = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota = _cgroup_processors()
    told = [f"{usable} cores"]
    if quota is not None and quota < usable:
        told.append(f"{quota:g} allowed by the container")
    features = _features()
    told.append(" ".join(features) if features else platform.machine())
    threads = os.environ.get("OMP_NUM_THREADS")
    told.append(f"OMP_NUM_THREADS={threads}" if threads else "OMP_NUM_THREADS not set")
    is_crowded = not threads and quota is not None and quota < usable
    return judged(
        "processors",
        ", ".join(told),
        is_well=not is_crowded,
        remedy=f"Numerical libraries start {usable} threads: set OMP_NUM_THREADS={max(int(quota or 1), 1)}.",
    )


def _features() -> list[str]:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
            if line.startswith(("flags", "Features")):
                has = set(line.split(":", 1)[1].split())
                return [feature for feature in _FAST_FEATURES if feature in has]
    return []


def _cgroup_processors() -> float | None:
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text("ascii").split()
        return None if quota == "max" else int(quota) / int(period)
    return None


def _memory() -> Finding:
    amounts = {}
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text("ascii").splitlines():
            name, _, rest = line.partition(":")
            amounts[name] = int(rest.split()[0]) * 1_024 / _GIGABYTE
    if "MemAvailable" not in amounts:
        return Finding("memory", Mark.ABSENT, "this system does not tell")
    free, told = amounts["MemAvailable"], ""
    with contextlib.suppress(OSError, ValueError):
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text("ascii"))
        used = int(Path("/sys/fs/cgroup/memory.current").read_text("ascii"))
        told = f", the container allows {limit / _GIGABYTE:.1f} GB"
        free = min(free, max(limit - used, 0) / _GIGABYTE)
    return judged(
        "memory",
        f"{free:.1f} GB free of {amounts['MemTotal']:.1f} GB{told}",
        is_well=free >= _MIN_MEMORY_GB,
        remedy="Training on more than a small shop needs some gigabytes; serving needs less.",
    )


def _disks() -> Iterator[Finding]:
    here = Path.cwd()
    free = shutil.disk_usage(here).free / _GIGABYTE
    yield judged(
        "free disk",
        f"{free:.0f} GB",
        is_well=free >= _MIN_FREE_GB,
        remedy="Models and bundles need some gigabytes.",
        otherwise=Mark.BAD,
    )
    for name, folder in (
        ("this folder", here),
        ("temporary files", Path(tempfile.gettempdir())),
        ("cache", default_cache_folder()),
    ):
        yield look_at_folder(name, folder)


def _clock() -> Finding:
    state = _clock_state()
    if state is None:
        return Finding("clock", Mark.ABSENT, "this system does not tell whether it is set by the network")
    return judged(
        "clock",
        "set by the network" if state else "not set by the network",
        is_well=state,
        remedy="Events get their time from it: start a time service (chrony, systemd-timesyncd).",
    )


def _clock_state() -> bool | None:
    """Ask the kernel, without changing anything, whether the clock is synchronised."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _CLOCK_NOT_SET


def _open_files() -> Finding:
    try:
        import resource  # noqa: PLC0415 - Windows has none
    except ModuleNotFoundError:
        return Finding("open files", Mark.ABSENT, "this system does not tell")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    return judged(
        "open files",
        f"at most {'any' if soft == unlimited else soft} (could be {'any' if hard == unlimited else hard})",
        is_well=soft == unlimited or soft >= _MIN_FILES,
        remedy=f"Each connection is a file: ulimit -n {_MIN_FILES} before zhiyin serve.",
    )


def worst(findings: Sequence[Finding]) -> Mark:
    """Return the worst mark, good where there is none."""
    return max((finding.mark for finding in findings), key=list(Mark).index, default=Mark.GOOD)
