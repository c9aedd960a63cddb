"""The log of the simulated shop while it is being written."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from zhiyin.domain import BoolArray, FloatArray, IndexArray, LongArray


@dataclass(eq=False)
class Records:
    """Columns of events and of impressions, each a list of pieces that are joined at the end."""

    events: dict[str, list[np.ndarray]] = field(default_factory=lambda: defaultdict(list))
    impressions: dict[str, list[np.ndarray]] = field(default_factory=lambda: defaultdict(list))
    versions: list[str] = field(default_factory=list)

    def add_events(
        self,
        keep: BoolArray,
        user: IndexArray,
        item: IndexArray,
        kind: int,
        timestamp: LongArray,
        value: FloatArray,
        *note: np.ndarray,
    ) -> None:
        """Add events of one kind for (B,) users where ``keep``; ``note``: device, page, visit."""
        n = int(keep.sum())
        device, page, visit = note
        for name, column in (
            ("user", user), ("item", item), ("timestamp", timestamp), ("value", value),
            ("device", device), ("page", page), ("visit", visit),
        ):  # fmt: skip
            self.events[name].append(column[keep])
        self.events["kind"].append(np.full(n, kind, dtype=np.int16))

    def add_slates(
        self,
        user: IndexArray,
        timestamp: LongArray,
        slate: IndexArray,
        propensity: FloatArray,
        clicked: BoolArray,
    ) -> None:
        """Add what (B,) users were shown: (B, N) items with propensities and clicks."""
        n_ranks = slate.shape[1]
        ranks = np.arange(1, n_ranks + 1, dtype=np.int16)
        for name, column in (
            ("user", np.repeat(user, n_ranks)),
            ("timestamp", np.repeat(timestamp, n_ranks)),
            ("item", slate.ravel()),
            ("rank", np.tile(ranks, len(user))),
            ("propensity", propensity.ravel()),
            ("clicked", clicked.ravel()),
        ):
            self.impressions[name].append(column)

    def note_slates(self, visit: LongArray, device: IndexArray, version: str) -> None:
        """Add the context of the slates added last: (B,) visits and devices, and the policy's version."""
        n_ranks = len(self.impressions["user"][-1]) // max(1, len(visit))
        self.impressions["visit"].append(np.repeat(visit, n_ranks))
        self.impressions["device"].append(np.repeat(device, n_ranks))
        self.impressions["version"].append(np.full(len(visit) * n_ranks, len(self.versions), dtype=np.int32))
        self.versions.append(version)
