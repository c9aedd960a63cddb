"""What is usual, so that something else can be told."""

from __future__ import annotations

import math
from collections import deque
from statistics import fmean, median
from typing import Literal, Protocol

MAD_TO_SIGMA = 1.4826
"""Median absolute deviation times this is the standard deviation of a normal distribution."""
_SMALLEST_SHARE = 0.05
"""No scale is smaller than this share of the level: after a number that never moved, any step is far off."""


class Usual(Protocol):
    """Learns a level and a scale, and says how far a value is away from what is usual."""

    def score(self, value: float, now: float) -> float | None:
        """Return the robust z-score; None while too little is known.

        Args:
            value: What was measured.
            now: UTC seconds.
        """
        ...

    def learn(self, value: float, now: float) -> None:
        """Take a value in."""
        ...


class UsualLately:
    """Exponentially weighted level and scale that outliers cannot pull away.

    Robust exponential smoothing after Gelper, Fried and Croux, *Robust forecasting with exponential and
    Holt-Winters smoothing*, Journal of Forecasting 29 (2010), equations 8 to 11: a value enters the level
    clipped to two scales, and the scale through a bounded loss.

    Args:
        smoothing: Weight of a new value, 0 to 1.
        warm_up: Values before anything is said; the level starts at their median, the scale at their MAD.
    """

    _CLIP = 2.0
    _BOUND = 2.52
    """Makes the scale that of a normal distribution for a clip of 2."""

    def __init__(self, smoothing: float = 0.1, warm_up: int = 12) -> None:
        self._smoothing = smoothing
        self._warm_up = warm_up
        self._first: list[float] = []
        self._level = 0.0
        self._scale = 0.0

    def score(self, value: float, now: float) -> float | None:  # noqa: ARG002 - the same at every hour
        """Return (value - level) / scale."""
        if len(self._first) < self._warm_up:
            return None
        return (value - self._level) / self._floored()

    def learn(self, value: float, now: float) -> None:  # noqa: ARG002
        """Move level and scale towards a value."""
        if len(self._first) < self._warm_up:
            self._first.append(value)
            self._level, self._scale = _middle_and_spread(self._first)
            return
        scale = self._floored()
        away = (value - self._level) / scale
        loss = self._BOUND * (1 - (1 - min(abs(away) / self._CLIP, 1.0) ** 2) ** 3)
        self._scale = scale * math.sqrt(self._smoothing * loss + 1 - self._smoothing)
        self._level += self._smoothing * scale * max(-self._CLIP, min(away, self._CLIP))

    def _floored(self) -> float:
        return max(self._scale, _SMALLEST_SHARE * abs(self._level), 1e-12)


class UsualAtThisHour:
    """Median and spread of the same hour of the day, in UTC, over the last days, today left out.

    Args:
        days: Days that are remembered.
        warm_up: Days before anything is said.
    """

    def __init__(self, days: int = 14, warm_up: int = 3) -> None:
        self._warm_up = warm_up
        self._hours: list[deque[tuple[int, list[float]]]] = [deque(maxlen=days + 1) for _ in range(24)]

    def score(self, value: float, now: float) -> float | None:
        """Return (value - median) / (1.4826 MAD) of the mean values of earlier days."""
        today, hour = _day_and_hour(now)
        earlier = [total[0] / total[1] for day, total in self._hours[hour] if day != today]
        if len(earlier) < self._warm_up:
            return None
        level, spread = _middle_and_spread(earlier)
        return (value - level) / max(spread, _SMALLEST_SHARE * abs(level), 1e-12)

    def learn(self, value: float, now: float) -> None:
        """Add a value to the mean of this hour of this day."""
        today, hour = _day_and_hour(now)
        days = self._hours[hour]
        if not days or days[-1][0] != today:
            days.append((today, [0.0, 0.0]))
        days[-1][1][0] += value
        days[-1][1][1] += 1


def usual_by(kind: Literal["recent", "same-hour"]) -> Usual:
    """Return what knows nothing yet and learns what is usual."""
    return UsualLately() if kind == "recent" else UsualAtThisHour()


def _middle_and_spread(values: list[float]) -> tuple[float, float]:
    level = median(values)
    spread = MAD_TO_SIGMA * median(abs(value - level) for value in values)
    if spread == 0:  # More than half are equal: the mean deviation still knows of the others.
        spread = math.sqrt(math.pi / 2) * fmean(abs(value - level) for value in values)
    return level, spread


def _day_and_hour(now: float) -> tuple[int, int]:
    hours = int(now // 3_600)
    return hours // 24, hours % 24
