"""What a report on one fine-tuning run tells, as plain values: whoever trained and predicted fills it in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from zhiyin.evaluation.comparison import Difference
from zhiyin.evaluation.labels.figures import LOWER_IS_BETTER, LabelFigures, LabelKind
from zhiyin.evaluation.labels.pictures import ChancePicture, ValuePicture, chance_picture, value_picture
from zhiyin.evaluation.labels.predicted import PredictedLabels


@dataclass(frozen=True)
class FinetuningEpoch:
    """One line of the learning curves.

    Attributes:
        epoch: 1 for the first.
        train_loss: Mean loss over its batches.
        validation: Name such as ``roc_auc``, or ``click/roc_auc`` for one of several tasks → value after the
            epoch; empty where it was not measured.
    """

    epoch: int
    train_loss: float
    validation: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class FinetuningCosts:
    """What a run used.

    Attributes:
        n_parameters: Of the whole model, numbers.
        n_trained: Of them, those that were trained.
        seconds: Of training, wall-clock.
        device: Such as ``cpu, 2 threads`` or the name of a GPU.
        peak_memory_mb: Most memory held at once, MiB; None where it is not known.
        tokens_per_second: Read while training, padding left out; None where it is not known.
    """

    n_parameters: int
    n_trained: int
    seconds: float
    device: str
    peak_memory_mb: float | None = None
    tokens_per_second: float | None = None

    @property
    def share_trained(self) -> float:
        """Share of the parameters that were trained, 0 to 1."""
        return self.n_trained / self.n_parameters if self.n_parameters else float("nan")


@dataclass(frozen=True, eq=False)
class TaskReport:
    """One task on test rows.

    Attributes:
        figures: How well its labels were predicted.
        picture: What is drawn of it; None for rankings.
        against: Name of another method → this one minus it, on the same rows.
    """

    figures: LabelFigures
    picture: ChancePicture | ValuePicture | None = None
    against: Mapping[str, tuple[Difference, ...]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        predicted: PredictedLabels,
        figures: LabelFigures,
        against: Mapping[str, tuple[Difference, ...]] | None = None,
    ) -> TaskReport:
        """Draw the picture that belongs to the kind of the labels.

        Args:
            predicted: The rows that were judged.
            figures: What was found.
            against: See the class.
        """
        picture: ChancePicture | ValuePicture | None = None
        if figures.kind is LabelKind.CHANCE:
            picture = chance_picture(predicted)
        elif figures.kind is LabelKind.VALUE:
            picture = value_picture(predicted)
        return cls(figures, picture, against or {})


@dataclass(frozen=True, eq=False)
class FinetuningReport:
    """Everything that the page and the model card tell; empty parts are left out of them.

    Attributes:
        name: Of the run, such as ``click on movielens-1m``.
        base: Name of the model that was fine-tuned.
        method: How much of it was trained, such as ``lora`` or ``full``.
        shape: What reads user and item, such as ``cross-encoder`` or ``two-tower``.
        dataset: Name of the dataset.
        costs: What the run used.
        tasks: Judged on test rows, the main task first.
        epochs: The learning curves.
        chosen_by: Name in `FinetuningEpoch.validation` that the kept weights are best by; empty for the last.
        data: Fact such as ``training rows`` or ``period`` → its value.
        settings: Name → value.
        versions: Package → its version.
        command: Command line that does the same again.
        created: Date and time as a reader wants to see it.
    """

    name: str
    base: str
    method: str
    shape: str
    dataset: str
    costs: FinetuningCosts
    tasks: tuple[TaskReport, ...] = ()
    epochs: tuple[FinetuningEpoch, ...] = ()
    chosen_by: str = ""
    data: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    created: str = ""

    @property
    def best_epoch(self) -> FinetuningEpoch | None:
        """The epoch whose weights were kept; the last where nothing was measured after epochs."""
        measured = [epoch for epoch in self.epochs if self.chosen_by in epoch.validation]
        if not measured:
            return self.epochs[-1] if self.epochs else None
        sign = -1.0 if lower_is_better(self.chosen_by) else 1.0
        return max(measured, key=lambda epoch: sign * epoch.validation[self.chosen_by])


def lower_is_better(name: str) -> bool:
    """Whether less is better of a figure, also where its task stands before it: ``click/log_loss``."""
    return name.rpartition("/")[2] in LOWER_IS_BETTER
