"""Numbering ids and ordering events: the arithmetic of indexing."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from zhiyin.domain import NO_TIMESTAMP, PAD, IndexArray, LongArray, Vocabulary
from zhiyin.domain.arrays import offsets_of


def first_appearances(ids: pl.Series) -> tuple[pl.Series, IndexArray]:
    """Number distinct ids in the order in which they first appear.

    Args:
        ids: (T,) strings or integers; nulls get -1.

    Returns:
        The distinct ids, and (T,) int32 indices into them.
    """
    # Arrow's own encoding is quicker, but its way to numpy loads pandas where that is installed: 75 MB.
    distinct = ids.drop_nulls().unique(maintain_order=True).alias("id")
    numbered = pl.DataFrame({"id": distinct, "place": np.arange(len(distinct), dtype=np.int32)})
    found = ids.alias("id").to_frame().join(numbered, on="id", how="left", maintain_order="left")
    return distinct, found["place"].fill_null(PAD).to_numpy()


def joined_to(vocabulary: Vocabulary, ids: pl.Series) -> tuple[Vocabulary, IndexArray]:
    """Look distinct ids up in a vocabulary; those it lacks are appended, in their order.

    Args:
        vocabulary: May be empty.
        ids: (n,) distinct strings.

    Returns:
        The vocabulary, longer or the same, and (n,) int32 indices into it.
    """
    index = vocabulary.indices(ids)
    is_new = index == PAD
    if not is_new.any():
        return vocabulary, index
    appended = len(vocabulary) + np.cumsum(is_new, dtype=np.int32) - 1
    longer = Vocabulary(pl.concat([vocabulary.ids, ids.filter(pl.Series(is_new)).alias("id")]))
    return longer, np.where(is_new, appended, index).astype(np.int32)


def time_order(user_index: IndexArray, moment: LongArray | None) -> npt.NDArray[np.intp] | None:
    """Order events by user, then by time, ties in the order of the file.

    An event without a time stays behind the event of the same user that stands before it in the file.

    Args:
        user_index: (T,) int32.
        moment: (T,) int64 of any unit, `NO_TIMESTAMP` where it is missing; None when the order of the file
            is the order of time.

    Returns:
        (T,) positions, or None when the events already stand in this order.
    """
    if moment is None:
        return _user_order(user_index)
    if bool((moment == NO_TIMESTAMP).any()):
        by_user = _user_order(user_index)
        by_user = np.arange(len(user_index)) if by_user is None else by_user
        moment = carried_forward(user_index[by_user], moment[by_user])
        within = time_order(user_index[by_user], moment)
        return by_user if within is None else by_user[within]
    same_user = user_index[1:] == user_index[:-1]
    if bool(((user_index[1:] > user_index[:-1]) | (same_user & (moment[1:] >= moment[:-1]))).all()):
        return None
    return _by_user_and_moment(user_index, moment)


def carried_forward(user_index: IndexArray, moment: LongArray) -> LongArray:
    """Give each event without a time that of the event before it, of the same user.

    Args:
        user_index: (T,) rising.
        moment: (T,) int64, `NO_TIMESTAMP` where it is missing.

    Returns:
        (T,) int64; an event without a time that comes first gets the smallest time there is.
    """
    starts = np.append(True, user_index[1:] != user_index[:-1])
    marks = starts | (moment != NO_TIMESTAMP)
    source = np.maximum.accumulate(np.where(marks, np.arange(len(moment)), 0))
    return np.maximum(moment[source], NO_TIMESTAMP + 1)


def _user_order(user_index: IndexArray) -> npt.NDArray[np.intp] | None:
    if bool((user_index[1:] >= user_index[:-1]).all()):
        return None
    return np.argsort(user_index, kind="stable")


def _by_user_and_moment(user_index: IndexArray, moment: LongArray) -> npt.NDArray[np.intp]:
    earliest, latest = int(moment.min()), int(moment.max())
    span = latest - earliest + 1
    if span * (int(user_index.max()) + 1) < 2**63:  # both in one key: one sort instead of two
        key = user_index.astype(np.int64) * span
        key += moment - earliest
        return np.argsort(key, kind="stable")
    return np.lexsort((moment, user_index))


def history_offsets(user_index: IndexArray, n_users: int) -> LongArray:
    """Return the (n_users + 1,) int64 offsets of the events of each user, whatever order they stand in."""
    return offsets_of(np.bincount(user_index, minlength=n_users))
