"""Single fine-tunings of a search: judged on validation rows, and at the end on test rows."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from zhiyin.data.dataset import Dataset
from zhiyin.domain.errors import DataError
from zhiyin.evaluation.labels.figures import LabelFigures, LabelKind, label_differences
from zhiyin.experiments.finetuned_figures import judged_tasks
from zhiyin.experiments.tuning.subject import Judged
from zhiyin.language.finetuning.fitting import finetune, finetune_and_validate
from zhiyin.language.finetuning.rows import TaskRows, rows_of
from zhiyin.language.finetuning.settings import FinetuningConfig
from zhiyin.language.finetuning.validating import can_validate
from zhiyin.language.finetuning.wording import Background
from zhiyin.language.model_files import ModelFolder
from zhiyin.language.running import Run
from zhiyin.training.checkpoints import fingerprint

_COMPARED = {
    LabelKind.CHANCE: ("roc_auc", "log_loss", "calibration_error"),
    LabelKind.VALUE: ("rmse", "mae"),
    LabelKind.RANKING: ("ndcg_at_10", "mrr"),
}
"""Figures of test rows that two settings are compared by."""


def judged(dataset: Dataset, base: ModelFolder, config: FinetuningConfig, run: Run) -> Judged:
    """Fine-tune, and judge on validation rows; test rows are not looked at.

    Args:
        dataset: Whose rows are learned from.
        base: What to start from.
        config: How, with its tasks.
        run: Seed, who listens, checkpoints.
    """
    started = time.perf_counter()
    rows = rows_of(dataset, config, seed=run.seed)
    validation, _ = finetune_and_validate(base, Background.of(dataset), rows, config, run)
    of_users = validation.skill_of_users()
    return Judged(float(of_users.mean()), of_users.astype(np.float32), time.perf_counter() - started)


def n_judging(rows: TaskRows) -> int:
    """Return how many users have validation rows.

    Raises:
        DataError: when their labels cannot tell good predictions from bad ones.
    """
    if not can_validate(rows):
        raise DataError(
            "The validation rows cannot tell settings apart: in each task their labels are all equal, or no "
            "user has two of them to be ordered.",
            remedy="Hold back more (holding.validation), or bring a longer log.",
        )
    users = [part.validation.user_index for part in rows.splits.values()]
    return len(np.unique(np.concatenate(users)))


def digest(base: ModelFolder, rows: TaskRows) -> str:
    """Return a text that changes with the base model and the rows to learn from and to be judged by."""
    arrays = {}
    for name, split in rows.splits.items():
        for part in ("train", "validation"):
            examples = getattr(split, part)
            for what in ("user_index", "item_index", "n_known", "labels"):
                arrays[f"{name} {part} {what}"] = getattr(examples, what)
    return fingerprint({"base": base.fingerprint}, arrays)


def judged_on_test(
    dataset: Dataset, base: ModelFolder, configs: Mapping[str, FinetuningConfig], run: Run
) -> dict[str, Any]:
    """Fine-tune with two settings and compare them on the test rows.

    Args:
        dataset: Whose rows are learned from.
        base: What to start from.
        configs: Name → settings; two.
        run: Seed and who listens.

    Returns:
        What JSON can hold: ``runs``, their names; ``pairs``, first minus second for each task and figure;
        ``figures``, all figures of both.
    """
    of_runs: dict[str, list[LabelFigures]] = {}
    for name, config in configs.items():
        rows = rows_of(dataset, config, seed=run.seed)
        model, _ = finetune(base, Background.of(dataset), rows, config, run)
        with run.progress.stage(f"{name}: judging test rows"):
            of_runs[name] = [report.figures for report in judged_tasks(model, rows, seed=run.seed)]
    first, second = of_runs.values()
    pairs = [pair for a, b in zip(first, second, strict=True) for pair in _pairs(a, b)]
    told = {name: {one.task: one.record() for one in figures} for name, figures in of_runs.items()}
    return {"runs": list(of_runs), "pairs": pairs, "figures": told}


def _pairs(first: LabelFigures, second: LabelFigures) -> list[dict[str, Any]]:
    """Tell the differences of one task; figures that one side has none of are left out."""
    names = [
        name
        for name in _COMPARED[first.kind]
        if all(math.isfinite(side.whole.figures[name].value) for side in (first, second))
    ]
    return [
        {**asdict(difference), "metric": f"{first.task}/{difference.metric}"}
        for difference in label_differences(first, second, names)
    ]
