"""What was found, and how bad it is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Mark(StrEnum):
    """How a finding is meant."""

    GOOD = "✓"
    ABSENT = "–"
    """An optional part that is not there, or something nobody can know."""
    WARNING = "!"
    """It works, but not as well or as safely as it could."""
    BAD = "✗"
    """What was asked for does not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor.

    Attributes:
        name: What was looked at.
        mark: How it is meant.
        found: What was seen.
        remedy: What to do; empty where nothing is to be done.
    """

    name: str
    mark: Mark
    found: str
    remedy: str = ""


def judged(name: str, found: str, *, is_well: bool, remedy: str, otherwise: Mark = Mark.WARNING) -> Finding:
    """Return a finding that is good, or is marked otherwise and says what to do."""
    return Finding(name, Mark.GOOD, found) if is_well else Finding(name, otherwise, found, remedy)
