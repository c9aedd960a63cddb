"""When a number that comes again and again has sunk for good."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zhiyin.experiments.refreshing.settings import DriftConfig


@dataclass
class PageHinkley:
    """Page–Hinkley test for a falling mean (Page, "Continuous inspection schemes", 1954).

    With x_t the value of round t in standard errors of that round, below the running mean, and allowance δ::

        m_t = max(0, m_{t-1} + x_t - δ)        alarm when m_t > λ

    Several slightly bad rounds count as one very bad one. After an alarm it starts anew from what it has
    now, so that one fall raises one alarm.

    Attributes:
        allowance: δ, standard errors.
        threshold: λ, standard errors.
        mean: Running mean of the values since the start.
        n_rounds: Values taken since the start.
        sunk: m_t.
    """

    allowance: float
    threshold: float
    mean: float = 0.0
    n_rounds: int = 0
    sunk: float = 0.0

    def take(self, value: float, standard_error: float) -> bool:
        """Take one value, and tell whether it raises the alarm.

        Args:
            value: Higher is better.
            standard_error: Of the value; 0 where it is exact, a hundredth of the mean is taken then.
        """
        if self.n_rounds:
            # The mean is uncertain too: with n values its variance is a n-th of one value's.
            spread = max(standard_error, abs(self.mean) * 1e-2, 1e-12) * (1.0 + 1.0 / self.n_rounds) ** 0.5
            self.sunk = max(0.0, self.sunk + (self.mean - value) / spread - self.allowance)
        self.n_rounds += 1
        self.mean += (value - self.mean) / self.n_rounds
        if self.sunk <= self.threshold:
            return False
        self.mean, self.n_rounds, self.sunk = value, 1, 0.0
        return True

    def facts(self) -> dict[str, Any]:
        """Return what `of_facts` reads."""
        return {"mean": self.mean, "n_rounds": self.n_rounds, "sunk": self.sunk}

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any], config: DriftConfig) -> PageHinkley:
        """Go on from what `facts` returned, or start anew from nothing."""
        return cls(
            config.quality_allowance,
            config.quality_alert,
            float(facts.get("mean", 0.0)),
            int(facts.get("n_rounds", 0)),
            float(facts.get("sunk", 0.0)),
        )
