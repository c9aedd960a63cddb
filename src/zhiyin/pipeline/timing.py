"""How long the stages of a request take, for whoever listens."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Observe = Callable[[str, float], None]
"""Told the name of a stage and how many seconds it took."""


def unobserved(stage: str, seconds: float) -> None:
    """Listen to nothing."""


@contextmanager
def timed(stage: str, observe: Observe) -> Iterator[None]:
    """Tell how long a block took, also one that fails."""
    start = time.perf_counter()
    try:
        yield
    finally:
        observe(stage, time.perf_counter() - start)
