"""Fine-tuning as one call: data, base model and settings in, a folder with model, card and report out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from zhiyin.contracts import Progress, Silent, settings_of
from zhiyin.data.dataset import Dataset
from zhiyin.domain.errors import RequestError, did_you_mean
from zhiyin.evaluation.labels.card import model_card
from zhiyin.evaluation.labels.page import finetuning_page
from zhiyin.evaluation.labels.run_report import FinetuningCosts, FinetuningEpoch, FinetuningReport, TaskReport
from zhiyin.evaluation.machine import peak_memory_mb, versions
from zhiyin.experiments.runs import readable_part, run_beside
from zhiyin.experiments.settings_file import nested
from zhiyin.language.finetuning.settings import FinetuningConfig
from zhiyin.language.model_files import locate_model
from zhiyin.pipeline.registry import part_with_torch

_PLACE = "zhiyin.language.finetuning"
REPORT, CARD, FIGURES = "report.html", "README.md", "figures.json"
_PURCHASES = ("purchase", "buy", "order", "transaction", "sale")
_CLICKS = ("click", "open", "read", "play")
TASKS = ("click", "purchase", "rating", "next", "pairwise", "listwise")
"""Tasks that have a name of their own; any other is described by settings."""
_SHAPES = {"cross": "cross-encoder", "towers": "two-tower"}


@dataclass(frozen=True)
class FinetuningOrder:
    """What is to be fine-tuned.

    Attributes:
        out: Folder of the new model.
        base: What to start from: a folder, a Hugging Face id, or ``default``.
        tasks: Names of `TASKS`, or of tasks that the settings describe.
        settings: Dotted path below `FinetuningConfig` → value.
        merge: Whether the whole network is written too.
        seed: Of every draw.
        tracker: Where curves are written; see `zhiyin.training.trackers`.
        command: Command line that says the same, for the report.
        protocol: The events it would hold back are not read, so that a pipeline with the model may be
            evaluated by it afterwards; everything is read when None. Impressions are read whole.
    """

    out: Path
    base: str
    tasks: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    merge: bool = False
    seed: int = 0
    tracker: str = "none"
    command: str = ""
    protocol: str | None = None


def finetune_on(
    dataset: Dataset, order: FinetuningOrder, progress: Progress | None = None
) -> tuple[FinetuningReport, dict[str, Any]]:
    """Fine-tune a language model on the log of a data set, and report on rows that were held back.

    A killed run goes on where it stood: its checkpoints lie beside ``out``, in ``OUT.checkpoints``, and go
    when the model is written. Curves of a tracker lie in ``OUT.runs``.

    Args:
        dataset: Whose rows are learned from.
        order: What, from what, where to.
        progress: Who listens.

    Returns:
        The report, and the same and more as JSON can hold it.

    Raises:
        ConfigError: when a setting, the base model or ``out`` is wrong.
        DataError: when labels are missing or say nothing.
        MissingExtra: when the packages for language models are not installed.
        RequestError: when a task is not known.
        TrainingError: when the loss is not a number.
    """
    parts = {name: part_with_torch(f"{_PLACE}.{name}") for name in ("fitting", "rows", "saving", "wording")}
    judging = part_with_torch("zhiyin.experiments.finetuned_figures")
    config = settings_for(order, dataset)
    parts["saving"].refuse_strange_folder(order.out)
    parts["saving"].refuse_unmergeable(config, merge=order.merge)
    base, told = locate_model(order.base), progress or Silent()
    known = readable_part(dataset, order.protocol)
    rows = parts["rows"].rows_of(known, config, seed=order.seed)
    if config.wording.history_items and _knows_nothing(rows):
        told.say("finetune: no history is read: no row has anything before it, or none says when it was")
    background = parts["wording"].Background.of(known)
    surroundings = run_beside(order.out, "finetune", seed=order.seed, progress=told, tracker=order.tracker)
    with surroundings as run:
        model, facts = parts["fitting"].finetune(base, background, rows, config, run)
        with told.stage("finetune: judging held-back rows"):
            tasks = judging.judged_tasks(model, rows, seed=order.seed)
        report = _report(dataset, order, config, facts, tasks, _counts(rows))
        record = _plain({**facts, "figures": {task.figures.task: task.figures.record() for task in tasks}})
        texts = {
            CARD: model_card(report),
            REPORT: finetuning_page(report),
            FIGURES: json.dumps(record, indent=2),
        }
        parts["saving"].save_finetuned(model, order.out, texts, merge=order.merge)
    return report, record


def _knows_nothing(rows: Any) -> bool:
    """Whether no labelled row comes after anything that its user did; impressions need times for that."""
    return rows.labelled is not None and not any(part.n_known.any() for part in vars(rows.labelled).values())


def settings_for(order: FinetuningOrder, dataset: Dataset) -> FinetuningConfig:
    """Join the named tasks with the settings, which may say more about them.

    Raises:
        ConfigError: when a setting is wrong.
        RequestError: when a task has no name of its own and no settings.
    """
    settings = dict(nested(order.settings))
    described: dict[str, Any] = dict(settings.get("tasks", {}))
    tasks = {
        name: {**_named_task(name, dataset, described), **described.get(name, {})} for name in order.tasks
    }
    tasks |= {name: task for name, task in described.items() if name not in tasks}
    config: FinetuningConfig = FinetuningConfig.parse({**settings, "tasks": tasks}, where="finetune")
    return config


def _named_task(name: str, dataset: Dataset, described: Mapping[str, Any]) -> dict[str, Any]:
    if name in {"next", "rating", "pairwise", "listwise"}:
        return {"kind": name}
    words = {"click": _CLICKS, "purchase": _PURCHASES}.get(name)
    if words is not None:
        kinds = tuple(kind for kind in dataset.event_kinds if kind.lower() in words)
        # One kind alone tells nothing apart: then the values do.
        if kinds and len(dataset.event_kinds) > 1:
            return {"kind": "yes_no", "column": "event", "yes_words": kinds}
        return {"kind": "yes_no"}
    if name in described:
        return {}
    raise RequestError(
        f"There is no task '{name}'.{did_you_mean(name, TASKS)}",
        possible=f"Tasks with a name of their own: {', '.join(TASKS)}.",
        remedy=f"Describe another one by settings, such as --set tasks.{name}.column={name}.",
    )


def shown_settings(config: FinetuningConfig) -> dict[str, str]:
    """Return every setting in force as a reader can write it again; tasks as JSON without their defaults."""
    in_force = settings_of(config.with_usual_rate())
    settings = {setting.path: str(setting.value) for setting in in_force}
    tasks = {name: task.model_dump(exclude_defaults=True) for name, task in config.tasks.items()}
    return settings | {"tasks": json.dumps(tasks, ensure_ascii=False)}


def _report(
    dataset: Dataset,
    order: FinetuningOrder,
    config: FinetuningConfig,
    facts: Mapping[str, Any],
    tasks: tuple[TaskReport, ...],
    counts: Mapping[str, str],
) -> FinetuningReport:
    names = ", ".join(task.figures.task for task in tasks)
    costs = FinetuningCosts(
        n_parameters=facts["n_parameters"],
        n_trained=facts["n_trained"],
        seconds=facts["seconds"],
        device=f"{facts['device']}, {facts['threads']} threads, {facts['precision']}",
        peak_memory_mb=peak_memory_mb(),
        tokens_per_second=facts["n_tokens"] / facts["seconds"] if facts["seconds"] else None,
    )
    epochs = tuple(
        FinetuningEpoch(
            epoch["epoch"],
            epoch["train_loss"],
            {} if epoch["validation"] is None else {facts["metric"]: epoch["validation"]},
        )
        for epoch in facts["epochs"]
    )
    settings = shown_settings(config)
    return FinetuningReport(
        name=f"{names} on {dataset.name}",
        base=facts["base"],
        method=config.method.name,
        shape=_SHAPES[config.reader],
        dataset=dataset.name,
        costs=costs,
        tasks=tasks,
        epochs=epochs,
        chosen_by="" if facts["metric"] == "none" else facts["metric"],
        data=counts,
        settings=settings,
        versions=versions(),
        command=order.command,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )


def _plain(record: dict[str, Any]) -> dict[str, Any]:
    """Return what JSON can hold: a figure that says nothing is null."""
    plain: dict[str, Any] = json.loads(json.dumps(record, default=str), parse_constant=lambda _: None)
    return plain


def _counts(rows: Any) -> dict[str, str]:
    """Say how many rows each part of the data has."""
    counts = {}
    for what, split in (("", rows.labelled), ("next items, ", rows.following)):
        if split is not None:
            for part in ("train", "validation", "test"):
                counts[f"{what}{part} rows"] = f"{len(getattr(split, part)):,}"
    return counts
