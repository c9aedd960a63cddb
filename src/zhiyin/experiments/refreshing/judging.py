"""Whether a refreshed pipeline may replace the one in use."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from zhiyin.contracts import Progress
from zhiyin.data.dataset import Dataset
from zhiyin.domain import Candidates, Examples, Queries
from zhiyin.evaluation.comparison import Difference, compare
from zhiyin.evaluation.evaluate import evaluate
from zhiyin.evaluation.evaluation import Evaluation
from zhiyin.evaluation.protocol import CatalogueFacts, EvaluationSettings
from zhiyin.experiments.refreshing.settings import JudgingConfig
from zhiyin.pipeline.pipeline import Pipeline

METRIC = "ndcg_at_10"


class Decision(StrEnum):
    """What becomes of a candidate."""

    LIVE = "live"
    REFUSED = "refused"
    UNDECIDED = "undecided"


@dataclass(frozen=True, eq=False)
class Verdict:
    """What the newest events say.

    Attributes:
        decision: What becomes of the candidate.
        reason: In words.
        n_events: Events both ranked for.
        difference: Candidate minus in use, on NDCG@10 and recall@10; None when there were too few events.
        of_candidate: Its evaluation; None when there were too few events.
        of_live: That of the one in use.
    """

    decision: Decision
    reason: str
    n_events: int
    difference: tuple[Difference, ...] = ()
    of_candidate: Evaluation | None = None
    of_live: Evaluation | None = None

    def facts(self) -> dict[str, Any]:
        """Return it as TOML and JSON can hold it."""
        told: dict[str, Any] = {
            "decision": str(self.decision),
            "reason": self.reason,
            "n_events": self.n_events,
        }
        for one in self.difference:
            told[one.metric] = {
                "candidate": round(one.first, 6),
                "in_use": round(one.second, 6),
                "difference": round(one.value, 6),
                "low": round(one.low, 6),
                "high": round(one.high, 6),
                "p_value": round(one.p_value, 6),
            }
        return told


def judge_candidate(
    candidate: Pipeline,
    live: Pipeline,
    test: Examples,
    train: Dataset,
    config: JudgingConfig | None = None,
    *,
    progress: Progress | None = None,
) -> Verdict:
    """Let both rank for the newest events, and decide.

    The candidate is refused when it is surely worse, which is when the whole 95 % interval of the paired
    difference lies below zero, or when its measured loss exceeds ``tolerated_loss`` of what the one in use
    reaches. To ask that it be surely not worse by 1 % would refuse nearly every equally good candidate: it
    takes about 100,000 events to see 1 %.

    Args:
        candidate: Has not been trained on ``test``.
        live: The one in use, neither.
        test: Queries with what came next.
        train: What both may know; its counts are the catalogue's facts.
        config: Settings.
        progress: Who listens.
    """
    config = config or JudgingConfig()
    if len(test) < config.fewest_events:
        told = f"{len(test)} events to judge by, fewer than {config.fewest_events}: waiting for more"
        return Verdict(Decision.UNDECIDED, told, len(test))
    settings = EvaluationSettings(at=(10,), n_resamples=config.n_resamples, credit_unseen=True)
    facts = CatalogueFacts(train.item_counts)
    first, second = (
        evaluate(_Asked(pipeline), test, facts=facts, settings=settings, progress=progress)
        for pipeline in (candidate, live)
    )
    differences = compare(first, second, [METRIC, "recall_at_10"])
    decision, reason = decide(differences[0], config)
    return Verdict(decision, reason, len(test), differences, first, second)


def decide(difference: Difference, config: JudgingConfig) -> tuple[Decision, str]:
    """Decide by the difference on one metric, and say why."""
    told = (
        f"{difference.metric} {difference.first:.4f} against {difference.second:.4f} in use, "
        f"difference {difference.value:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]"
    )
    if difference.high < 0:
        return Decision.REFUSED, f"surely worse: {told}"
    if difference.value < -config.tolerated_loss * difference.second:
        return Decision.REFUSED, f"more than {config.tolerated_loss:.0%} worse: {told}"
    return Decision.LIVE, ("surely better: " if difference.low > 0 else "not worse: ") + told


@dataclass(frozen=True, eq=False)
class _Asked:
    pipeline: Pipeline

    def recommend(self, queries: Queries, n: int) -> Candidates:
        """Return the pipeline's slates."""
        return self.pipeline.recommend(queries, n)
