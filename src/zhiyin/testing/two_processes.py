"""Two processes that train together, as torchrun starts them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

_SECONDS = 240


class Ended(NamedTuple):
    """What a process said, and how it ended."""

    out: str
    err: str
    code: int


def run_two(words: Sequence[object]) -> tuple[Ended, Ended]:
    """Run Python with some words as two processes on this machine; the first one comes first.

    Args:
        words: Such as ``-m``, ``zhiyin``, ``finetune`` …, or a file and what it is told.
    """
    place = {
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": _free_port(),
    }
    place |= {"TORCHELASTIC_RUN_ID": "two", "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, *map(str, words)],
            env=os.environ | place | {"RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    try:
        said = [process.communicate(timeout=_SECONDS) for process in processes]
    finally:
        for process in processes:
            process.kill()  # one that waits for another for ever; those that ended are not touched
    first, second = (Ended(*told, process.returncode) for told, process in zip(said, processes, strict=True))
    return first, second


def _free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])
