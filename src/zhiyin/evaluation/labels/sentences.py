"""Sentences of a report, each with what it means for the reader."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Tone(StrEnum):
    """How a sentence is meant."""

    GOOD = "good"
    WORRY = "worry"
    PLAIN = "plain"


@dataclass(frozen=True)
class Sentence:
    """One thing that a report says.

    Attributes:
        tone: How it is meant.
        text: Plain words, with the figures they rest on.
    """

    tone: Tone
    text: str


def good(text: str) -> Sentence:
    """Say what is as it should be."""
    return Sentence(Tone.GOOD, text)


def worry(text: str) -> Sentence:
    """Say what should be looked at."""
    return Sentence(Tone.WORRY, text)


def plain(text: str) -> Sentence:
    """Say what is neither."""
    return Sentence(Tone.PLAIN, text)
