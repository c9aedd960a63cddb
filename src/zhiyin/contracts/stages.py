"""What comes after the sources: rankers, policy steps, presenters, and the whole as evaluation sees it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

from zhiyin.contracts.component import Component, ConfigT
from zhiyin.domain import Candidates, Queries

SCORE = "score"
CHANCE = "chance"
"""Column of what is known about how probable it is that an item comes next, from 0 to 1."""
"""Name of the column that orders a slate."""


class PolicyStep(Component[ConfigT], ABC):
    """Turns scored candidates into a better slate: rules, diversity, fairness, exploration.

    A step that drops candidates turns them into padding (`Candidates.without`).
    """

    @abstractmethod
    def apply(self, queries: Queries, candidates: Candidates) -> Candidates:
        """Return the candidates with some dropped, or with another ``score``."""


class Recommender(Protocol):
    """Whatever answers queries with slates; evaluation and serving see a pipeline as this."""

    def recommend(self, queries: Queries, n: int) -> Candidates:
        """Return the ``n`` best items a query, best first, with at least the column ``score``."""
        ...
