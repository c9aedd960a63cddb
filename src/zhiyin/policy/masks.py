"""Which items may not be shown."""

from __future__ import annotations

import numpy as np

from zhiyin.domain import Barred, BoolArray, Histories, Wishes
from zhiyin.domain.errors import ShapeMismatch


def barred_items(histories: Histories, wishes: Wishes, *, removed: BoolArray) -> Barred:
    """Say which items may not stand in a slate.

    An item is barred when it was removed from the catalogue, when the request does not allow it, or when
    the history holds it and the request does not want repeats.

    Args:
        histories: B histories.
        wishes: Rules of the request.
        removed: (I,) bool.

    Raises:
        ShapeMismatch: when ``wishes.allowed`` was made for another catalogue.
    """
    n_items = len(removed)
    for_all = removed if removed.any() else None
    if wishes.allowed is not None:
        if wishes.allowed.shape != removed.shape:
            raise ShapeMismatch(
                f"The request allows items of a catalogue of {len(wishes.allowed)}; it has {n_items}."
            )
        for_all = ~wishes.allowed if for_all is None else removed | ~wishes.allowed
    if wishes.repeat:
        none = np.empty(0, dtype=np.int64)
        return Barred(len(histories), n_items, for_all, none, none)
    row, item = histories.row_of_event, histories.item_index.astype(np.int64)
    is_known = (item >= 0) & (item < n_items)
    if not is_known.all():
        row, item = row[is_known], item[is_known]
    return Barred(len(histories), n_items, for_all, row, item)
