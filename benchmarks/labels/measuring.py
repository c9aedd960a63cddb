"""What all measurements of labels share: judging, comparing, writing down."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from zhiyin.data.labelled import LabelledExamples
from zhiyin.evaluation.labels.chances import judge_chances
from zhiyin.evaluation.labels.figures import LabelFigures, label_differences, label_differences_by_history
from zhiyin.evaluation.labels.predicted import PredictedLabels
from zhiyin.evaluation.labels.values import judge_values
from zhiyin.evaluation.machine import peak_memory_mb, versions

N_RESAMPLES = 500
CHANCES = ("roc_auc", "log_loss", "gauc")
VALUES = ("rmse", "mae")


def only(rows: LabelledExamples, tasks: Sequence[str]) -> LabelledExamples:
    """Return the rows with the labels of some tasks."""
    places = [rows.tasks.index(task) for task in tasks]
    return replace(rows, tasks=tuple(tasks), labels=rows.labels[:, places])


def judged(rows: LabelledExamples, task: str, told: np.ndarray) -> LabelFigures:
    """Judge the (N,) predictions of one task, users resampled."""
    labels = rows.labels[:, rows.tasks.index(task)]
    known = np.flatnonzero(~np.isnan(labels))
    predicted = PredictedLabels(task, labels[known], told[known], rows.user_index[known], rows.n_known[known])
    if np.isin(labels[known], (0.0, 1.0)).all():
        return judge_chances(predicted, n_resamples=N_RESAMPLES)
    return judge_values(predicted, n_resamples=N_RESAMPLES)


def figures_of(judged_labels: LabelFigures) -> dict[str, Any]:
    """Return the figures that matter, with intervals and by length of history."""
    names = [name for name in (*CHANCES, *VALUES) if name in judged_labels.figures]
    main = names[0]
    by_history = {
        part.label: {"n_rows": part.n_rows, main: part.figures[main].value}
        for part in judged_labels.by_history
    }
    return {**{name: asdict(judged_labels.figures[name]) for name in names}, "by_history": by_history}


def differences(first: LabelFigures, second: LabelFigures) -> dict[str, Any]:
    """Return first minus second, paired, with intervals by user."""
    names = [name for name in (*CHANCES, *VALUES) if name in first.figures]
    whole = {found.metric: asdict(found) for found in label_differences(first, second, names)}
    by_history = label_differences_by_history(first, second, names[0])
    return {**whole, "by_history": {label: asdict(found) for label, found in by_history.items()}}


def written(path: Path, name: str) -> Any:
    """Return what an earlier run wrote under this name; empty where there is none, so that runs can go on."""
    return json.loads(path.read_text("utf-8")).get(name, {}) if path.exists() else {}


def write(path: Path, outcome: Mapping[str, Any]) -> None:
    """Write one JSON file, with what it was measured on."""
    machine = {
        "processor": platform.processor() or platform.machine(),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "peak_memory_mb": peak_memory_mb(),
        "versions": dict(versions()),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**outcome, "machine": machine}, indent=1, default=float) + "\n", "utf-8")
