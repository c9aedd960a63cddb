"""Two slates made into one, so that one user judges both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zhiyin.domain import PAD, IndexArray

FIRST, SECOND = 0, 1


@dataclass(frozen=True, eq=False)
class Interleaved:
    """A slate of two teams.

    Attributes:
        item_index: (n,) int32, best first, without padding.
        team: (n,) int8, `FIRST` or `SECOND`: whose slate placed the item.
    """

    item_index: IndexArray
    team: npt.NDArray[np.int8]

    def arms(self, first: str, second: str) -> str:
        """Write the teams as an `Impression` keeps them: the arms of the places, joined by commas."""
        names = (first, second)
        return ",".join([names[team] for team in self.team.tolist()])


def team_draft(first: IndexArray, second: IndexArray, n: int, rng: np.random.Generator) -> Interleaved:
    """Let two slates take turns, as captains choose teams; chance says who begins each round.

    Radlinski, Kurup and Joachims, *How Does Clickthrough Data Reflect Retrieval Quality?* (CIKM 2008),
    algorithm 2. Each place is as likely to be either's, so who places better items earns more clicks and
    nothing else does.

    Args:
        first: (N,) int32, best first, -1 pads.
        second: (M,) int32, likewise.
        n: Places; fewer come back when both slates are used up.
        rng: Of chance.

    Returns:
        At most n different items. When one slate is used up, the other fills the places.
    """
    lists = (first.tolist(), second.tolist())
    begins = rng.integers(0, 2, n).tolist()
    taken: set[int] = {PAD}
    place_in = [0, 0]
    items: list[int] = []
    teams: list[int] = []
    # Which item is next hangs on what was taken before: n short steps, about 10 µs for 10 places.
    for begin in begins:
        for team in (begin, 1 - begin):
            slate, at = lists[team], place_in[team]
            while at < len(slate) and slate[at] in taken:
                at += 1
            place_in[team] = at
            if at < len(slate):
                taken.add(slate[at])
                items.append(slate[at])
                teams.append(team)
        if len(items) >= n:
            break
    return Interleaved(np.array(items[:n], dtype=np.int32), np.array(teams[:n], dtype=np.int8))
