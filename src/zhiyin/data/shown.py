"""What was shown, as far as it may be known when events are held back."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from zhiyin.data.order import carried_forward
from zhiyin.domain import NO_TIMESTAMP, Histories, LongArray, Vocabulary

NEVER = np.iinfo(np.int64).max
"""A moment after all others."""


def shown_before(
    impressions: pl.DataFrame,
    users: Vocabulary,
    items: Vocabulary,
    histories: Histories,
    keep: npt.NDArray[np.bool_],
    hidden: LongArray,
) -> pl.DataFrame:
    """Return the impressions that tell nothing of the events that are held back.

    Left out is what was shown to a user from the first event on that is held back of theirs (everything,
    where moments are not known or nothing of theirs is kept), and what they did something with that is held
    back, whenever it was shown.

    Args:
        impressions: With ``user_id`` and ``item_id``, perhaps ``timestamp``.
        users: Row ``u`` of the histories is user index ``u``.
        items: Of the catalogue.
        histories: All events.
        keep: (T,) bool, events that are not held back.
        hidden: (U,) int64, as `first_hidden` returned it.
    """
    if keep.all():
        return impressions
    user, item = users.indices(impressions["user_id"]), items.indices(impressions["item_id"])
    n_kept = np.bincount(histories.row_of_event[keep], minlength=len(histories))
    from_when = np.where((n_kept == 0) & (hidden < NEVER), NO_TIMESTAMP, hidden)
    from_when = np.append(from_when, NEVER)[user]  # -1, a stranger, finds the last
    seconds = seconds_of(impressions)
    is_hidden = (seconds >= from_when) | ((seconds == NO_TIMESTAMP) & (from_when < NEVER))
    width = len(items) + 1
    held = histories.row_of_event[~keep] * width + histories.item_index[~keep]
    is_hidden |= np.isin(user.astype(np.int64) * width + item, held)
    return impressions.filter(pl.Series(~is_hidden))


def seconds_of(table: pl.DataFrame) -> LongArray:
    """Return (N,) int64, the ``timestamp`` of rows in UTC seconds, `NO_TIMESTAMP` where there is none."""
    if "timestamp" not in table.columns:
        return np.full(table.height, NO_TIMESTAMP)
    column = table["timestamp"]
    if column.dtype.is_temporal():
        column = column.dt.epoch("s")
    return column.cast(pl.Int64).fill_null(NO_TIMESTAMP).to_numpy()


def first_hidden(histories: Histories, keep: npt.NDArray[np.bool_]) -> LongArray:
    """Return (U,) int64: the moment of each user's first event that is not kept, `NEVER` without one."""
    moment = carried_forward(histories.row_of_event.astype(np.int32), histories.timestamp)
    first = np.full(len(histories), NEVER)
    np.minimum.at(first, histories.row_of_event[~keep], moment[~keep])
    return first
