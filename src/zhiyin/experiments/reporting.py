"""From a trained and judged pipeline to the values of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from zhiyin.contracts import SCORE, CandidateSource, settings_of
from zhiyin.data.dataset import Dataset
from zhiyin.data.splits import Split
from zhiyin.domain import Candidates
from zhiyin.evaluation.breakdown import by_cold_items, by_history_length, by_item_popularity, source_shares
from zhiyin.evaluation.evaluation import Evaluation, RunRecord
from zhiyin.evaluation.labels.figures import LabelFigures
from zhiyin.evaluation.machine import versions
from zhiyin.evaluation.report import render_report
from zhiyin.evaluation.report_data import (
    Epoch,
    ExampleSlate,
    ReportData,
    ReportRow,
    Role,
    ShownItem,
    TrainingCurve,
)
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.presentation.reasons import title_of

REAL_SHARE = 0.1
"""A source that added less than this share of a score is not named as its proposer."""

_FLOOR = "popularity"
_EXAMPLES = 3
_SHOWN_HISTORY = 8
_SHOWN_PLACES = 10


def report_page(
    pipeline: Pipeline,
    dataset: Dataset,
    split: Split,
    run: RunRecord,
    evaluation: Evaluation,
    alone: Mapping[str, Evaluation],
    predictions: tuple[LabelFigures, ...] = (),
) -> str:
    """Return the report as one HTML page that needs no network."""
    names = [source.name for source in pipeline.sources]
    metric = f"recall_at_{evaluation.settings.longest}"
    rows = [ReportRow.of(run.recipe, Role.PIPELINE, evaluation)]
    for name, judged in alone.items():
        rows.append(ReportRow.of(name, Role.FLOOR if name == _FLOOR else Role.SOURCE, judged))
    data = ReportData(
        dataset=run.dataset,
        recipe=run.recipe,
        protocol=run.protocol,
        command=run.command,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        n_queries=len(evaluation),
        repeat=evaluation.settings.repeat,
        rows=tuple(rows),
        breakdowns=(
            by_history_length(evaluation, metric),
            by_item_popularity(evaluation, metric),
            by_cold_items(evaluation, metric),
        ),
        sources=tuple(source_shares(_credited(evaluation, names), evaluation.settings.longest, names)),
        calibration=evaluation.calibration,
        predictions=predictions,
        curves=tuple(curve for source in pipeline.sources if (curve := _curve(source)) is not None),
        examples=tuple(example_slates(pipeline, split, _EXAMPLES)),
        data=_facts(dataset, split),
        costs=_costs(run, evaluation),
        settings=_settings(pipeline),
        versions=dict(versions()),
    )
    return render_report(data)


def example_slates(pipeline: Pipeline, split: Split, n: int) -> list[ExampleSlate]:
    """Ask for a few test users whose histories are long enough to be read, the same ones every time."""
    lengths = split.test.queries.histories.lengths
    readable = np.flatnonzero((lengths >= 4) & (lengths <= 2 * _SHOWN_HISTORY))
    readable = readable if len(readable) >= n else np.arange(len(lengths))
    chosen = readable[np.linspace(0, len(readable) - 1, num=min(n, len(readable)), dtype=np.int64)]
    examples = split.test.take(chosen)
    slate = pipeline.recommend(examples.queries, _SHOWN_PLACES)
    explained = pipeline.explain(examples.queries, slate)
    catalogue = pipeline.catalogue_or_raise()
    slates = []
    for row, recommendations in enumerate(explained):
        taken = {int(item) for item in examples.targets.row(row)}
        history = (
            examples.queries.histories.slice(row, row + 1).without_repeats().newest(_SHOWN_HISTORY).item_index
        )
        shown = [
            ShownItem(
                title_of(catalogue, int(slate.item_index[row, place])),
                proposers(recommendation.sources or {}),
                int(slate.item_index[row, place]) in taken,
            )
            for place, recommendation in enumerate(recommendations)
        ]
        slates.append(
            ExampleSlate(
                user=split.train.users.id(int(examples.queries.user_index[row])),
                history=tuple(title_of(catalogue, int(item)) for item in history),
                recommended=tuple(shown),
                taken=tuple(title_of(catalogue, item) for item in taken),
            )
        )
    return slates


def proposers(parts: Mapping[str, float]) -> tuple[str, ...]:
    """Name the sources that added at least `REAL_SHARE` of the score, strongest first."""
    total = sum(part for part in parts.values() if part > 0)
    strong = [name for name, part in parts.items() if part > 0 and part >= REAL_SHARE * total]
    return tuple(sorted(strong, key=lambda name: -parts[name]))


def _credited(evaluation: Evaluation, names: Sequence[str]) -> Evaluation:
    """Let a source count as proposer only where it added a real share of the score."""
    slates = evaluation.slates
    parts = np.stack([np.nan_to_num(slates.column(f"{name}:part")).clip(min=0.0) for name in names])
    is_real = parts >= REAL_SHARE * parts.sum(axis=0, keepdims=True)
    columns = {
        name: np.where(is_real[place] & (parts[place] > 0), parts[place], np.float32(np.nan))
        for place, name in enumerate(names)
    }
    scored = {SCORE: slates.column(SCORE), **columns}
    return replace(evaluation, slates=Candidates(slates.item_index, scored))


def _curve(source: CandidateSource) -> TrainingCurve | None:  # type: ignore[type-arg]
    epochs = source.state().facts.get("learning_curve", {}).get("epochs", [])
    if not epochs:
        return None
    return TrainingCurve(
        source.name,
        tuple(
            Epoch(
                int(epoch["epoch"]),
                float(epoch["train_loss"]),
                float("nan") if epoch["validation"] is None else float(epoch["validation"]),
            )
            for epoch in epochs
        ),
    )


def _facts(dataset: Dataset, split: Split) -> dict[str, str]:
    touched = float((dataset.item_counts > 0).mean()) if dataset.n_items else 0.0
    return {
        "Users": f"{dataset.n_users:,}",
        "Items": f"{dataset.n_items:,}",
        "Interactions": f"{dataset.n_interactions:,}",
        "Interactions trained on": f"{split.train.n_interactions:,}",
        "Items with an interaction": f"{touched:.1%}",
        "Median history": f"{np.median(dataset.histories.lengths):.0f}",
        "Event kinds": ", ".join(dataset.event_kinds),
    }


def _costs(run: RunRecord, evaluation: Evaluation) -> dict[str, str]:
    costs = {"Ranking for all test users": f"{evaluation.scoring_seconds:.1f} s"}
    if run.fit_seconds is not None:
        costs = {"Training": f"{run.fit_seconds:.1f} s"} | costs
    if evaluation.peak_memory_mb is not None:
        costs["Peak memory"] = f"{evaluation.peak_memory_mb:,.0f} MB"
    return costs


def _settings(pipeline: Pipeline) -> dict[str, str]:
    settings: dict[str, str] = {}
    for source in pipeline.sources:
        listed = settings_of(source.chosen)
        settings |= {f"sources.{source.name}.{setting.path}": str(setting.value) for setting in listed}
    settings |= {f"merge.{s.path}": str(s.value) for s in settings_of(pipeline.config.merge)}
    if pipeline.ranker is not None:
        settings |= {f"ranker.{s.path}": str(s.value) for s in settings_of(pipeline.config.ranker)}
    if pipeline.reranking is None:
        return settings
    settings |= {f"rerank.{s.path}": str(s.value) for s in settings_of(pipeline.config.rerank)}
    weights = pipeline.reranking.facts()["weights"]
    return settings | {
        f"rerank: weight with {name} events": f"{weight:.3g}" for name, weight in weights.items()
    }
