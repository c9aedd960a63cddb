"""What a training run tells about itself."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from zhiyin.training.ensembles import KeptEpochs


@dataclass(frozen=True)
class EpochRecord:
    """One line of the learning curve.

    Attributes:
        epoch: Counted from 1.
        train_loss: Mean over the batches of the epoch.
        validation: The metric that decides, higher is better; None when there is nothing to validate on.
        seconds: Since training began, earlier runs that were resumed included.
    """

    epoch: int
    train_loss: float
    validation: float | None
    seconds: float


@dataclass(frozen=True)
class AverageRecord:
    """What became of the average of the best epochs.

    Attributes:
        epochs: Which were averaged, best first.
        validation: The metric of the average; None when there was nothing to validate on.
        is_used: Whether the average is what training left in the module: it is at least as good as the best
            single epoch. What could not be judged is not used.
    """

    epochs: tuple[int, ...]
    validation: float | None
    is_used: bool


@dataclass
class LearningCurve:
    """The learning curve of one run, with the moment that was kept.

    Attributes:
        metric: Name of the validation metric.
        epochs: One record an epoch.
        stopped_by: Why training ended: ``patience``, ``max_epochs``, ``max_minutes``; empty while it runs.
        average: What became of the average of several epochs; None where only the best was kept.
        kept: The weights of those epochs, for predictions of all of them together; they are in no record.
    """

    metric: str = "ndcg_at_10"
    epochs: list[EpochRecord] = field(default_factory=list)
    stopped_by: str = ""
    average: AverageRecord | None = None
    kept: KeptEpochs | None = field(default=None, compare=False, repr=False)

    @property
    def best(self) -> EpochRecord | None:
        """The epoch with the best metric, the latest of equals; without validation the last one."""
        validated = [record for record in self.epochs if record.validation is not None]
        if not validated:
            return self.epochs[-1] if self.epochs else None
        return max(validated, key=lambda record: (record.validation or 0.0, record.epoch))

    @property
    def n_epochs_since_best(self) -> int:
        """How many epochs in a row have not been better than the best."""
        return self.epochs[-1].epoch - self.best.epoch if self.epochs and self.best else 0

    @property
    def seconds(self) -> float:
        """How long training took so far."""
        return self.epochs[-1].seconds if self.epochs else 0.0

    def facts(self) -> dict[str, Any]:
        """Return the curve as JSON can hold it, for `ComponentState.facts` and the report."""
        best = self.best
        facts: dict[str, Any] = {
            "metric": self.metric,
            "epochs": [asdict(record) for record in self.epochs],
            "best_epoch": best.epoch if best else None,
            "best_validation": best.validation if best else None,
            "stopped_by": self.stopped_by,
        }
        if self.average is not None:
            facts["average"] = {**asdict(self.average), "epochs": list(self.average.epochs)}
        return facts

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> LearningCurve:
        """Read what `facts` wrote."""
        records = [EpochRecord(**record) for record in facts["epochs"]]
        told = facts.get("average")
        average = AverageRecord(**{**told, "epochs": tuple(told["epochs"])}) if told else None
        return cls(facts["metric"], records, facts["stopped_by"], average)
