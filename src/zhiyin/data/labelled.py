"""A user at a moment, an item, and how it turned out: what clicks and ratings are learned from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from zhiyin.data.dataset import Dataset
from zhiyin.data.order import carried_forward
from zhiyin.data.shown import seconds_of
from zhiyin.data.splits import first_meetings
from zhiyin.domain import NO_TIMESTAMP, FloatArray, Histories, IndexArray, LongArray
from zhiyin.domain.arrays import flat_positions, offsets_of
from zhiyin.domain.errors import DataError, did_you_mean

VALUE, EVENT = "value", "event"
SPLIT_NAMES: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}
"""Words that a column may use for the parts of a split."""
_FEWEST_TO_DIVIDE = 3
"""Rows of a user from which on the newest are held back."""


@dataclass(frozen=True)
class LabelRule:
    """How the label of one task follows from a row.

    Attributes:
        column: ``value``, ``event`` (its kind), or any further column.
        yes_from: The label is 1 from this number on and 0 below; None keeps the number.
        yes_words: The label is 1 where the column holds one of these words and 0 elsewhere.
    """

    column: str
    yes_from: float | None = None
    yes_words: tuple[str, ...] = ()

    @property
    def is_yes_no(self) -> bool:
        """Whether the label is 1 or 0 by the rule itself."""
        return self.yes_from is not None or bool(self.yes_words)


@dataclass(frozen=True, eq=False)
class LabelledExamples:
    """N rows of a log with labels, each with the history of its user up to that row.

    Histories are not copied: they are runs of the dataset's own events.

    Attributes:
        tasks: T names.
        labels: (N, T) float32, NaN where a row says nothing about a task.
        user_index: (N,) int32.
        item_index: (N,) int32.
        timestamp: (N,) int64, UTC seconds, or `NO_TIMESTAMP`.
        context: Further columns, each N long.
        events: Of all users; row ``u`` is user index ``u``.
        n_known: (N,) int64, how many of the user's events are known, counted from the oldest: those before
            the row, except where rows are drawn at random.
        n_earlier: (N,) int64, how many of the known events came before the row; None where all of them did.
    """

    tasks: tuple[str, ...]
    labels: FloatArray
    user_index: IndexArray
    item_index: IndexArray
    timestamp: LongArray
    context: pl.DataFrame
    events: Histories
    n_known: LongArray
    n_earlier: LongArray | None = None

    def __len__(self) -> int:
        return len(self.item_index)

    def take(self, rows: npt.NDArray[np.integer]) -> LabelledExamples:
        """Return the given rows, in the given order."""
        return replace(
            self,
            labels=self.labels[rows],
            user_index=self.user_index[rows],
            item_index=self.item_index[rows],
            timestamp=self.timestamp[rows],
            context=self.context[rows.astype(np.int64)],
            n_known=self.n_known[rows],
            n_earlier=None if self.n_earlier is None else self.n_earlier[rows],
        )

    def histories(self, newest: int | None = None) -> Histories:
        """Return N histories of what was known, the newest events only if a number is given."""
        starts, lengths = self.events.offsets[:-1][self.user_index], self.n_known
        if newest is None:
            return self.events.runs(starts, lengths)
        kept = np.minimum(lengths, newest)
        return self.events.runs(starts + lengths - kept, kept)


@dataclass(frozen=True, eq=False)
class LabelledSplit:
    """Rows to learn from, to choose by, and to report."""

    train: LabelledExamples
    validation: LabelledExamples
    test: LabelledExamples


def labelled_examples(dataset: Dataset, rules: Mapping[str, LabelRule]) -> LabelledExamples:
    """Make one example of every row that says something about at least one task.

    Rows are the interactions when they hold the columns of all rules, else the impressions.

    Args:
        dataset: With all events.
        rules: Task → how its label follows.

    Raises:
        DataError: when neither table holds the columns, or no row has a label.
    """
    rows = (
        examples_of_interactions(dataset)
        if are_of_interactions(dataset, rules)
        else _of_impressions(dataset, rules)
    )
    labels = np.stack([_labels(rows.context, name, rule) for name, rule in rules.items()], axis=1)
    is_labelled = ~np.isnan(labels).all(axis=1)
    if not is_labelled.any():
        raise DataError(
            f"No row of '{dataset.name}' has a label: {_columns_of(rules)} is empty throughout.",
            remedy="Name the column that says how it turned out, or foretell next items, which need none.",
        )
    whole = replace(rows, tasks=tuple(rules), labels=labels)
    return whole if is_labelled.all() else whole.take(np.flatnonzero(is_labelled))


def are_of_interactions(dataset: Dataset, rules: Mapping[str, LabelRule]) -> bool:
    """Whether the rules read interactions, what was taken, and not impressions, what was shown."""
    return _holds(_event_columns(dataset), rules)


def split_by_column(examples: LabelledExamples, column: str, *, seed: int = 0) -> LabelledSplit:
    """Divide by a column that says train, validation or test.

    Where no row says validation, a tenth of the training rows is drawn for it.

    Raises:
        DataError: when there is no such column, it holds other words, or names no test.
    """
    if column not in examples.context.columns:
        raise DataError(
            f"There is no column '{column}' that says what a row is for."
            + did_you_mean(column, examples.context.columns),
            possible=f"Columns: {', '.join(examples.context.columns) or 'none'}.",
        )
    words = examples.context[column].cast(pl.String).str.to_lowercase()
    known = [word for names in SPLIT_NAMES.values() for word in names]
    others = words.filter(~words.is_in(known).fill_null(value=False)).unique()
    parts = {
        name: words.is_in(names).fill_null(value=False).to_numpy() for name, names in SPLIT_NAMES.items()
    }
    if len(others) or not parts["train"].any() or not parts["test"].any():
        raise DataError(
            f"Column '{column}' does not say 'train' and 'test' throughout.",
            possible=f"It holds: {', '.join(map(str, words.unique().sort().head(8)))}.",
            remedy="Leave the column out to hold back the newest rows of each user.",
        )
    if not parts["validation"].any():
        drawn = np.random.default_rng(seed).permutation(np.flatnonzero(parts["train"]))
        parts["validation"][drawn[: max(1, len(drawn) // 10)]] = True
        parts["train"] &= ~parts["validation"]
    return LabelledSplit(*(examples.take(np.flatnonzero(parts[name])) for name in SPLIT_NAMES))


def part_of_words(words: pl.Series) -> npt.NDArray[np.int8]:
    """Return (N,) int8: 0 for train and words unknown, 1 for validation, 2 for test."""
    lower = words.cast(pl.String).str.to_lowercase()
    part = np.zeros(len(words), dtype=np.int8)
    for number, names in enumerate(SPLIT_NAMES.values()):
        part[lower.is_in(names).fill_null(value=False).to_numpy()] = number
    return part


def without_held_events(split: LabelledSplit, part_of_event: npt.NDArray[np.int8]) -> LabelledSplit:
    """Take out of histories what is held back for later: train sees train, validation that and itself.

    A column may hold back rows that are older than rows to learn from, and histories say how they turned out.

    Args:
        split: All parts with the same events.
        part_of_event: (number of events,) int8, as `part_of_words`.
    """
    parts = []
    for number, part in enumerate((split.train, split.validation, split.test)):
        is_kept = part_of_event <= number
        n_before = offsets_of(is_kept.astype(np.int64))
        starts = part.events.offsets[:-1][part.user_index]
        n_known = n_before[starts + part.n_known] - n_before[starts]
        parts.append(replace(part, events=part.events.where(is_kept), n_known=n_known))
    return LabelledSplit(*parts)


def split_by_time(
    examples: LabelledExamples, *, validation: float, test: float, most: int | None = None, seed: int = 0
) -> LabelledSplit:
    """Hold back the newest rows of each user: the last share is test, the share before it validation.

    A user with fewer than three rows is learned from only; one with more gives at least one row to each.

    Args:
        examples: Rows of one user in time order.
        validation: Share, above 0.
        test: Share, above 0.
        most: Rows of both parts together, at most: users are drawn, and of the others nothing is held back.
        seed: Of the draw.
    """
    order = np.argsort(examples.user_index, kind="stable")
    counts = np.bincount(examples.user_index)
    lengths = counts[counts > 0]
    is_divided = lengths >= _FEWEST_TO_DIVIDE
    n_test, n_validation = (
        np.where(is_divided, np.maximum(1, np.round(share * lengths)), 0).astype(np.int64)
        for share in (test, validation)
    )
    # Rounded up, two large shares of few rows would be more than all of them.
    n_test = np.minimum(n_test, np.maximum(lengths - 2, 0))
    n_validation = np.minimum(n_validation, np.maximum(lengths - n_test - 1, 0))
    if most is not None:
        drawn = np.random.default_rng(seed).permutation(np.flatnonzero(is_divided))
        left = drawn[np.cumsum((n_test + n_validation)[drawn]) > most]
        n_test[left], n_validation[left] = 0, 0
    starts = offsets_of(lengths)[:-1]
    n_train = lengths - n_test - n_validation
    places = (
        flat_positions(starts, n_train),
        flat_positions(starts + n_train, n_validation),
        flat_positions(starts + n_train + n_validation, n_test),
    )
    return LabelledSplit(*(examples.take(order[place]) for place in places))


def next_items(dataset: Dataset, *, newest: int | None = None) -> LabelledExamples:
    """Make an example of every first meeting of a user with an item, with the label 1 for the task ``next``.

    Args:
        dataset: With all events.
        newest: Only so many of each user's last meetings; all when None.
    """
    histories = dataset.histories
    is_first = first_meetings(histories)
    if dataset.positive_value is not None:
        is_first &= ~(histories.value < dataset.positive_value)
    rows = np.flatnonzero(
        is_first & (np.arange(histories.n_events) > histories.offsets[:-1][histories.row_of_event])
    )
    if newest is not None:
        of_user = histories.row_of_event[rows]
        ends = np.cumsum(np.bincount(of_user, minlength=len(histories)))
        rows = rows[ends[of_user] - np.arange(len(rows)) <= newest]
    whole = examples_of_interactions(dataset).take(rows)
    return replace(whole, tasks=("next",), labels=np.ones((len(rows), 1), dtype=np.float32))


def examples_of_interactions(dataset: Dataset) -> LabelledExamples:
    """Make one row of every event, in their order, without tasks."""
    histories = dataset.histories
    kinds = pl.Series(
        EVENT, np.array(dataset.event_kinds, dtype=object)[histories.event_index], dtype=pl.String
    )
    value = pl.Series(VALUE, histories.value, nan_to_null=True)
    user = histories.row_of_event
    return LabelledExamples(
        tasks=(),
        labels=np.empty((histories.n_events, 0), dtype=np.float32),
        user_index=user.astype(np.int32),
        item_index=histories.item_index,
        timestamp=histories.timestamp,
        context=pl.DataFrame({**dataset.context, EVENT: kinds, VALUE: value}),
        events=histories,
        n_known=np.arange(histories.n_events, dtype=np.int64) - histories.offsets[:-1][user],
    )


def _of_impressions(dataset: Dataset, rules: Mapping[str, LabelRule]) -> LabelledExamples:
    table = dataset.impressions
    if table is None or not _holds(table.columns, rules):
        columns = sorted({*_event_columns(dataset), *(table.columns if table is not None else ())})
        missing = next((rule.column for rule in rules.values() if rule.column not in columns), "")
        raise DataError(
            f"Neither the interactions nor the impressions of '{dataset.name}' hold {_columns_of(rules)}."
            + did_you_mean(missing, columns),
            possible=f"Columns: {', '.join(columns)}.",
        )
    users = dataset.users.indices(table["user_id"])
    items = dataset.catalogue.items.indices(table["item_id"])
    is_known = (users >= 0) & (items >= 0)
    table, users, items = table.filter(pl.Series(is_known)), users[is_known], items[is_known]
    seconds = seconds_of(table)
    order = np.argsort(seconds, kind="stable")
    table, users, items, seconds = table[order], users[order], items[order], seconds[order]
    return LabelledExamples(
        tasks=(),
        labels=np.empty((len(items), 0), dtype=np.float32),
        user_index=users.astype(np.int32),
        item_index=items.astype(np.int32),
        timestamp=seconds,
        context=table.drop("user_id", "item_id"),
        events=dataset.histories,
        n_known=_n_before(dataset.histories, users, seconds),
    )


def _n_before(events: Histories, users: npt.NDArray[np.integer], seconds: LongArray) -> LongArray:
    """Count each user's events that are older than a moment; none where moments are not known."""
    if not events.n_events or (seconds == NO_TIMESTAMP).all():
        return np.zeros(len(users), dtype=np.int64)
    # An event without a time stands behind the one before it; only so do moments rise within a user.
    moment_of_event = carried_forward(events.row_of_event.astype(np.int32), events.timestamp)
    # Ranks of moments are small numbers, so that user and moment fit into one integer.
    moments = np.unique(np.concatenate([moment_of_event, seconds]))
    width = len(moments) + 1
    event_key = events.row_of_event * width + np.searchsorted(moments, moment_of_event)
    key = users.astype(np.int64) * width + np.searchsorted(moments, seconds)
    n_before: LongArray = np.searchsorted(event_key, key, side="left") - events.offsets[:-1][users]
    return n_before


def _event_columns(dataset: Dataset) -> list[str]:
    return [VALUE, EVENT, *dataset.context]


def _holds(columns: Sequence[str], rules: Mapping[str, LabelRule]) -> bool:
    return all(rule.column in columns for rule in rules.values())


def _columns_of(rules: Mapping[str, LabelRule]) -> str:
    return " and ".join(f"'{name}'" for name in dict.fromkeys(rule.column for rule in rules.values()))


def _labels(context: pl.DataFrame, task: str, rule: LabelRule) -> FloatArray:
    column = context[rule.column]
    if rule.yes_words:
        words = column.cast(pl.String)
        if not words.is_in(rule.yes_words).any():
            raise DataError(
                f"No row says {' or '.join(rule.yes_words)} in '{rule.column}', as task '{task}' expects.",
                possible=f"It holds: {', '.join(map(str, words.unique().sort().head(8)))}.",
            )
        return words.is_in(rule.yes_words).cast(pl.Float32).fill_null(float("nan")).to_numpy()
    if isinstance(column.dtype, pl.Boolean):
        column = column.cast(pl.Int8)
    if not column.dtype.is_numeric():
        raise DataError(
            f"Column '{rule.column}' of task '{task}' holds words, not numbers.",
            possible=f"It holds: {', '.join(map(str, column.unique().sort().head(8)))}.",
            remedy="Say which of them mean yes.",
        )
    numbers = column.cast(pl.Float32).fill_null(float("nan")).to_numpy()
    if rule.yes_from is None:
        return numbers
    return np.where(np.isnan(numbers), np.nan, numbers >= rule.yes_from).astype(np.float32)
