"""What `zhiyin evaluate` says beyond one table, for protocols about what has never been seen."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from zhiyin.cli.terminal import OUT, command_line, metrics_table, told_interval
from zhiyin.contracts import Progress
from zhiyin.data.dataset import Dataset
from zhiyin.evaluation.evaluation import RunRecord
from zhiyin.evaluation.protocol import EvaluationSettings
from zhiyin.experiments.cold_start import FewShots, judge_everybody, judge_steps
from zhiyin.experiments.training import Trained
from zhiyin.experiments.transferring import ZERO_SHOT, judge_zero_shot
from zhiyin.pipeline.bundle import load_bundle, read_card


def further_figures(
    trained: Trained,
    settings: EvaluationSettings,
    run: RunRecord,
    json_file: Path | None,
    progress: Progress,
) -> Mapping[str, Any]:
    """Judge what a split asks for beside its test examples, print it, and return it as plain values."""
    if trained.split.everybody is not None:
        return _everybody(trained, settings, run, progress)
    if trained.split.steps:
        return _steps(trained, settings, json_file, progress)
    return {}


def evaluate_zero_shot(
    bundle: Path, dataset: Dataset, settings: EvaluationSettings, seed: int, progress: Progress
) -> Mapping[str, Any]:
    """Judge a bundle on data it was not trained on, print it, and return it as plain values."""
    trained_on = str(read_card(bundle).get("training", {}).get("dataset", "?"))
    pipeline = load_bundle(bundle)
    transfer = judge_zero_shot(
        pipeline, dataset, trained_on=trained_on, settings=settings, seed=seed, progress=progress
    )
    name = pipeline.config.recipe
    columns = {f"{name} of {trained_on}": transfer.judged}
    OUT.print(metrics_table(columns | {f"{n}, trained here": j for n, j in transfer.trained_there.items()}))
    OUT.print(f"\n{len(transfer.judged):,} users, nothing trained on {dataset.name}", highlight=False)
    for sentence in transfer.words():
        OUT.print(sentence, highlight=False)
    run = RunRecord(dataset.name, name, ZERO_SHOT, seed, None, command_line())
    return transfer.judged.record(run) | {"zero_shot": transfer.record()}


def _everybody(
    trained: Trained, settings: EvaluationSettings, run: RunRecord, progress: Progress
) -> Mapping[str, Any]:
    everybody = judge_everybody(trained, settings, progress)
    columns = {"all users": everybody.judged}
    if everybody.without_slots is not None:
        columns["all users, no place kept"] = everybody.without_slots
    OUT.print("\nAll users under leave-last-out, after the same training:")
    OUT.print(metrics_table(columns))
    difference, (warm, before) = everybody.difference, everybody.warm
    if difference is not None and before is not None:
        OUT.print(
            f"\nPlaces for new items change {difference.metric} of all users by {difference.value:+.4f} "
            f"[{difference.low:+.4f} – {difference.high:+.4f}], and by {warm.value - before.value:+.4f} for "
            f"the {warm.n_queries:,} whose item training has seen.",
            highlight=False,
        )
    return everybody.record(run)


def _steps(
    trained: Trained, settings: EvaluationSettings, json_file: Path | None, progress: Progress
) -> Mapping[str, Any]:
    shots = judge_steps(trained, settings, progress)
    metric = f"recall_at_{settings.longest}"
    OUT.print(f"\n{metric} of the same users, by the items known of them:")
    OUT.print(_table_of(shots, metric))
    if json_file is not None:
        picture = json_file.with_suffix(".svg")
        picture.write_text(shots.picture(metric), encoding="utf-8")
        OUT.print(f"Picture: {picture}", highlight=False)
    return {"few_shots": shots.record()}


def _table_of(shots: FewShots, metric: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("items known", *(str(n) for n in shots.known)):
        table.add_column(heading, no_wrap=True)
    for name, steps in shots.judged.items():
        table.add_row(name, *(told_interval(evaluation.interval(metric)) for evaluation in steps))
    return table
