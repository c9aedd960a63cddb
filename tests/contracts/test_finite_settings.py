"""Settings are numbers that one can reckon with."""

import math
from typing import Any

import pytest

from zhiyin.contracts import CandidateSource
from zhiyin.domain.errors import ConfigError
from zhiyin.sources.als import Als
from zhiyin.sources.ease import Ease
from zhiyin.sources.item_neighbours import ItemNeighbours
from zhiyin.sources.popularity import Popularity


@pytest.mark.parametrize("number", [math.inf, math.nan, -math.inf])
@pytest.mark.parametrize(
    ("source", "setting"),
    [
        (Als, "l2"),
        (Als, "confidence"),
        (Ease, "l2"),
        (ItemNeighbours, "shrinkage"),
        (ItemNeighbours, "user_damping"),
    ],
)
def test_what_is_no_finite_number_is_refused(
    source: type[CandidateSource[Any]], setting: str, number: float
) -> None:
    with pytest.raises(ConfigError, match=f"{source.name}.{setting}"):
        source(**{setting: number})


def test_where_infinity_means_something_it_may_be_set() -> None:
    assert Popularity(half_life_days=math.inf).config.half_life_days == math.inf
    with pytest.raises(ConfigError, match="half_life_days"):
        Popularity(half_life_days=math.nan)
