"""The ranker of a pipeline goes on learning, from what was answered since."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from zhiyin.contracts import Growth, TrainingData
from zhiyin.data.dataset import Dataset
from zhiyin.data.labelled import LabelledExamples
from zhiyin.domain import BoolArray, LongArray
from zhiyin.domain.errors import DataError, TrainingError
from zhiyin.pipeline.ranker_files import labelled, row_context
from zhiyin.pipeline.ranker_stage import RANKER, RankerStage, Unseen
from zhiyin.pipeline.registry import part_with_torch

_FEWEST_NEW = 250
"""Rows from which on something is learned; until then they wait. Fewer made a good ranker worse."""
_FEWEST_HELD = 50
"""Rows that stop a training, and as many that judge it: what nobody judges is not kept."""


def continued(stage: RankerStage, training: TrainingData, growth: Growth) -> RankerStage:
    """Return the stage after it has learned on, from new answers and a sample of old ones.

    A row is new when it was not there before, or had another answer: a view of last week that led to a
    purchase today is learned as one that did. What is held back to stop and to judge by is owed to the next
    round, and so is everything while there are fewer than `_FEWEST_NEW` rows. Where the log does not hold
    what the tasks or the context read, or learning fails, the stage stays as it is.

    Args:
        stage: It answers for the users and items of the data.
        training: Everything, old and new.
        growth: What is new, and how to go on.
    """
    try:
        rows = _rows(stage, training.dataset)
    except DataError as error:
        training.progress.say(f"{RANKER}: it stays as it is: {error}")
        return stage
    is_new = _is_new(stage, rows, training.dataset, growth.is_new)
    waiting = replace(stage, owed=_pairs(rows.take(np.flatnonzero(is_new))))
    random = np.random.default_rng([training.seed, len(rows)])
    parts = _Parts.of(rows, is_new, stage.config.held_out, random)
    if not len(parts.learned):
        if is_new.any():
            training.progress.say(
                f"{RANKER}: {is_new.sum():,} new rows wait for more, {_FEWEST_NEW} at least of several users"
            )
        return waiting
    replayed = random.permutation(parts.old)[: round(growth.continuing.n_replayed(len(parts.learned)))]
    validation, test = rows.take(parts.stopping), rows.take(parts.judging)
    data = part_with_torch("zhiyin.ranking.reading").RankerData(
        rows.take(np.sort(np.concatenate([parts.learned, replayed]))),
        validation,
        None,
        training.seed,
        training.progress,
        training.checkpoints,
    )
    ranker = stage.ranker_copy()
    title = f"{RANKER}: going on from {len(parts.learned):,} new rows and {len(replayed):,} old ones"
    try:
        with training.progress.stage(title):
            ranker.go_on(data, rows.take(np.union1d(parts.learned, parts.old)), growth.continuing)
    except TrainingError as error:
        training.progress.say(f"{RANKER}: it stays as it is: {error}")
        return waiting
    told = ranker.predict(validation), ranker.predict(test)
    unseen = Unseen(validation, test, *told, ranker.is_yes_no)
    owed = _pairs(rows.take(np.concatenate([parts.stopping, parts.judging])))
    return replace(stage, ranker=ranker, unseen=unseen, owed=owed)


@dataclass(frozen=True, eq=False)
class _Parts:
    """Places among the rows.

    Attributes:
        learned: New ones to learn from.
        stopping: New ones that stop the training.
        judging: New ones that judge it.
        old: Others that knew nothing of what is held back.
    """

    learned: LongArray
    stopping: LongArray
    judging: LongArray
    old: LongArray

    @classmethod
    def of(
        cls, rows: LabelledExamples, is_new: BoolArray, share: float, random: np.random.Generator
    ) -> _Parts:
        """Divide new rows by user, since most have a row or two; nothing is learned where they are few."""
        new = np.flatnonzero(is_new)
        if len(new) < _FEWEST_NEW:
            none = new[:0]
            return cls(none, none, none, none)
        distinct, user = np.unique(rows.user_index[new], return_inverse=True)
        drawn = random.permutation(len(distinct))
        n_rows = np.bincount(user)[drawn]
        n_before = np.cumsum(n_rows) - n_rows
        needed = max(round(share * len(new)), _FEWEST_HELD)
        part_of_user = np.empty(len(distinct), dtype=np.int64)
        part_of_user[drawn] = np.minimum(n_before // needed, 2)
        learned, stopping, judging = (new[part_of_user[user] == part] for part in (2, 0, 1))
        # A late event of somebody held back stands before rows of theirs that are old.
        first_held = np.full(len(rows.events), np.iinfo(np.int64).max)
        held = np.concatenate([stopping, judging])
        np.minimum.at(first_held, rows.user_index[held], rows.n_known[held])
        is_old = ~is_new & (rows.n_known <= first_held[rows.user_index])
        return cls(learned, stopping, judging, np.flatnonzero(is_old))


def _rows(stage: RankerStage, dataset: Dataset) -> LabelledExamples:
    """Return all labelled rows with their context; answers of another kind than before are left out.

    Raises:
        DataError: when they cannot be had.
    """
    rows, is_of_shown = labelled(stage.config, dataset)
    if is_of_shown or stage.is_of_shown:
        raise DataError("What was shown, and what came of it, is not in the log of a service.")
    context = row_context(rows, dataset, stage.people, stage.config.network.context)
    rows = replace(rows, context=context, labels=stage.ranker.understood(rows.labels))
    is_known = ~np.isnan(rows.labels).all(axis=1)
    return rows if is_known.all() else rows.take(np.flatnonzero(is_known))


def _is_new(
    stage: RankerStage, rows: LabelledExamples, dataset: Dataset, is_new_event: BoolArray
) -> BoolArray:
    """(N,) bool: rows that were not there before, had another answer, or have not been learned from yet."""
    asked, owed = _keys(_pairs(rows), dataset.n_items), _keys(stage.owed, dataset.n_items)
    is_owed: BoolArray = np.isin(asked, owed)
    if not stage.config.first_meetings:
        is_new: BoolArray = is_new_event[rows.events.offsets[:-1][rows.user_index] + rows.n_known]
        return is_new | is_owed
    # Nothing was hidden from the bundle: events that came late lay in nobody's future.
    known_then = replace(dataset.with_events(~is_new_event), first_hidden=None)
    try:
        before, _ = labelled(stage.config, known_then)
    except DataError:  # nothing was answered yet
        return np.ones(len(rows), dtype=np.bool_)
    known = _keys(_pairs(before), dataset.n_items)
    order = np.argsort(known)
    place = np.minimum(np.searchsorted(known[order], asked), len(known) - 1)
    found = order[place]
    was, says = stage.ranker.understood(before.labels)[found], rows.labels
    is_same: BoolArray = ((was == says) | np.isnan(says)).all(axis=1)
    changed: BoolArray = (known[found] != asked) | ~is_same
    return changed | is_owed


def _pairs(rows: LabelledExamples) -> LongArray:
    """(N, 2) users and items."""
    return np.stack([rows.user_index, rows.item_index], axis=1).astype(np.int64)


def _keys(pairs: LongArray, n_items: int) -> LongArray:
    keys: LongArray = pairs[:, 0] * n_items + pairs[:, 1]
    return keys
