"""Settings of the item graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field, NonNegativeFloat, PositiveInt

from zhiyin.contracts import Between, Config, Probability, SearchRange


class ItemGraphConfig(Config):
    """How edges are counted, joined with text and walked."""

    window: Annotated[int, Field(ge=1, le=50)] = 8
    """How many places after an item another may stand to count as its follower."""
    decay: Probability = 0.85
    """Factor by which a follower counts less for each place between the two."""
    backward: Probability = 0.3
    """What an edge counts against its direction of time."""
    history_decay: Probability = 0.5
    """Factor by which an event of the history counts less for each newer one."""
    row_exponent: Annotated[float, Field(ge=0.0, le=1.0)] = 0.25
    """Each row of counts is divided by its sum to this power; 1 makes transition probabilities."""
    column_exponent: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Each column of counts is divided by its sum to this power, against popular items."""
    text_weight: NonNegativeFloat = 0.8
    """What a text neighbour with cosine 1 adds to an edge; 0 leaves language out."""
    text_exponent: Annotated[float, Field(gt=0.0, le=4.0)] = 0.7
    """Power of the cosine; below 1 brings far neighbours nearer."""
    n_text_neighbours: PositiveInt = 100
    """Text neighbours of an item."""
    most_edges: PositiveInt = 1_024
    """Edges that lead on from an item at most, the strongest: half of a large catalogue follows what
    everybody buys, and would be walked at every request."""
    history_length: PositiveInt = 200
    """Newest events of a history that are walked from."""
    choose_on_validation: bool = True
    """Choose decays, exponents and the weight of text on validation, as far as they are not given."""

    search_space: ClassVar[Mapping[str, SearchRange]] = {
        "window": Between(2, 20),
        "text_exponent": Between(0.3, 2.0),
        "n_text_neighbours": Between(20, 300, by_ratio=True),
        "history_length": Between(10, 400, by_ratio=True),
    }
