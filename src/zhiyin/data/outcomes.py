"""What came of it in the end: one row for each item that a user met."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from zhiyin.data.dataset import Dataset
from zhiyin.data.labelled import LabelledExamples, LabelRule, examples_of_interactions, labelled_examples


def outcomes_of_meetings(dataset: Dataset, rules: Mapping[str, LabelRule]) -> LabelledExamples:
    """Make one example of each first event of a user with an item, answered by all their events with it.

    A yes is a yes whenever it came, so that a view that led to a purchase counts as bought; of numbers the
    last counts. A row knows what happened before the first event, not what came of it.

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
    pair = pair_of_event[events.offsets[:-1][labelled.user_index] + labelled.n_known]
    labels = np.full((len(first), len(rules)), np.nan, dtype=np.float32)
    for place, rule in enumerate(rules.values()):
        known = np.flatnonzero(~np.isnan(labelled.labels[:, place]))
        said = labelled.labels[known, place]
        if rule.is_yes_no:
            # Of several assignments the last stays, and a stable sort puts every yes behind every no.
            order = np.argsort(said, kind="stable")
            known, said = known[order], said[order]
        labels[pair[known], place] = said
    order = np.argsort(first)
    rows = replace(
        examples_of_interactions(dataset).take(first[order]), tasks=tuple(rules), labels=labels[order]
    )
    is_labelled = ~np.isnan(rows.labels).all(axis=1)
    return rows if is_labelled.all() else rows.take(np.flatnonzero(is_labelled))
