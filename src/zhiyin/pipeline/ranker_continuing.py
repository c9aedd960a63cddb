"""The ranker of a pipeline goes on learning, from what was answered since."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from zhiyin.contracts import Growth, TrainingData
from zhiyin.data.dataset import Dataset
from zhiyin.data.labelled import LabelledExamples
from zhiyin.domain import BoolArray, IndexArray, LongArray
from zhiyin.domain.errors import DataError
from zhiyin.pipeline.ranker_files import labelled, row_context
from zhiyin.pipeline.ranker_stage import RANKER, RankerStage, Unseen
from zhiyin.pipeline.registry import part_with_torch

_FEWEST_TO_JUDGE = 50
"""Rows held back from which on they say whether a pass over the rows has helped."""


def continued(stage: RankerStage, training: TrainingData, growth: Growth) -> RankerStage:
    """Return the stage after it has learned on, from new answers and a sample of old ones.

    A row is new when it was not there before, or had another answer: a view of last week that led to a
    purchase today is learned as one that did. Where the log does not hold what the tasks or the context
    read, or says other things than before, the stage stays as it is.

    Args:
        stage: It answers for the users and items of the data.
        training: Everything, old and new.
        growth: What is new, and how to go on.

    Raises:
        TrainingError: when the loss is not a number.
    """
    dataset = training.dataset
    rows = _rows(stage, dataset)
    if rows is None or not stage.ranker.understands(rows):
        training.progress.say("ranker: the log does not hold what it learned from; it stays as it is")
        return stage
    is_new = _is_new(stage, rows, dataset, growth.is_new)
    new, old = np.flatnonzero(is_new), np.flatnonzero(~is_new)
    random = np.random.default_rng(training.seed)
    parts = _held_back(rows.user_index[new], stage.config.held_out, random)
    learned, stopping, judging = (new[part] for part in parts)
    if not len(learned):
        return stage
    replayed = random.permutation(old)[: round(growth.continuing.n_replayed(len(learned)))]
    held = np.concatenate([stopping, judging])
    validation, test = rows.take(stopping), rows.take(judging)
    data = part_with_torch("zhiyin.ranking.reading").RankerData(
        rows.take(np.sort(np.concatenate([learned, replayed]))),
        validation if len(validation) else None,
        None,
        training.seed,
        training.progress,
        training.checkpoints,
    )
    ranker = stage.ranker_copy()
    title = f"{RANKER}: going on from {len(learned):,} new rows and {len(replayed):,} old ones"
    with training.progress.stage(title):
        ranker.go_on(data, rows.take(np.setdiff1d(np.arange(len(rows)), held)), growth.continuing)
    unseen = None
    if len(test):
        told = ranker.predict(validation), ranker.predict(test)
        unseen = Unseen(validation, test, *told, ranker.is_yes_no)
    return replace(stage, ranker=ranker, unseen=unseen)


def _rows(stage: RankerStage, dataset: Dataset) -> LabelledExamples | None:
    """Return all labelled rows with their context; None where they cannot be had."""
    try:
        rows, is_of_shown = labelled(stage.config, dataset)
        columns = stage.config.network.context
        context = row_context(rows, dataset, stage.people, columns)
    except DataError:
        return None
    return None if is_of_shown or stage.is_of_shown else replace(rows, context=context)


def _is_new(
    stage: RankerStage, rows: LabelledExamples, dataset: Dataset, is_new_event: BoolArray
) -> BoolArray:
    """(N,) bool: rows that were not there before, or had another answer."""
    if not stage.config.first_meetings:
        is_new: BoolArray = is_new_event[rows.events.offsets[:-1][rows.user_index] + rows.n_known]
        return is_new
    # Nothing was hidden from the bundle: events that came late lay in nobody's future.
    known_then = replace(dataset.with_events(~is_new_event), first_hidden=None)
    try:
        before, _ = labelled(stage.config, known_then)
    except DataError:  # nothing was answered yet
        return np.ones(len(rows), dtype=np.bool_)
    known, asked = (_pairs(each, dataset.n_items) for each in (before, rows))
    order = np.argsort(known)
    place = np.minimum(np.searchsorted(known[order], asked), len(known) - 1)
    found = order[place]
    is_there = known[found] == asked
    was, says = before.labels[found], rows.labels
    is_same: BoolArray = ((was == says) | np.isnan(says)).all(axis=1)
    changed: BoolArray = ~(is_there & is_same)
    return changed


def _pairs(rows: LabelledExamples, n_items: int) -> LongArray:
    pairs: LongArray = rows.user_index.astype(np.int64) * n_items + rows.item_index
    return pairs


def _held_back(
    users: IndexArray, share: float, random: np.random.Generator
) -> tuple[LongArray, LongArray, LongArray]:
    """Divide rows by user, (N,) of whom each is: places to learn from, to stop by, to judge by.

    Users in whole, because most have a row or two that are new; nobody where too few rows would be held.
    """
    distinct, user = np.unique(users, return_inverse=True)
    rank = random.permutation(len(distinct))[user] / max(len(distinct), 1)
    part = (rank < share).astype(np.int64) + (rank < 2 * share)
    if min(np.count_nonzero(part == 1), np.count_nonzero(part == 2)) < _FEWEST_TO_JUDGE:
        part[:] = 0
    learned, stopping, judging = (np.flatnonzero(part == number) for number in range(3))
    return learned, stopping, judging
