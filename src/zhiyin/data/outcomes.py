"""What came of it in the end: one row for each item that a user met."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from zhiyin.data.dataset import Dataset
from zhiyin.data.labelled import LabelledExamples, LabelRule, examples_of_interactions, labelled_examples
from zhiyin.data.order import carried_forward
from zhiyin.data.shown import NEVER
from zhiyin.domain import NO_TIMESTAMP, LongArray

_MAY_COME_LATER = 0.05
"""Share of the yes that may come after a row counts as answered."""


def outcomes_of_meetings(dataset: Dataset, rules: Mapping[str, LabelRule]) -> LabelledExamples:
    """Make one example of each first event of a user with an item, answered by all their events with it.

    A yes is a yes whenever it came, so that a view that led to a purchase counts as bought; of numbers the
    last counts. A row knows what happened before the first event, not what came of it. Where words mean yes,
    every event without them says no, also one that may still lead to a yes; so rows after which too little is
    known say nothing: so little that `_MAY_COME_LATER` of all yes took longer. Otherwise what has not been
    bought yet would count as never bought.

    Args:
        dataset: With all events.
        rules: Task → how a label follows from an event.

    Raises:
        DataError: when the interactions do not hold the columns, or no event has a label.
    """
    labelled = labelled_examples(dataset, rules)
    events = dataset.histories
    pairs = events.row_of_event * dataset.n_items + events.item_index
    _, first, pair_of_event = np.unique(pairs, return_index=True, return_inverse=True)
    answered = events.offsets[:-1][labelled.user_index] + labelled.n_known
    pair = pair_of_event[answered]
    waited, watched = _times(dataset, first, pair_of_event)
    labels = np.full((len(first), len(rules)), np.nan, dtype=np.float32)
    for place, rule in enumerate(rules.values()):
        known = np.flatnonzero(~np.isnan(labelled.labels[:, place]))
        said = labelled.labels[known, place]
        is_yes_no = rule.is_yes_no or bool(np.isin(said, (0.0, 1.0)).all())
        if is_yes_no:
            # Of several assignments the last stays, and a stable sort puts every yes behind every no.
            order = np.argsort(said, kind="stable")
            known, said = known[order], said[order]
        labels[pair[known], place] = said
        if rule.yes_words:
            soonest = np.full(len(first), NEVER)
            yes = known[said == 1]
            np.minimum.at(soonest, pair[yes], waited[answered[yes]])
            needed = np.quantile(soonest[soonest < NEVER], 1 - _MAY_COME_LATER)
            labels[watched < needed, place] = np.nan
    order = np.argsort(first)
    rows = examples_of_interactions(dataset).take(first[order])
    rows = replace(rows, tasks=tuple(rules), labels=labels[order])
    is_labelled = ~np.isnan(rows.labels).all(axis=1)
    return rows if is_labelled.all() else rows.take(np.flatnonzero(is_labelled))


def _times(dataset: Dataset, first: LongArray, pair_of_event: LongArray) -> tuple[LongArray, LongArray]:
    """Return (T,) the seconds from the first event of a pair to each event, and (P,) those from it on that
    are known of its user; without timestamps, events instead of seconds.
    """
    events = dataset.histories
    user = events.row_of_event
    if dataset.has_timestamps:
        moment = carried_forward(user.astype(np.int32), events.timestamp)
        last = np.full(dataset.n_users, moment.max())
    else:
        moment = np.arange(events.n_events, dtype=np.int64) - events.offsets[:-1][user]
        last = np.full(dataset.n_users, events.n_events, dtype=np.int64)
    if dataset.first_hidden is not None:
        hidden = dataset.first_hidden if dataset.has_timestamps else events.lengths
        last = np.where(dataset.first_hidden < NEVER, np.minimum(last, hidden), last)
    is_dated = moment != NO_TIMESTAMP
    dated = np.where(is_dated, moment, 0)
    waited = np.where(is_dated & is_dated[first][pair_of_event], dated - dated[first][pair_of_event], 0)
    watched = np.where(is_dated[first], last[user[first]] - dated[first], NEVER)
    return waited, watched
