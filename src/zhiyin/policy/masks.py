"""Which items may not be shown."""

from __future__ import annotations

import numpy as np

from zhiyin.domain import BoolArray, Histories, Wishes
from zhiyin.domain.errors import ShapeMismatch


def barred_items(histories: Histories, wishes: Wishes, *, removed: BoolArray) -> BoolArray:
    """Mark the items that may not stand in a slate.

    An item is barred when it was removed from the catalogue, when the request does not allow it, or when
    the history holds it and the request does not want repeats.

    Args:
        histories: B histories.
        wishes: Rules of the request.
        removed: (I,) bool.

    Returns:
        (B, I) bool.

    Raises:
        ShapeMismatch: when ``wishes.allowed`` was made for another catalogue.
    """
    barred = np.repeat(removed[None, :], len(histories), axis=0)
    if wishes.allowed is not None:
        if wishes.allowed.shape != removed.shape:
            raise ShapeMismatch(
                f"The request allows items of a catalogue of {len(wishes.allowed)}; it has {len(removed)}."
            )
        barred |= ~wishes.allowed
    if not wishes.repeat:
        known = (histories.item_index >= 0) & (histories.item_index < len(removed))
        barred[histories.row_of_event[known], histories.item_index[known]] = True
    return barred
