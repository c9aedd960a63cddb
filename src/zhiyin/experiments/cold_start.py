"""How a pipeline meets what it has never seen: cold items beside everybody else, cold users step by step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import copy
from dataclasses import asdict, dataclass, replace
from typing import Any

from zhiyin.contracts import Progress
from zhiyin.data.splits import Split
from zhiyin.domain import Examples
from zhiyin.evaluation.breakdown import Group, by_cold_items
from zhiyin.evaluation.comparison import Difference, compare
from zhiyin.evaluation.evaluation import Evaluation, RunRecord
from zhiyin.evaluation.intervals import Interval
from zhiyin.evaluation.protocol import EvaluationSettings
from zhiyin.evaluation.replay import Curve, curves_svg
from zhiyin.experiments.training import Trained, fit_pipeline, judge
from zhiyin.pipeline.recipes import recipe
from zhiyin.policy.new_items import NewItems

FLOOR = "popularity"


@dataclass(frozen=True, eq=False)
class Everybody:
    """All users under leave-last-out, after a training that has not seen some items.

    Attributes:
        judged: Targets among the items held back count as hits.
        without_slots: The same pipeline that keeps no place for new items; None where it keeps none anyway.
    """

    judged: Evaluation
    without_slots: Evaluation | None

    @property
    def recall(self) -> str:
        """Name of the metric that is compared."""
        return f"recall_at_{self.judged.settings.longest}"

    @property
    def difference(self) -> Difference | None:
        """What the kept places change for all users together; None where none is kept."""
        if self.without_slots is None:
            return None
        return compare(self.judged, self.without_slots, [self.recall])[0]

    @property
    def warm(self) -> tuple[Group, Group | None]:
        """Recall of those whose target training has seen: with the kept places, and without them."""
        with_slots = _warm(self.judged, self.recall)
        return with_slots, None if self.without_slots is None else _warm(self.without_slots, self.recall)

    def record(self, run: RunRecord) -> dict[str, Any]:
        """Everything as plain values."""
        with_slots, without = self.warm
        told: dict[str, Any] = {"everybody": self.judged.record(run), "warm_targets": _plain(with_slots)}
        if self.without_slots is not None and without is not None:
            told["everybody_without_slots"] = self.without_slots.record(run)
            told["warm_targets_without_slots"] = _plain(without)
            told["slots_change"] = None if self.difference is None else _plain(self.difference)
        return told


def judge_everybody(
    trained: Trained, settings: EvaluationSettings | None = None, progress: Progress | None = None
) -> Everybody:
    """Judge all users of a split that asks only about some of them, with and without places for new items."""
    assert trained.split.everybody is not None
    asked = _asked(trained, trained.split.everybody)
    judged = judge(asked, settings, progress)
    if not trained.pipeline.new_items.is_on:
        return Everybody(judged, None)
    plain = copy(trained.pipeline)
    plain.new_items = NewItems()
    return Everybody(judged, judge(replace(asked, pipeline=plain), settings, progress))


@dataclass(frozen=True, eq=False)
class FewShots:
    """The same users, asked again while their histories grow.

    Attributes:
        known: Items known of each user at each step, rising.
        judged: Recommender → one evaluation a step; the pipeline first, then the floor.
    """

    known: tuple[int, ...]
    judged: Mapping[str, tuple[Evaluation, ...]]

    def record(self) -> dict[str, Any]:
        """The curves as plain values: recommender → metric → one value with its interval a step."""
        return {
            "known": list(self.known),
            "curves": {
                name: {
                    metric: [_plain(evaluation.interval(metric)) for evaluation in steps]
                    for metric in steps[0].values
                }
                for name, steps in self.judged.items()
            },
        }

    def picture(self, metric: str) -> str:
        """Draw one curve a recommender, as SVG."""
        curves = [
            Curve(name, [evaluation.mean(metric) for evaluation in steps])
            for name, steps in self.judged.items()
        ]
        labels = [str(n) for n in self.known]
        title = f"{metric} of users nothing was learned of"
        return curves_svg(title, curves, x_name="items known of the user", x_labels=labels)


def judge_steps(
    trained: Trained, settings: EvaluationSettings | None = None, progress: Progress | None = None
) -> FewShots:
    """Judge a pipeline and popularity at every step of a split of cold users."""
    recommenders = {trained.pipeline.config.recipe: trained}
    if FLOOR not in recommenders:
        recommenders[FLOOR] = fit_pipeline(recipe("popular"), trained.split, seed=trained.seed)
    steps = trained.split.steps
    return FewShots(
        tuple(steps),
        {
            name: tuple(judge(_asked(each, examples), settings, progress) for examples in steps.values())
            for name, each in recommenders.items()
        },
    )


def _asked(trained: Trained, examples: Examples) -> Trained:
    split: Split = replace(trained.split, test=examples)
    return replace(trained, split=split)


def _warm(evaluation: Evaluation, metric: str) -> Group:
    return by_cold_items(evaluation, metric).groups[1]


def _plain(told: Group | Difference | Interval) -> dict[str, Any]:
    """Return its fields; NaN becomes None."""
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in asdict(told).items()
    }
