"""What leaves the engine: an item, its place, and why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Recommendation(NamedTuple):
    """One place of a slate, in the shop's own words.

    Attributes:
        item_id: The shop's id.
        rank: 1 for the first place.
        score: Unbounded, higher is better; comparable within one slate only.
        reasons: Sentences for the user, most important first; empty unless asked for.
        sources: Source name → what it added to the score; empty unless asked for.
        chance: That this item comes next, from 0 to 1; None where the pipeline cannot tell.
        predictions: Task → chance or number that the ranker predicts; None or empty where there is none.
    """

    item_id: str
    rank: int
    score: float
    reasons: tuple[str, ...] = ()
    sources: Mapping[str, float] | None = None
    chance: float | None = None
    predictions: Mapping[str, float] | None = None
