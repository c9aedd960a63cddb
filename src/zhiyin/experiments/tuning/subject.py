"""What a search makes better, and how that is spoken of; recipes and fine-tuning are such subjects."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from zhiyin.contracts import Config, Progress
from zhiyin.data.dataset import Dataset
from zhiyin.domain import FloatArray
from zhiyin.experiments.tuning.space import Space

Given = Mapping[str, Any]
"""Dotted path → value, mostly as text."""


@dataclass(frozen=True, eq=False)
class Judged:
    """How good some settings are.

    Attributes:
        value: What the search makes as large as it can, over the judging users.
        per_user: (B,) float32, with the value as its mean; always the same users in the same order.
        seconds: What training and judging took.
    """

    value: float
    per_user: FloatArray
    seconds: float


@dataclass(frozen=True)
class Jury:
    """Who judges settings on a dataset.

    Attributes:
        judge: Settings, who listens, and a folder for checkpoints → how good they are; deterministic. A
            listener that hears the quality of epochs may raise to end the training.
        digest: A text that changes with what trials learn from and are judged by.
        n_fitting: Validation users that weights were fitted on, who do not judge; 0 where there are none.
        n_judging: Validation users that judge.
        slow_start: Epochs that no attempt is ended after: they say little about the end.
    """

    judge: Callable[[Given, Progress, Path], Judged]
    digest: str
    n_fitting: int
    n_judging: int
    slow_start: int = 3


@dataclass(frozen=True)
class Words:
    """How a subject is spoken of.

    Attributes:
        metric: Name of the value in files, such as ``ndcg_at_10``.
        measure: The same for a reader, such as ``NDCG@10``.
        unchanged: The subject with the given settings only.
        judged_by: What the value is measured on, a sentence.
        tests: What only the final judgement looks at.
        next_step: Command that uses the file of settings, which it calls ``{file}``.
    """

    metric: str
    measure: str
    unchanged: str
    judged_by: str
    tests: str
    next_step: str


class Subject(Protocol):
    """What is tuned."""

    @property
    def name(self) -> str:
        """For a title."""

    @property
    def words(self) -> Words:
        """How it is spoken of."""

    @property
    def command_words(self) -> str:
        """What names it on a command line."""

    def identity(self) -> dict[str, Any]:
        """Return what names it in a record, as JSON can hold it."""

    def configured(self, settings: Given) -> Config:
        """Build it with these settings.

        Raises:
            ConfigError: when one is not known or out of range.
        """

    def default_space(self, given: Given) -> Space:
        """Return what is worth trying when nobody says, without what is given.

        Raises:
            ConfigError: when nothing is left.
        """

    def refuse_incomparable(self, space: Space) -> None:
        """Raise `ConfigError` when trials of such a search would not be judged by the same rows."""

    def jury(self, dataset: Dataset, given: Given, seed: int) -> Jury:
        """Return who judges settings, on validation only.

        Raises:
            DataError: when the data do not say enough.
            RequestError: when too few users can judge.
        """

    def judged_on_test(
        self, dataset: Dataset, contestants: Mapping[str, Given], seed: int, progress: Progress
    ) -> dict[str, Any]:
        """Train with the settings of two contestants and judge both on what was held back.

        Returns:
            What JSON can hold; under ``pairs`` the differences, first minus second, with ``metric``,
            ``first``, ``second``, ``value``, ``low``, ``high`` and ``p_value``.
        """

    def written(self, settings: Given, notes: Sequence[str]) -> str:
        """Return the text of a file of settings, with notes at its head."""
