"""How the figures of an experiment are written."""

from __future__ import annotations

import math
from datetime import UTC, datetime


def day(timestamp: int) -> str:
    """Write a moment as a date and time in UTC; one beyond the calendar in seconds."""
    try:
        return f"{datetime.fromtimestamp(timestamp, UTC):%Y-%m-%d %H:%M}"
    except (OSError, OverflowError, ValueError):
        return f"{timestamp} s"


def period(start: int, until: int) -> str:
    """Write from when to when; only from when, where it has not begun."""
    return f"{day(start)} to {day(until)}" if until > start else f"from {day(start)}"


def percent(share: float) -> str:
    """Write a share that has no sign: 2.5 %; a dash where it is not finite."""
    return f"{100 * share:.3g} %" if math.isfinite(share) else "–"


def signed(share: float) -> str:
    """Write a change with its sign: +3.2 %; a dash where it is not finite."""
    return f"{100 * share:+.1f} %" if math.isfinite(share) else "–"


def p_value(value: float) -> str:
    """Write a p-value with four places."""
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"


def with_p(value: float) -> str:
    """Write a p-value with its letter: p = 0.0312, p < 0.0001."""
    return f"p {p_value(value)}" if value < 0.0001 else f"p = {p_value(value)}"
