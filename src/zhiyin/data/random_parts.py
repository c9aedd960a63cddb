"""Parts drawn at random, as published rating errors use them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from zhiyin.data.labelled import LabelledExamples, LabelledSplit
from zhiyin.domain import Histories
from zhiyin.domain.arrays import offsets_of
from zhiyin.domain.errors import DataError


def split_at_random(
    examples: LabelledExamples, *, n_parts: int, tested: int, validation: float = 0.1, seed: int = 0
) -> LabelledSplit:
    """Draw one of several equal parts for the test, whatever the order; seed and number say which is which.

    What is known of a user is then all rows to learn from, later ones too, as in published errors of
    five-fold cross-validation. A row to learn from stands among them itself: whoever reads histories has to
    leave it out (it is the event at ``n_earlier``).

    Args:
        examples: Of interactions: one row for each event, in the order of the events.
        n_parts: How many, at least 2; each row is in exactly one.
        tested: Which of them is the test, from 0.
        validation: Share of the other rows that is held back to choose by; with 0 the test takes its place.
        seed: Of the draw.

    Raises:
        DataError: when the rows are not one for each event, or there is no such part.
    """
    if len(examples) != examples.events.n_events:
        raise DataError(
            f"Parts are drawn from one row for each event; there are {len(examples)} rows and "
            f"{examples.events.n_events} events.",
            remedy="Label every interaction, or hold back the newest rows of each user.",
        )
    if not 0 <= tested < n_parts or n_parts < 2:
        raise DataError(
            f"There is no part {tested} of {n_parts}.", possible="Parts count from 0; there are at least 2."
        )
    random = np.random.default_rng(seed)
    part_of_row = random.permutation(len(examples)) % n_parts
    is_held = (random.random(len(examples)) < validation) & (part_of_row != tested)
    is_test, is_learned = part_of_row == tested, (part_of_row != tested) & ~is_held
    known = _among(examples, is_learned)
    parts = (is_learned, is_held if validation > 0 else is_test, is_test)
    return LabelledSplit(*(known.take(np.flatnonzero(part)) for part in parts))


def _among(examples: LabelledExamples, is_known: np.ndarray) -> LabelledExamples:
    events: Histories = examples.events.where(is_known)
    n_before = offsets_of(is_known.astype(np.int64))[:-1]
    return replace(
        examples,
        events=events,
        n_known=events.lengths[examples.user_index],
        n_earlier=n_before - events.offsets[:-1][examples.user_index],
    )
