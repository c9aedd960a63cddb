"""A store in memory that reads as the real ones do, and simulated traffic for it."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import polars as pl
import pytest

from zhiyin.stores.events import BATCH_SCHEMA
from zhiyin.stores.records import Impression


@dataclass
class MemoryStore:
    """What was shown and what happened, as lists."""

    impressions: list[Impression] = field(default_factory=list)
    events: list[tuple[str, str, str, int, float | None]] = field(default_factory=list)

    def impression_batches(self, since: int = 0, size: int = 50_000) -> Iterator[list[Impression]]:
        shown = [one for one in self.impressions if one.timestamp >= since]
        for start in range(0, len(shown), size):
            yield shown[start : start + size]

    def event_batches(self, size: int = 200_000) -> Iterator[pl.DataFrame]:
        rows = [(place, *event) for place, event in enumerate(self.events)]
        for start in range(0, len(rows), size):
            yield pl.DataFrame(rows[start : start + size], schema=BATCH_SCHEMA, orient="row")

    def show(
        self, user: str | None, at: int, items: tuple[str, ...], arm: str, experiment: str = "e"
    ) -> None:
        name = f"r{len(self.impressions)}"
        self.impressions.append(
            Impression(name, user, at, "recommend", "b", items, (1.0,) * len(items), experiment, arm)
        )

    def act(self, user: str, item: str, at: int, kind: str = "view", value: float | None = None) -> None:
        self.events.append((user, item, kind, at, value))


@pytest.fixture
def memory() -> MemoryStore:
    return MemoryStore()
