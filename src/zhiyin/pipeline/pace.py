"""How long a model takes for a text on this machine, and what a budget of time reaches for."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from zhiyin.domain import LongArray

_NEWEST = 0.1
"""Share of the newest call in the running mean."""
_HOPE = 0.95
"""What a request without time leaves of the measured pace, so that one slow moment does not last."""


@dataclass
class Pace:
    """A running mean of what one text costs.

    Attributes:
        ms_per_text: 0 before the first measured call.
        clock: Seconds, from any start.
    """

    ms_per_text: float = 0.0
    clock: Callable[[], float] = time.perf_counter

    @property
    def is_known(self) -> bool:
        """Whether a call was measured."""
        return self.ms_per_text > 0

    def measure(self, n_texts: int, seconds: float) -> None:
        """Take in a call that read so many texts."""
        if n_texts:
            now = 1000.0 * seconds / n_texts
            self.ms_per_text += (now - self.ms_per_text) * (_NEWEST if self.is_known else 1.0)

    def affordable(self, n_texts: LongArray, milliseconds: float) -> int:
        """Return how many items of each query there is time for.

        Args:
            n_texts: (C,) int64, rising: texts to be read for the first 1, 2, …, C items of all queries.
            milliseconds: For all of them.
        """
        return int((n_texts * self.ms_per_text <= milliseconds).sum())

    def hope(self) -> None:
        """Expect a little better after a request that there was no time for."""
        self.ms_per_text *= _HOPE
