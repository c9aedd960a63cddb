"""What a training run tells about itself."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


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


@dataclass
class LearningCurve:
    """The learning curve of one run, with the moment that was kept.

    Attributes:
        metric: Name of the validation metric.
        epochs: One record an epoch.
        stopped_by: Why training ended: ``patience``, ``max_epochs``, ``max_minutes``; empty while it runs.
    """

    metric: str = "ndcg_at_10"
    epochs: list[EpochRecord] = field(default_factory=list)
    stopped_by: str = ""

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
        return {
            "metric": self.metric,
            "epochs": [asdict(record) for record in self.epochs],
            "best_epoch": best.epoch if best else None,
            "best_validation": best.validation if best else None,
            "stopped_by": self.stopped_by,
        }

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> LearningCurve:
        """Read what `facts` wrote."""
        records = [EpochRecord(**record) for record in facts["epochs"]]
        return cls(facts["metric"], records, facts["stopped_by"])
