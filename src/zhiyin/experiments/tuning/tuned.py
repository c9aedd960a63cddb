"""What a search found."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from zhiyin.evaluation.comparison import Difference
from zhiyin.experiments.tuning.space import Space, shown
from zhiyin.experiments.tuning.study import Attempt
from zhiyin.experiments.tuning.subject import Given, Subject


@dataclass(frozen=True)
class Tuned:
    """The result of a search.

    Attributes:
        dataset: Name of the dataset.
        subject: What was tuned.
        given: Settings that were changed but not searched.
        space: What was searched.
        seed: Of the search.
        attempts: All that ended, in order.
        unchanged: Value with the given settings only.
        best: The best attempt; None when none was better than what stood.
        gain: Best minus unchanged over the same users. The best of many attempts is partly the luckiest, so
            that the gain on new events is smaller; None without a best.
        importance: Dotted path → share in what makes attempts good, largest first; empty with few attempts.
        n_fitting: Validation users that weights were fitted on, who did not judge.
        n_judging: Validation users that judged.
    """

    dataset: str
    subject: Subject
    given: Given
    space: Space
    seed: int
    attempts: tuple[Attempt, ...]
    unchanged: float
    best: Attempt | None
    gain: Difference | None
    importance: Mapping[str, float]
    n_fitting: int
    n_judging: int

    @property
    def settings(self) -> dict[str, Any]:
        """The given settings with the best that were found."""
        return {**self.given, **(self.best.settings if self.best is not None else {})}

    @property
    def set_line(self) -> str:
        """The settings as options of a command; empty when there is nothing to set."""
        texts = ((path, json.dumps(v) if isinstance(v, list) else v) for path, v in self.settings.items())
        pairs = (f"{path}={text}" for path, text in texts)
        return " ".join(f"--set {shlex.quote(pair)}" for pair in pairs)

    @property
    def best_value(self) -> float:
        """Value of the best settings, the unchanged ones where nothing was better."""
        return self.unchanged if self.best is None or self.best.value is None else self.best.value

    def notes(self) -> list[str]:
        """Lines for the head of the file of settings."""
        words = self.subject.words
        found = (
            f"no trial was better than {words.unchanged}"
            if self.best is None
            else f"trial {self.best.number} of {len(self.attempts)}"
        )
        return [
            f"Found by a search on '{self.dataset}': {found}.",
            f"Validation {words.measure} {self.best_value:.4f}, of {words.unchanged} {self.unchanged:.4f}.",
        ]

    def record(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "dataset": self.dataset,
            **self.subject.identity(),
            "seed": self.seed,
            "metric": self.subject.words.metric,
            "n_fitting_users": self.n_fitting,
            "n_judging_users": self.n_judging,
            "given": dict(self.given),
            "search": {path: shown(tried) for path, tried in self.space.items()},
            "unchanged": self.unchanged,
            "best": None if self.best is None else asdict(self.best),
            "gain": None if self.gain is None else asdict(self.gain),
            "settings": self.settings,
            "importance": dict(self.importance),
            "trials": [asdict(attempt) for attempt in self.attempts],
        }
