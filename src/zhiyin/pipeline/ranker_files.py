"""Where the ranker of a pipeline comes from: labelled rows, the bundle before, a bundle on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from zhiyin.contracts import ComponentState, TrainingData
from zhiyin.data.dataset import Dataset
from zhiyin.data.labelled import (
    LabelledExamples,
    LabelledSplit,
    LabelRule,
    are_of_interactions,
    labelled_examples,
    split_by_time,
)
from zhiyin.data.outcomes import outcomes_of_meetings
from zhiyin.domain import Catalogue, FloatArray, Vocabulary
from zhiyin.domain.errors import BundleError, ConfigError, DataError, did_you_mean
from zhiyin.pipeline.files import read_state, write_state
from zhiyin.pipeline.moments import people_in, people_of
from zhiyin.pipeline.ranker_stage import RANK, RankerStage, Unseen, described_by, usual_number
from zhiyin.pipeline.registry import part_with_torch
from zhiyin.pipeline.settings import RankerStageConfig

_RANKER = "zhiyin.ranking.ranker"
_PEOPLE = "users.parquet"
_OWED = "owed"
_KEPT = ("is_of_shown", "usual", "first_rank")
_OF_THE_EVENT = frozenset({"event", "value", "timestamp"})
"""Columns that say what happened, and are there only afterwards."""
_MOST_HELD = 40_000
"""Rows to stop and to judge by, at most; more would make neither surer than it needs to be."""


def fit_ranker_stage(
    config: RankerStageConfig, training: TrainingData, vectors: FloatArray | None
) -> RankerStage:
    """Train a ranker on what interactions or impressions say of its tasks.

    Args:
        config: Settings.
        training: What may be learned from.
        vectors: (I, D) of the texts of all items; None learns without texts.

    Raises:
        DataError: when no table holds the columns, or a column of the context is nowhere.
        TrainingError: when the labels of a task are all equal.
        MissingExtra: when PyTorch is not installed.
    """
    dataset, columns = training.dataset, config.network.context
    _refuse_told_answers(config)
    multiplied = {task.times for task in config.tasks.values()} - {""}
    usual = {name: usual_number(dataset.catalogue, name) for name in sorted(multiplied)}
    rows, is_of_shown = labelled(config, dataset)
    people = people_of(dataset, columns)
    first_rank = _first_rank(rows) if RANK in columns else None
    rows = replace(rows, context=row_context(rows, dataset, people, columns))
    split = _divided(rows, config.held_out, training.seed)
    ranker = part_with_torch(_RANKER).MultiTaskRanker(config.network)
    with training.progress.stage(
        f"ranker: learning {', '.join(config.tasks)} from {len(split.train):,} rows"
    ):
        ranker.fit(
            part_with_torch("zhiyin.ranking.reading").RankerData(
                split.train,
                split.validation if len(split.validation) else None,
                vectors,
                training.seed,
                training.progress,
                training.checkpoints,
            )
        )
    if vectors is None:  # then it has counted only the items it met
        ranker.add_items(np.zeros((dataset.n_items - ranker.n_items, 1), dtype=np.float32))
    stage = RankerStage(config, ranker, people, is_of_shown, usual, first_rank)
    if not len(split.test):
        return stage
    predicted = (ranker.predict(split.validation), ranker.predict(split.test))
    stage = replace(stage, unseen=Unseen(split.validation, split.test, *predicted, ranker.is_yes_no))
    for held in (split.validation, split.test):
        stage = stage.owing(held.user_index, held.item_index)
    return stage


def rules_of(config: RankerStageConfig) -> dict[str, LabelRule]:
    """Return how the labels of each task follow from a row."""
    return {
        name: LabelRule(task.column, task.yes_from, task.yes_words) for name, task in config.tasks.items()
    }


def can_be_learned(config: RankerStageConfig, dataset: Dataset) -> bool:
    """Whether a table holds every column that the tasks and the context read, and answers that differ.

    What a service stores of an event is its kind and value; columns beyond them are not in its log.
    """
    columns = config.network.context
    try:
        rows, _ = labelled(config, dataset)
        row_context(rows, dataset, people_of(dataset, columns), columns)
    except DataError:
        return False
    known = [column[~np.isnan(column)] for column in rows.labels.T]
    return all(len(answers) > 0 and answers.min() < answers.max() for answers in known)


def carried_over(
    stage: RankerStage, known: Vocabulary, users: Vocabulary, table: pl.DataFrame | None = None
) -> RankerStage:
    """Return the stage with what it learned, for other users.

    Args:
        stage: It knows every item there is.
        known: The users it was made for.
        users: Those it is to answer for; of those who are not among them nothing is left.
        table: What is said of users now, everything the stage knew of them included; None leaves that.
    """
    after = stage.with_users(known.indices(users.ids))
    if table is None:
        return after
    return replace(after, people=people_in(table, users, stage.config.network.context))


def write_ranker_stage(stage: RankerStage, folder: Path) -> None:
    """Write what was learned and what is read of users into a new folder."""
    state = stage.ranker.state()
    facts = {name: getattr(stage, name) for name in _KEPT} | {"ranker": dict(state.facts)}
    write_state(ComponentState({**state.arrays, _OWED: stage.owed}, facts), folder)
    if stage.people.width:
        stage.people.write_parquet(folder / _PEOPLE)


def read_ranker_stage(folder: Path, config: RankerStageConfig, catalogue: Catalogue) -> RankerStage:
    """Read what `write_ranker_stage` wrote.

    Raises:
        BundleError: when a file is missing or does not belong to the others.
        MissingExtra: when PyTorch is not installed.
    """
    state = read_state(folder)
    ranker = part_with_torch(_RANKER).MultiTaskRanker(config.network)
    ranker.restore(ComponentState(state.arrays, state.facts["ranker"]))
    if ranker.n_items != len(catalogue) or ranker.tasks != tuple(config.tasks):
        raise BundleError(
            f"{folder} does not belong to the rest of the bundle.", remedy="Train the bundle again."
        )
    people = pl.read_parquet(folder / _PEOPLE) if (folder / _PEOPLE).is_file() else pl.DataFrame()
    owed = np.asarray(state.arrays.get(_OWED, np.empty((0, 2))), dtype=np.int64)
    return RankerStage(config, ranker, people, **{name: state.facts[name] for name in _KEPT}, owed=owed)


def labelled(config: RankerStageConfig, dataset: Dataset) -> tuple[LabelledExamples, bool]:
    """Return the rows of all tasks, and whether they are impressions."""
    rules = rules_of(config)
    is_of_shown = not are_of_interactions(dataset, rules)
    at_once = config.first_meetings and not is_of_shown
    rows = outcomes_of_meetings(dataset, rules) if at_once else labelled_examples(dataset, rules)
    return rows, is_of_shown


def _first_rank(rows: LabelledExamples) -> float | None:
    """Return what the rows say of the first place; None where the rank is that of something else."""
    if RANK not in rows.context.columns or not rows.context[RANK].dtype.is_numeric():
        return None
    first = rows.context[RANK].min()
    return None if first is None else float(first)  # type: ignore[arg-type]


def _refuse_told_answers(config: RankerStageConfig) -> None:
    for name in config.network.context:
        if name in _OF_THE_EVENT:
            raise ConfigError(
                f"The ranker cannot read '{name}': no request knows it.",
                remedy="Take it out of ranker.network.context; what users did before is read anyhow.",
            )
    for name, task in config.tasks.items():
        if task.column in config.network.context:
            raise ConfigError(
                f"The answer of task '{name}' would stand in what is read: '{task.column}'.",
                remedy="Take the column out of ranker.network.context.",
            )


def _divided(rows: LabelledExamples, share: float, seed: int) -> LabelledSplit:
    """Hold back the newest rows of drawn users, no more of all rows than the shares say: where most users
    have few rows, holding back one of each would leave little to learn from.
    """
    most = min(round(2 * share * len(rows)), _MOST_HELD)
    return split_by_time(rows, validation=share, test=share, most=most, seed=seed)


def row_context(
    rows: LabelledExamples, dataset: Dataset, people: pl.DataFrame, columns: Sequence[str]
) -> pl.DataFrame:
    """Join what is read of users and items to the context of rows."""
    context = rows.context
    for name in columns:
        if name in context.columns:
            continue
        if name in people.columns:
            column = people[name].gather(rows.user_index)
        elif name in dataset.catalogue.table.columns:
            column = described_by(dataset.catalogue, name, rows.item_index)
        else:
            there = [*context.columns, *dataset.catalogue.table.columns]
            there += [] if dataset.user_table is None else dataset.user_table.columns
            raise DataError(
                f"The ranker reads '{name}', which neither rows nor users nor items have."
                + did_you_mean(name, there),
                possible=f"Columns: {', '.join(dict.fromkeys(there))}.",
            )
        context = context.with_columns(column.alias(name))
    return context
