"""How much a language model foretells without labels, and with a few, a few dozen, a few hundred of them."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from zhiyin.contracts import Progress, Silent
from zhiyin.data.dataset import Dataset
from zhiyin.data.labelled import LabelledExamples
from zhiyin.domain import FloatArray
from zhiyin.domain.errors import RequestError
from zhiyin.domain.processes import refuse_several_processes
from zhiyin.evaluation.labels.few_shot import FewShotPoint, FewShotReport, few_shot_page
from zhiyin.evaluation.labels.figures import LabelKind
from zhiyin.evaluation.labels.run_report import TaskReport
from zhiyin.experiments.finetuning import FinetuningOrder, settings_for, shown_settings
from zhiyin.experiments.runs import CHECKPOINTS, readable_part
from zhiyin.language.finetuning.settings import FinetuningConfig
from zhiyin.language.model_files import ModelFolder, locate_model
from zhiyin.pipeline.registry import part_with_torch
from zhiyin.training.kernels import WHILE_TRAINING, keep_few_kernels

AS_IT_CAME, SCALED, FINETUNED = "as it came", "as it came, scaled", "fine-tuned"
"""Methods of the curve: no label, two numbers a task from the labels, the method of the settings."""
POINTS, PAGE = "few_shot.json", "few_shot.html"
MOST_PASSES = 12
"""Passes over a handful of rows at most."""
_PARTS = (
    "finetuning.fitting",
    "finetuning.rows",
    "finetuning.wording",
    "opened",
    "running",
    "scaling",
    "untrained",
)
_LEAST_TOKENS = 256
_STEPS_A_PASS = 4
"""Few rows are divided into about so many batches, since a single one would be a single step."""
_SET_BY_POINTS = (
    "holding.most_train",
    "training.max_epochs",
    "training.patience",
    "training.tokens_per_batch",
)
_OF_ORDER = {
    LabelKind.CHANCE: ("roc_auc", "gauc", "average_precision"),
    LabelKind.VALUE: ("correlation",),
}
"""Figures that hold for scores which nothing has put on a scale; all of a ranking do."""


def few_shot_on(
    dataset: Dataset, order: FinetuningOrder, shots: Sequence[int], progress: Progress | None = None
) -> FewShotReport:
    """Judge a model as it came, and fine-tuned on more and more labelled rows, always on the same test rows.

    The rows of a smaller number are among those of a larger. A number above 0 gives two points: the scores
    of the model as it came, put on the scale of the labels by two numbers a task, and the fine-tuned model. A
    small number is gone through more often, so that no point reads fewer rows than the largest does, up to
    `MOST_PASSES` passes. All points choose their best pass on the same validation rows, whose labels are not
    counted.

    Points lie beside ``out`` in ``OUT.few_shot.json`` as soon as they are known, and are not computed again
    by the same order; the page is ``OUT.few_shot.html``. No model is kept.

    Args:
        dataset: Whose rows are learned from.
        order: What is fine-tuned, and how.
        shots: Numbers of labelled rows; 0 for none.
        progress: Who listens.

    Raises:
        ConfigError: when a setting or the base model is wrong.
        DataError: when labels are missing or say nothing.
        MissingExtra: when the packages for language models are not installed.
        RequestError: when there are fewer rows than a number asks for, a task is not known, or several
            processes were started.
        TrainingError: when the loss is not a number.
    """
    refuse_several_processes("A curve over few labels")
    parts = {name: part_with_torch(f"zhiyin.language.{name}") for name in _PARTS}
    parts["figures"] = part_with_torch("zhiyin.experiments.finetuned_figures")
    told, config = progress or Silent(), settings_for(order, dataset)
    work = _Work(parts, dataset, order, config, locate_model(order.base), told)
    work.refuse_too_many(max(shots))
    kept = _Kept.at(order.out, work.key(), told)
    points = []
    for n_labels in sorted(set(shots)):
        for method in work.methods(n_labels):
            with told.stage(f"few labels: {n_labels:,}, {method}"):
                points.append(
                    kept.find(method, n_labels) or kept.add(work.point(method, n_labels, max(shots)))
                )
    report = work.report(tuple(points))
    order.out.with_name(f"{order.out.name}.{PAGE}").write_text(few_shot_page(report), encoding="utf-8")
    return report


def parsed_shots(text: str) -> tuple[int, ...]:
    """Read ``0,16,64``.

    Raises:
        RequestError: when a part is no number from 0 on.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise RequestError(
            f"--few-shot {text} is not a list of numbers.", remedy="Write --few-shot 0,16,64,256,1024."
        )
    return tuple(sorted({int(part) for part in parts}))


class _Work:
    """Computes points; what all of them share is made once."""

    def __init__(
        self,
        parts: Mapping[str, Any],
        dataset: Dataset,
        order: FinetuningOrder,
        config: FinetuningConfig,
        base: ModelFolder,
        progress: Progress,
    ) -> None:
        dataset = readable_part(dataset, order.protocol)
        self._parts, self._dataset, self._order, self._config = parts, dataset, order, config
        self._base, self._progress = base, progress
        self._rows = self._rows_of(0)
        background = parts["finetuning.wording"].Background.of(dataset)
        self._background = background.as_tasks_say(self._rows.tasks)
        self._judge: Any = None

    def refuse_too_many(self, n_labels: int) -> None:
        n_rows = min(len(part.train) for part in self._rows.splits.values())
        if n_labels > n_rows:
            raise RequestError(
                f"{n_labels:,} labelled rows are asked for, and there are {n_rows:,} to learn from.",
                remedy="Ask for fewer, or hold back less: holding.validation and holding.test.",
            )

    def key(self) -> str:
        """Return what changes when points can no longer be compared."""
        known = [self._config.model_dump(mode="json"), self._base.fingerprint, self._order.seed]
        digest = hashlib.blake2b(json.dumps(known, sort_keys=True).encode(), digest_size=8)
        for split in self._rows.splits.values():
            for part in (split.train, split.validation, split.test):
                for array in (part.user_index, part.item_index, part.labels):
                    digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def point(self, method: str, n_labels: int, most: int) -> FewShotPoint:
        started = time.perf_counter()
        if method == FINETUNED:
            return self._finetuned(n_labels, most, started)
        model = self._untrained()
        if method == SCALED:
            model = self._parts["scaling"].scaled_model(model, self._rows_of(n_labels).labelled.train)
        figures = _figures(self._judged(model), only_order=method == AS_IT_CAME)
        return FewShotPoint(method, n_labels, time.perf_counter() - started, figures)

    def report(self, points: tuple[FewShotPoint, ...]) -> FewShotReport:
        data: dict[str, str] = {}
        for split in self._rows.splits.values():
            data |= {
                "rows to draw from": f"{len(split.train):,}",
                "validation rows": f"{len(split.validation):,}",
                "test rows": f"{len(split.test):,}",
            }
        names = ", ".join(self._rows.tasks)
        return FewShotReport(
            name=f"{names} on {self._dataset.name}, from few labels",
            base=self._base.name,
            dataset=self._dataset.name,
            points=points,
            data=data,
            settings=shown_settings(self._config) | dict.fromkeys(_SET_BY_POINTS, "by the number of labels"),
            command=self._order.command,
            created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        )

    def _finetuned(self, n_labels: int, most: int, started: float) -> FewShotPoint:
        rows, config = self._rows_of(n_labels), _training_for(self._config, n_labels, most)
        folder = self._order.out.with_name(f"{self._order.out.name}.{CHECKPOINTS}") / str(n_labels)
        run = self._parts["running"].Run(self._order.seed, self._progress, folder)
        finetune = self._parts["finetuning.fitting"].finetune
        model, facts = finetune(self._base, self._background, rows, config, run)
        figures = _figures(self._judged(model))
        _remove(folder)
        seconds = time.perf_counter() - started
        return FewShotPoint(FINETUNED, n_labels, seconds, figures, len(facts["epochs"]))

    def methods(self, n_labels: int) -> tuple[str, ...]:
        """Return what can be done with so many labels."""
        if n_labels == 0:
            return (AS_IT_CAME,)
        scaled = self._parts["scaling"].SCALED_KINDS
        has_scale = any(task.kind in scaled for task in self._rows.tasks.values())
        return (SCALED, FINETUNED) if has_scale else (FINETUNED,)

    def _judged(self, model: Any) -> tuple[TaskReport, ...]:
        judge = self._parts["figures"].judged_tasks
        judged: tuple[TaskReport, ...] = judge(model, self._rows, seed=self._order.seed)
        return judged

    def _untrained(self) -> Any:
        if self._judge is None:
            keep_few_kernels(WHILE_TRAINING)  # the first products may come before any training
            opened = self._parts["opened"].open_model(self._base)
            make = self._parts["untrained"].untrained_model
            made = make(opened, self._background, self._config, self._rows.tasks)
            self._judge = replace(made, judge=_Remembering(made.judge))
        return self._judge

    def _rows_of(self, n_labels: int) -> Any:
        holding = self._config.holding.model_copy(update={"most_train": n_labels})
        config = self._config.model_copy(update={"holding": holding})
        return self._parts["finetuning.rows"].rows_of(self._dataset, config, seed=self._order.seed)


class _Remembering:
    """Remembers scores, since every point is judged on the same rows."""

    def __init__(self, judge: Any) -> None:
        self._judge = judge
        self._known: list[tuple[LabelledExamples, FloatArray]] = []

    def scores(self, examples: LabelledExamples, progress: Progress) -> FloatArray:
        for known, scores in self._known:
            if known is examples:
                return scores
        self._known.append((examples, self._judge.scores(examples, progress)))
        return self._known[-1][1]


class _Kept:
    """Points in a file, written as soon as each is known."""

    def __init__(self, file: Path, key: str, points: list[FewShotPoint]) -> None:
        self._file, self._key, self._points = file, key, points

    @classmethod
    def at(cls, out: Path, key: str, progress: Progress) -> _Kept:
        file = out.with_name(f"{out.name}.{POINTS}")
        points: list[FewShotPoint] = []
        if file.is_file():
            try:
                kept = json.loads(file.read_text(encoding="utf-8"))
                if kept["key"] == key:
                    points = [FewShotPoint.of(record) for record in kept["points"]]
                else:
                    progress.say(f"{file} is of other settings or data, and is begun anew")
            except (ValueError, KeyError, TypeError):
                raise RequestError(
                    f"{file} does not hold points of such a curve.",
                    remedy="Move it away, or choose another --out.",
                ) from None
        return cls(file, key, points)

    def find(self, method: str, n_labels: int) -> FewShotPoint | None:
        return next((one for one in self._points if (one.method, one.n_labels) == (method, n_labels)), None)

    def add(self, point: FewShotPoint) -> FewShotPoint:
        self._points.append(point)
        record = {"key": self._key, "points": [one.record() for one in self._points]}
        draft = self._file.with_name(self._file.name + ".part")
        draft.write_text(json.dumps(record, indent=2, allow_nan=False), encoding="utf-8")
        draft.replace(self._file)
        return point


def _training_for(config: FinetuningConfig, n_labels: int, most: int) -> FinetuningConfig:
    """Read a handful of rows as often as it takes, in batches small enough for more than one step a pass."""
    own = config.training
    passes = min(math.ceil(own.max_epochs * most / n_labels), max(MOST_PASSES, own.max_epochs))
    tokens = max(n_labels * config.wording.max_tokens // _STEPS_A_PASS, _LEAST_TOKENS)
    changed = {
        "max_epochs": passes,
        "patience": max(own.patience, passes // 3),
        "tokens_per_batch": min(own.tokens_per_batch, tokens),
    }
    return config.model_copy(update={"training": own.model_copy(update=changed)})


def _figures(tasks: Sequence[TaskReport], *, only_order: bool = False) -> dict[str, dict[str, Any]]:
    found = {}
    for task in tasks:
        kept = _OF_ORDER.get(task.figures.kind) if only_order else None
        found[task.figures.task] = {
            name: one for name, one in task.figures.figures.items() if kept is None or name in kept
        }
    return found


def _remove(folder: Path) -> None:
    for file in folder.glob("*.ckpt"):
        file.unlink()
    for empty in (folder, folder.parent):
        if empty.is_dir() and not any(empty.iterdir()):
            empty.rmdir()
