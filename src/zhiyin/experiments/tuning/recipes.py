"""Recipes as the subject of a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from zhiyin.contracts import Progress
from zhiyin.data.dataset import Dataset
from zhiyin.evaluation.protocol import EvaluationSettings
from zhiyin.experiments.comparing import compare_runs
from zhiyin.experiments.contest import Contest, judged_runs
from zhiyin.experiments.settings_file import written_settings
from zhiyin.experiments.training import fingerprint
from zhiyin.experiments.tuning.objective import METRIC, judged, validation_halves
from zhiyin.experiments.tuning.space import Space, default_space
from zhiyin.experiments.tuning.subject import Given, Judged, Jury, Words
from zhiyin.pipeline.recipes import recipe
from zhiyin.pipeline.settings import PipelineConfig


@dataclass(frozen=True)
class RecipeSubject:
    """A recipe whose settings are searched; see `zhiyin.experiments.tuning.subject.Subject`.

    Attributes:
        name: Of the recipe.
    """

    name: str
    words: ClassVar[Words] = Words(
        metric=METRIC,
        measure="NDCG@10",
        unchanged="the recipe as it stands",
        judged_by="Validation users who judge, no test event.",
        tests="test events",
        next_step="zhiyin train DATA --settings {file} --out BUNDLE",
    )

    @property
    def command_words(self) -> str:
        """What names it on a command line."""
        return f"--recipe {self.name}"

    def identity(self) -> dict[str, Any]:
        """Return what names it in a record."""
        return {"recipe": self.name}

    def configured(self, settings: Given) -> PipelineConfig:
        """Return the pipeline that the recipe with these settings makes."""
        return recipe(self.name, dict(settings))

    def default_space(self, given: Given) -> Space:
        """Return what the parts of the recipe declare."""
        return default_space(self.configured(given), given)

    def refuse_incomparable(self, space: Space) -> None:
        """Accept everything: no setting of a recipe changes who judges."""

    def jury(self, dataset: Dataset, given: Given, seed: int) -> Jury:
        """Return half of the validation users; weights are fitted on the other half."""
        halves = validation_halves(dataset)

        def judge(settings: Given, progress: Progress, checkpoints: Path) -> Judged:
            config = self.configured({**given, **settings})
            return judged(config, halves, seed=seed, progress=progress, checkpoints=checkpoints)

        return Jury(judge, fingerprint(dataset), len(halves.validation), len(halves.test))

    def judged_on_test(
        self, dataset: Dataset, contestants: Mapping[str, Given], seed: int, progress: Progress
    ) -> dict[str, Any]:
        """Train with all validation users fitting, and judge on test events."""
        configs = {name: self.configured(settings) for name, settings in contestants.items()}
        runs = judged_runs(dataset, Contest(configs, seeds=(seed,)), EvaluationSettings(at=(10,)), progress)
        return compare_runs(runs).record()

    def written(self, settings: Given, notes: Sequence[str]) -> str:
        """Return a file of settings that ``zhiyin train`` reads."""
        return written_settings(self.name, settings, notes)
