"""Fine-tuning of a language model as the subject of a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from zhiyin.contracts import Between, Progress, SearchRange
from zhiyin.data.dataset import Dataset
from zhiyin.domain.errors import ConfigError
from zhiyin.experiments.finetuning import FinetuningOrder, settings_for
from zhiyin.experiments.settings_file import nested, written_finetuning
from zhiyin.experiments.tuning.space import Space, without_given
from zhiyin.experiments.tuning.subject import Given, Judged, Jury, Words
from zhiyin.language.finetuning.settings import FinetuningConfig
from zhiyin.language.model_files import DEFAULT, locate_model
from zhiyin.pipeline.registry import part_with_torch

SKILL = "skill"
_RATE = "training.learning_rate"
_RANKED = ("lora", "adalora")
_SLOW_SHARE = 3
"""No attempt is ended in the first third of its epochs."""
_MOST_SLOW = 3


@dataclass(frozen=True)
class FinetuningSubject:
    """Fine-tuning whose settings are searched; see `zhiyin.experiments.tuning.subject.Subject`.

    Attributes:
        base: What every trial starts from: a folder, a Hugging Face id, or ``default``.
        tasks: Names, as `zhiyin.experiments.finetuning.FinetuningOrder` takes them.
    """

    base: str = DEFAULT
    tasks: tuple[str, ...] = ()
    words: ClassVar[Words] = Words(
        metric=SKILL,
        measure=SKILL,
        unchanged="fine-tuning as it stands",
        judged_by="Skill on validation rows, which also choose the epoch, as the mean over tasks: "
        "0 knows the mean only, 1 knows all; for next, the mean of 1 / rank. No test row.",
        tests="test rows",
        next_step="zhiyin finetune DATA --settings {file} --out MODEL",
    )

    @property
    def name(self) -> str:
        """For a title."""
        return f"fine-tuning of {self.base}" + (f" for {', '.join(self.tasks)}" if self.tasks else "")

    @property
    def command_words(self) -> str:
        """What names it on a command line."""
        base = "" if self.base == DEFAULT else f" --base {self.base}"
        return f"--finetune{base}" + "".join(f" --task {task}" for task in self.tasks)

    def identity(self) -> dict[str, Any]:
        """Return what names it in a record."""
        return {"finetune": {"base": self.base, "task": list(self.tasks)}}

    def configured(self, settings: Given) -> FinetuningConfig:
        """Return the settings; what a named task means is left open, because the data say that."""
        config: FinetuningConfig = FinetuningConfig.parse(nested(settings), where="finetune")
        return config

    def default_space(self, given: Given) -> Space:
        """Return what is declared beside the settings, as far as it has an effect.

        The declared learning rates are those of the method by default; those of another method lie as far
        around the one that suits it.
        """
        config = self.configured(given)
        space: dict[str, SearchRange] = dict(FinetuningConfig.search_space)
        rates, factor = space[_RATE], _usual_rate(config) / _usual_rate(FinetuningConfig())
        assert isinstance(rates, Between)
        space[_RATE] = replace(rates, low=rates.low * factor, high=rates.high * factor)
        if config.method.name not in _RANKED:
            del space["method.rank"]
        if len({*self.tasks, *config.tasks}) < 2:
            del space["balance"]
        return without_given(space, given, whose="Fine-tuning", example=f"{_RATE}=1e-5..1e-3:log")

    def refuse_incomparable(self, space: Space) -> None:
        """Raise `ConfigError` when a path says which rows judge, or what their labels are."""
        for path in space:
            table, _, name = path.rpartition(".")
            is_judge = table == "holding" and name != "most_train"
            is_label = path.startswith("tasks.") and name not in ("weight", "negatives")
            if is_judge or is_label:
                raise ConfigError(
                    f"'{path}' cannot be searched: trials would be judged by other rows or labels, and could "
                    "not be compared.",
                    remedy=f"Set it for all trials:  --set {path}=VALUE",
                )

    def jury(self, dataset: Dataset, given: Given, seed: int) -> Jury:
        """Return the users whose rows are held back for validation."""
        trials, base, config = _trials(), locate_model(self.base), self._told(dataset, given)

        def judge(settings: Given, progress: Progress, checkpoints: Path) -> Judged:
            tried = self._told(dataset, {**given, **settings})
            judged: Judged = trials.judged(dataset, base, tried, trials.Run(seed, progress, checkpoints))
            return judged

        rows = trials.rows_of(dataset, config, seed=seed)
        return Jury(
            judge,
            trials.digest(base, rows),
            n_fitting=0,
            n_judging=trials.n_judging(rows),
            slow_start=_slow_start(config.training.max_epochs),
        )

    def judged_on_test(
        self, dataset: Dataset, contestants: Mapping[str, Given], seed: int, progress: Progress
    ) -> dict[str, Any]:
        """Fine-tune with both settings, and judge both on the same test rows, in pairs."""
        trials, base = _trials(), locate_model(self.base)
        configs = {name: self._told(dataset, settings) for name, settings in contestants.items()}
        record: dict[str, Any] = trials.judged_on_test(dataset, base, configs, trials.Run(seed, progress))
        return record

    def written(self, settings: Given, notes: Sequence[str]) -> str:
        """Return a file of settings that ``zhiyin finetune`` reads."""
        return written_finetuning(self.base, self.tasks, settings, notes)

    def _told(self, dataset: Dataset, settings: Given) -> FinetuningConfig:
        return settings_for(FinetuningOrder(Path(), self.base, self.tasks, settings), dataset)


def _slow_start(max_epochs: int) -> int:
    # To end a single epoch at its end would save nothing.
    return 1 if max_epochs == 1 else min(_MOST_SLOW, max_epochs // _SLOW_SHARE)


def _usual_rate(config: FinetuningConfig) -> float:
    return FinetuningConfig(method=config.method).with_usual_rate().training.learning_rate


def _trials() -> Any:
    return part_with_torch("zhiyin.experiments.tuning.finetuning_trials")
