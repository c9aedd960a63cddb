"""A process with its children, watched from outside."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SECONDS_BETWEEN_LOOKS = 0.01
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Watched:
    """What a process took.

    Attributes:
        code: Exit status.
        wall_seconds: From start to end.
        processor_seconds: Of all its processes.
        peak_memory_mb: Most resident memory of the process and its children at one moment, in MiB. Pages that
            several processes share count for each.
    """

    code: int
    wall_seconds: float
    processor_seconds: float
    peak_memory_mb: float


def watched(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> Watched:
    """Run a command to its end, its output going to a file; with us it and its children end."""
    started = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=dict(environment), start_new_session=True
        )
        peak, ended = [0.0], threading.Event()
        looking = threading.Thread(target=_look, args=(process.pid, peak, ended), daemon=True)
        looking.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            ended.set()
        looking.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    # What the system remembers as the largest size holds our own size too, from between fork and exec.
    wall = time.perf_counter() - started
    return Watched(process.returncode, wall, usage.ru_utime + usage.ru_stime, peak[0])


def _look(pid: int, peak: list[float], ended: threading.Event) -> None:
    while not ended.wait(SECONDS_BETWEEN_LOOKS):
        # The kernel remembers the largest size of the process itself, what lay between two looks included.
        peak[0] = max(peak[0], resident_mb(pid), largest_mb(pid))


def largest_mb(pid: int) -> float:
    """Largest resident memory of a process alone since it began, in MiB; 0 for one that has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) / 1024 if found else 0.0


def resident_mb(pid: int) -> float:
    """Resident memory of a process and all below it, in MiB; 0 for one that has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        children = [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except (OSError, IndexError):
        return 0.0
    return pages * PAGE / 2**20 + sum(resident_mb(child) for child in children)
