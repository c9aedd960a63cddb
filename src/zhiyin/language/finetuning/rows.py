"""Which rows a task learns from, is chosen by, and is reported on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from zhiyin.data.dataset import Dataset
from zhiyin.data.labelled import (
    LabelledExamples,
    LabelledSplit,
    LabelRule,
    labelled_examples,
    next_items,
    part_of_words,
    split_by_column,
    split_by_time,
    without_held_events,
)
from zhiyin.domain import BoolArray
from zhiyin.domain.errors import DataError
from zhiyin.language.finetuning.settings import FinetuningConfig, HoldingConfig, TaskConfig

_HALF = 0.5
ORDERS = frozenset({"pairwise", "listwise"})
"""Kinds of tasks that compare the rows of one user."""
FOLLOWING = ("",)
"""Tasks of rows whose item came next, before they are spread over the tasks' own names."""


@dataclass(frozen=True, eq=False)
class TaskRows:
    """The rows of all tasks, every label matrix with one column a task.

    Attributes:
        tasks: Name → settings, in the order of the columns.
        labelled: Rows with labels; None where only the next item is foretold.
        following: Rows whose item came next; None where nobody asks.
    """

    tasks: Mapping[str, TaskConfig]
    labelled: LabelledSplit | None
    following: LabelledSplit | None

    @property
    def splits(self) -> dict[str, LabelledSplit]:
        """Those of ``labelled`` and ``following`` that are there, by name."""
        splits = {"labelled": self.labelled, "following": self.following}
        return {name: split for name, split in splits.items() if split is not None}

    def column(self, name: str) -> int:
        """Return the place of a task among the labels."""
        return list(self.tasks).index(name)


def rows_of(dataset: Dataset, config: FinetuningConfig, *, seed: int = 0) -> TaskRows:
    """Gather the rows of all tasks and divide them.

    Raises:
        DataError: when a column is missing, a label says nothing, or too little is held back.
    """
    tasks = _told_tasks(dataset, config.tasks or _usual_tasks(dataset))
    _refuse_told_answers(tasks, config.wording.state)
    rules = {
        name: LabelRule(task.column, task.yes_from, task.yes_words)
        for name, task in tasks.items()
        if task.kind != "next"
    }
    labelled = following = None
    if rules:
        labelled = _divided(labelled_examples(dataset, rules), config.holding, seed)
        _refuse_one_answer(labelled.train, tasks)
        _refuse_nothing_to_order(labelled.train, tasks)
    if len(rules) < len(tasks):
        following = _next_rows(dataset, config.holding, labelled, seed)
    held = _held_events(dataset, config.holding, labelled or following)
    labelled, following = (
        split if split is None or held is None else without_held_events(split, held)
        for split in (labelled, following)
    )
    by_user = any(task.kind in ORDERS for task in tasks.values())
    limited = [
        None if split is None else _spread(_limited(split, config.holding, seed, by_user=of_users), tasks)
        for split, of_users in ((labelled, by_user), (following, False))
    ]
    return TaskRows(tasks, *limited)


def _refuse_told_answers(tasks: Mapping[str, TaskConfig], state: Sequence[str]) -> None:
    told = [name for name, task in tasks.items() if task.kind != "next" and task.column in state]
    if told:
        raise DataError(
            f"The answer of task '{told[0]}' would stand in what is read: '{tasks[told[0]].column}'.",
            remedy="Take the column out of wording.state.",
        )


def _usual_tasks(dataset: Dataset) -> dict[str, TaskConfig]:
    """Take clicks where values tell liked from disliked, else the next item."""
    values = dataset.histories.value
    if dataset.positive_value is not None and (values < dataset.positive_value).any():
        return {"click": TaskConfig(kind="yes_no")}
    return {"next": TaskConfig(kind="next")}


def _told_tasks(dataset: Dataset, tasks: Mapping[str, TaskConfig]) -> dict[str, TaskConfig]:
    return {name: _told(dataset, name, task) for name, task in tasks.items()}


def _told(dataset: Dataset, name: str, task: TaskConfig) -> TaskConfig:
    """Say what means yes where the settings leave it open."""
    if task.kind != "yes_no" or task.yes_words or task.yes_from is not None:
        return task
    if task.column != "value":
        return task.model_copy(update={"yes_from": _HALF})
    if dataset.positive_value is not None:
        return task.model_copy(update={"yes_from": dataset.positive_value})
    values = dataset.histories.value[~np.isnan(dataset.histories.value)]
    if len(values) and not np.isin(values, (0.0, 1.0)).all():
        raise DataError(
            f"Task '{name}' does not say from which value on the answer is yes.",
            possible=f"Values lie between {values.min():g} and {values.max():g}.",
            remedy=f"Set tasks.{name}.yes_from, or under [values] in dataset.toml: positive = …",
        )
    return task.model_copy(update={"yes_from": _HALF})


def _divided(examples: LabelledExamples, holding: HoldingConfig, seed: int) -> LabelledSplit:
    if holding.column:
        split = split_by_column(examples, holding.column, seed=seed)
    else:
        split = split_by_time(examples, validation=holding.validation, test=holding.test)
    if not len(split.validation) or not len(split.test):
        raise DataError(
            "No user has three rows with labels, so that none can be held back.",
            remedy="Bring a longer log, or a column that says train, validation and test (holding.column).",
        )
    return split


def _held_events(
    dataset: Dataset, holding: HoldingConfig, split: LabelledSplit | None
) -> npt.NDArray[np.int8] | None:
    """Say of each event what it is held back for; None where no column of the events says so."""
    if split is None or holding.column not in dataset.context:
        return None
    part = part_of_words(dataset.context[holding.column])
    held = split.validation
    place = held.events.offsets[:-1][held.user_index] + held.n_known
    # Where no event says validation, rows of train were drawn for it.
    if len(part) and (part != 1).all() and holding.column in held.context.columns:
        is_own = place < len(part)
        is_own[is_own] = held.events.item_index[place[is_own]] == held.item_index[is_own]
        part[place[is_own]] = 1
    return part


def _next_rows(
    dataset: Dataset, holding: HoldingConfig, labelled: LabelledSplit | None, seed: int
) -> LabelledSplit:
    examples = replace(next_items(dataset), tasks=FOLLOWING)
    if not len(examples):
        raise DataError(
            f"There is no next item to foretell in '{dataset.name}': nobody liked one after another."
        )
    held = _held_events(dataset, holding, labelled)
    if labelled is None:
        return _divided(examples, holding, seed)
    if held is not None:
        part_of_row = held[examples.events.offsets[:-1][examples.user_index] + examples.n_known]
        return _next_split(examples, [part_of_row == part for part in range(3)])
    # What one task holds back must not be the other's lesson: a user's rows are cut at the same events.
    bounds = [_first_held(part, dataset.n_users) for part in (labelled.validation, labelled.test)]
    number = examples.n_known
    is_test = number >= bounds[1][examples.user_index]
    is_validation = ~is_test & (number >= bounds[0][examples.user_index])
    return _next_split(examples, [~is_test & ~is_validation, is_validation, is_test])


def _next_split(examples: LabelledExamples, parts: Sequence[BoolArray]) -> LabelledSplit:
    split = LabelledSplit(*(examples.take(np.flatnonzero(part)) for part in parts))
    empty = [name for name in ("train", "validation", "test") if not len(getattr(split, name))]
    if empty:
        raise DataError(
            f"No row of the task next is left for {' and '.join(empty)}: rows are cut where the labels are.",
            remedy="Train next alone, or hold back other shares (holding.validation, holding.test).",
        )
    return split


def _first_held(examples: LabelledExamples, n_users: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    first = np.full(n_users, np.iinfo(np.int64).max)
    np.minimum.at(first, examples.user_index, examples.n_known)
    return first


def _refuse_one_answer(train: LabelledExamples, tasks: Mapping[str, TaskConfig]) -> None:
    for column, name in enumerate(train.tasks):
        labels = train.labels[:, column]
        known = labels[~np.isnan(labels)]
        if not len(known) or known.min() == known.max():
            told = f"all {len(known):,} labels are {known[0]:g}" if len(known) else "there is not one label"
            raise DataError(
                f"Task '{name}' cannot be learned: {told} in '{tasks[name].column}'.",
                remedy="Foretell the next item instead, whose wrong answers are drawn (kind next), or bring "
                "rows with other labels, such as what was shown and not clicked.",
            )


def _refuse_nothing_to_order(train: LabelledExamples, tasks: Mapping[str, TaskConfig]) -> None:
    for column, name in enumerate(train.tasks):
        if tasks[name].kind not in ORDERS:
            continue
        known = np.flatnonzero(~np.isnan(train.labels[:, column]))
        order = known[np.argsort(train.user_index[known], kind="stable")]
        user, label = train.user_index[order], train.labels[order, column]
        # Where any two labels of a user differ, some two neighbours do.
        if not ((user[1:] == user[:-1]) & (label[1:] != label[:-1])).any():
            raise DataError(
                f"Task '{name}' cannot be learned: no user has two rows with different labels.",
                remedy="Foretell the label itself (kind yes_no or rating), which compares rows of all users.",
            )


def _limited(split: LabelledSplit, holding: HoldingConfig, seed: int, *, by_user: bool) -> LabelledSplit:
    limits = (holding.most_train, holding.most_judged, holding.most_reported)
    parts = (split.train, split.validation, split.test)
    drawn = (_drawn(part, most, seed, by_user=by_user) for part, most in zip(parts, limits, strict=True))
    return LabelledSplit(*drawn)


def _drawn(examples: LabelledExamples, most: int, seed: int, *, by_user: bool) -> LabelledExamples:
    """Draw rows; where rows are to be ordered user by user, so that those of one can still be compared."""
    if not most or len(examples) <= most:
        return examples
    random = np.random.default_rng(seed)
    drawn = random.permutation(len(examples))
    if by_user:
        place = random.permutation(int(examples.user_index.max()) + 1)[examples.user_index]
        drawn = np.argsort(place, kind="stable")
    return examples.take(np.sort(drawn[:most]))


def _spread(split: LabelledSplit, tasks: Mapping[str, TaskConfig]) -> LabelledSplit:
    """Give every label matrix a column for each task, in their order."""

    def of(examples: LabelledExamples) -> LabelledExamples:
        labels = np.full((len(examples), len(tasks)), np.nan, dtype=np.float32)
        for column, (name, task) in enumerate(tasks.items()):
            if name in examples.tasks:
                labels[:, column] = examples.labels[:, examples.tasks.index(name)]
            elif task.kind == "next" and examples.tasks == FOLLOWING:
                labels[:, column] = 1.0
        return replace(examples, tasks=tuple(tasks), labels=labels)

    return LabelledSplit(of(split.train), of(split.validation), of(split.test))
