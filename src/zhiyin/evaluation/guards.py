"""What makes a figure worthless is refused before it becomes a figure."""

from __future__ import annotations

import numpy as np

from zhiyin.domain import PAD, Candidates, Examples, LongArray, Queries
from zhiyin.domain.errors import DataError, ZhiyinError


class InvalidSlate(ZhiyinError):
    """A recommender answered with slates that cannot be judged."""


def refuse_unanswerable(examples: Examples) -> None:
    """Refuse examples that no recommender could be judged on.

    Raises:
        DataError: when there are none, or some have no target.
    """
    if len(examples) == 0:
        raise DataError(
            "There is nothing to evaluate on: no user has enough interactions to hold one back.",
            possible="Under leave-last-out a user needs at least three interactions.",
        )
    n_empty = int((examples.targets.lengths == 0).sum())
    if n_empty:
        raise DataError(
            f"{n_empty} of {len(examples)} examples have no target.",
            remedy="Leave them out:  examples.take(np.flatnonzero(examples.targets.lengths))",
        )


def refuse_invalid(slates: Candidates, queries: Queries, n_items: int, *, repeat: bool) -> None:
    """Refuse slates of a wrong number, with unknown or doubled items, or with items the user already has.

    Args:
        slates: The answer to ``queries``.
        queries: B queries.
        n_items: I.
        repeat: Whether items that the user already has are allowed.

    Raises:
        InvalidSlate: naming the first slate that is wrong.
    """
    if len(slates) != len(queries):
        raise InvalidSlate(f"{len(queries)} queries were answered with {len(slates)} slates.")
    item_index = slates.item_index
    if np.any((item_index < PAD) | (item_index >= n_items)):
        raise InvalidSlate(
            f"A slate holds item index {int(item_index.max())}; the catalogue has {n_items} items.",
            remedy="Evaluate with the facts of the catalogue that the recommender was trained on.",
        )
    row, column = np.nonzero(slates.is_item)
    offered = row * n_items + item_index[row, column]
    _refuse_doubled(offered, n_items)
    if not repeat:
        owned = queries.histories.row_of_event * n_items + queries.histories.item_index
        _refuse_owned(offered[np.isin(offered, owned)], n_items)


def _refuse_doubled(offered: LongArray, n_items: int) -> None:
    ordered = np.sort(offered)
    doubled = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(doubled):
        row, item = divmod(int(doubled[0]), n_items)
        raise InvalidSlate(f"The slate of query {row} (counted in its chunk) holds item {item} twice.")


def _refuse_owned(owned: LongArray, n_items: int) -> None:
    if len(owned):
        row, item = divmod(int(owned[0]), n_items)
        raise InvalidSlate(
            f"The slate of query {row} (counted in its chunk) holds item {item}, which the user already has.",
            remedy="Mask the history in the recommender, or allow repeats in the settings: repeat = true.",
        )
