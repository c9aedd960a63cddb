"""From clean tables to the indexed dataset."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from zhiyin.domain import IndexArray, LongArray, Vocabulary
from zhiyin.domain.arrays import offsets_of


def first_appearances(ids: pl.Series) -> tuple[pl.Series, IndexArray]:
    """Number distinct ids in the order in which they first appear.

    Args:
        ids: (T,) strings without nulls.

    Returns:
        The distinct ids, and (T,) int32 indices into them.
    """
    encoded = ids.to_arrow().dictionary_encode()
    distinct = pl.Series("id", encoded.dictionary, dtype=pl.String)
    return distinct, encoded.indices.to_numpy(zero_copy_only=False).astype(np.int32, copy=False)


def indices_in(vocabulary: Vocabulary, ids: pl.Series) -> tuple[Vocabulary, IndexArray]:
    """Look ids up in a vocabulary; those it lacks are appended in the order of their first appearance.

    Args:
        vocabulary: May be empty.
        ids: (T,) strings without nulls.

    Returns:
        The vocabulary, longer or the same, and (T,) int32 indices into it.
    """
    distinct, place = first_appearances(ids)
    index = vocabulary.indices(distinct)
    is_new = index < 0
    index = np.where(is_new, len(vocabulary) + np.cumsum(is_new, dtype=np.int32) - 1, index).astype(np.int32)
    longer = Vocabulary(pl.concat([vocabulary.ids, distinct.filter(pl.Series(is_new)).alias("id")]))
    return longer, index[place]


def time_order(user_index: IndexArray, moment: LongArray | None) -> npt.NDArray[np.intp] | None:
    """Order events by user, then by time, ties in the order of the file.

    Args:
        user_index: (T,) int32.
        moment: (T,) int64 of any unit; None when the order of the file is the order of time.

    Returns:
        (T,) positions, or None when the events already stand in this order.
    """
    if moment is None:
        if bool((user_index[1:] >= user_index[:-1]).all()):
            return None
        return np.argsort(user_index, kind="stable")
    same_user = user_index[1:] == user_index[:-1]
    if bool(((user_index[1:] > user_index[:-1]) | (same_user & (moment[1:] >= moment[:-1]))).all()):
        return None
    return np.lexsort((moment, user_index))


def history_offsets(user_index: IndexArray, n_users: int) -> LongArray:
    """Return the (n_users + 1,) int64 offsets of the events of each user, whatever order they stand in."""
    return offsets_of(np.bincount(user_index, minlength=n_users))
