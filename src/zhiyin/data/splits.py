"""Dividing a dataset into what may be learned from and what must be foretold.

Every split leaves users, items and event kinds at their indices, so that a component trained on
``split.train`` answers ``split.test`` without translation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zhiyin.data.dataset import Dataset
from zhiyin.domain import Examples, Histories, LongArray, Queries, Ragged
from zhiyin.domain.arrays import flat_positions, offsets_of


@dataclass(frozen=True, eq=False)
class Split:
    """One division of a dataset.

    Attributes:
        name: What reports call it, such as ``leave-last-out``.
        train: All users and items, but only the events that may be learned from.
        validation: What settings, weights and the moment to stop are chosen on.
        test: What is reported; never used to choose anything.
    """

    name: str
    train: Dataset
    validation: Examples
    test: Examples


def leave_last_out(dataset: Dataset) -> Split:
    """Hold back the last event of each user as test target and the one before as validation target.

    Training is everything before these two. The history of a test query holds the validation event, that of
    a validation query does not. Users with fewer than three events are in training only.
    """
    histories = dataset.histories
    held = np.flatnonzero(histories.lengths >= 3)
    n_held_back = np.where(histories.lengths >= 3, 2, 0)
    keep = histories.age_of_event >= np.repeat(n_held_back, histories.lengths)
    ends = histories.offsets[1:][held]
    return Split(
        "leave-last-out",
        dataset.with_events(keep),
        next_events(dataset, held, ends - 2),
        next_events(dataset, held, ends - 1),
    )


def next_events(
    dataset: Dataset,
    users: npt.NDArray[np.integer],
    first_targets: LongArray,
    n_targets: LongArray | None = None,
) -> Examples:
    """Ask, for each given user, what comes at a position of the flat events, knowing all that came before.

    Args:
        dataset: With all events.
        users: (B,) rows of the histories; a user may come several times.
        first_targets: (B,) int64 position of the first target in the flat events, inside the user's run.
        n_targets: (B,) int64 events from there on that count as targets; one each when None.

    Returns:
        B examples; time and context of a query are those of its first target.
    """
    starts = dataset.histories.offsets[:-1][users]
    known = dataset.histories.runs(starts, first_targets - starts)
    if n_targets is None:
        n_targets = np.ones(len(users), dtype=np.int64)
    return _examples(dataset, users.astype(np.int32), known, first_targets, n_targets)


def _examples(
    dataset: Dataset,
    user_index: npt.NDArray[np.int32],
    known: Histories,
    first_targets: LongArray,
    n_targets: LongArray,
) -> Examples:
    positions = flat_positions(first_targets, n_targets)
    context = {name: column.gather(first_targets).to_numpy() for name, column in dataset.context.items()}
    queries = Queries(user_index, known, dataset.histories.timestamp[first_targets], context)
    return Examples(queries, Ragged(offsets_of(n_targets), dataset.histories.item_index[positions]))
