"""Which values of a setting are worth trying, as a `Config` declares them beside its settings."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Between:
    """Numbers from ``low`` to ``high``, both included; whole numbers where both ends are ``int``.

    Attributes:
        low: The smallest.
        high: The largest.
        by_ratio: Whether 1 to 10 is as wide as 10 to 100; for settings whose size is not known, such as a
            learning rate. ``low`` is above 0 then.
    """

    low: float
    high: float
    by_ratio: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether only whole numbers are meant."""
        return isinstance(self.low, int) and isinstance(self.high, int)


@dataclass(frozen=True)
class AnyOf:
    """One of a few values, without an order."""

    values: tuple[str | bool | int | float, ...]


SearchRange = Between | AnyOf
