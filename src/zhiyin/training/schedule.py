"""How the learning rate rises and falls over a run of known length."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Decay = Literal["none", "linear", "cosine"]


@dataclass(frozen=True)
class Schedule:
    """Warm-up from zero, then a fall to zero at the last step.

    Attributes:
        n_steps: Of the whole run; steps beyond keep the last rate.
        warmup_share: Part of the steps over which the rate rises, 0 to 1.
        decay: How it falls afterwards: not at all, on a line, on half a cosine (Loshchilov and Hutter, 2017).
    """

    n_steps: int
    warmup_share: float = 0.0
    decay: Decay = "linear"

    def __call__(self, step: int) -> float:
        """Return the factor of the learning rate at a step ≥ 1, from 0 to 1."""
        warmup = self.warmup_share * self.n_steps
        if step < warmup:
            return step / warmup
        if self.decay == "none":
            return 1.0
        # The last step still moves: a rate of zero would read its batch for nothing.
        done = min((step - 1 - warmup) / max(self.n_steps - warmup, 1.0), 1.0 - 1.0 / max(self.n_steps, 1))
        left = 1.0 - max(done, 0.0)
        return left if self.decay == "linear" else 0.5 * (1.0 - math.cos(math.pi * left))
