"""What a report tells, as plain values: whoever trained and evaluated fills it in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from zhiyin.evaluation.breakdown import Breakdown, SourceShare
from zhiyin.evaluation.calibration import Calibration
from zhiyin.evaluation.evaluation import Evaluation
from zhiyin.evaluation.intervals import Interval
from zhiyin.evaluation.labels.figures import LabelFigures


class Role(StrEnum):
    """What a row of the headline table is there for."""

    PIPELINE = "pipeline"
    """The whole."""
    SOURCE = "source"
    """One source alone."""
    FLOOR = "floor"
    """What everybody must beat."""


@dataclass(frozen=True)
class ReportRow:
    """One recommender.

    Attributes:
        name: Such as ``hybrid`` or ``item_graph``.
        role: What it is there for.
        metrics: Name such as ``recall_at_10`` → value and interval.
    """

    name: str
    role: Role
    metrics: Mapping[str, Interval]

    @classmethod
    def of(cls, name: str, role: Role, evaluation: Evaluation) -> ReportRow:
        """Take all metrics of an evaluation."""
        return cls(name, role, {metric: evaluation.interval(metric) for metric in evaluation.metrics})


@dataclass(frozen=True)
class Epoch:
    """One line of a training curve; the metric is NaN where it was not measured."""

    epoch: int
    train_loss: float
    validation_ndcg: float = float("nan")


@dataclass(frozen=True)
class TrainingCurve:
    """How one component learned."""

    name: str
    epochs: tuple[Epoch, ...]


@dataclass(frozen=True)
class ShownItem:
    """One place of an example slate.

    Attributes:
        title: What a reader knows the item by.
        proposed_by: Sources, strongest first.
        was_taken: Whether it is what the user really took next.
    """

    title: str
    proposed_by: tuple[str, ...] = ()
    was_taken: bool = False


@dataclass(frozen=True)
class ExampleSlate:
    """A user to look at.

    Attributes:
        user: The shop's id, or any name.
        history: Titles, oldest first.
        recommended: The slate, best first.
        taken: Titles of what the user really took next.
    """

    user: str
    history: tuple[str, ...]
    recommended: tuple[ShownItem, ...]
    taken: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReportData:
    """Everything in a report; empty parts are left out of it.

    Attributes:
        dataset: Name of the dataset.
        recipe: Name of the recipe.
        protocol: Name of the split.
        command: Command line that gives the figures again.
        created: Date and time as a reader wants to see it.
        n_queries: Judged queries.
        repeat: Whether items that the user already has could be recommended.
        rows: The whole pipeline, each source alone, the popularity floor; in the order of the table.
        breakdowns: Of the whole pipeline.
        sources: What each source adds.
        calibration: Of the whole pipeline, where it tells chances.
        predictions: Of the ranker, task by task, on rows that it has not seen.
        curves: Of the components that were trained in epochs.
        examples: A few users to look at.
        data: Fact of the dataset → its value.
        costs: Such as training seconds → its value.
        settings: Path such as ``sources.item_graph.window`` → its value.
        versions: Package → its version.
    """

    dataset: str
    recipe: str
    protocol: str = "leave-last-out"
    command: str = ""
    created: str = ""
    n_queries: int = 0
    repeat: bool = False
    rows: tuple[ReportRow, ...] = ()
    breakdowns: tuple[Breakdown, ...] = ()
    sources: tuple[SourceShare, ...] = ()
    calibration: Calibration | None = None
    predictions: tuple[LabelFigures, ...] = ()
    curves: tuple[TrainingCurve, ...] = ()
    examples: tuple[ExampleSlate, ...] = ()
    data: Mapping[str, str] = field(default_factory=dict)
    costs: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
