"""Events of one moment, whose order nobody knows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from zhiyin.data.dataset import Dataset
from zhiyin.domain import NO_TIMESTAMP, BoolArray, Histories, LongArray
from zhiyin.domain.errors import RequestError


def shuffled_ties(dataset: Dataset, *, seed: int) -> Dataset:
    """Return the dataset with events of equal time of a user in an order drawn by chance.

    Where time stamps are whole days, the order within a day is that of the file, and what a user did last is
    a matter of how the file was written. Figures over several such orders say how much hangs on it.

    Args:
        dataset: An event without a time stays where it is, and what stands on both sides of it apart.
        seed: Of the order.

    Raises:
        RequestError: when no event has a time, so that only the order of the file is known.
    """
    if not dataset.has_timestamps:
        raise RequestError(
            f"'{dataset.name}' has no time stamps: the order of the file is all that is known.",
            remedy="Leave ties in the order of the file.",
        )
    histories = dataset.histories
    drawn = np.random.default_rng(seed).random(histories.n_events)
    order = np.lexsort((drawn, _moments(histories)))
    columns = {
        name: getattr(histories, name)[order] for name in ("item_index", "event_index", "timestamp", "value")
    }
    context = {name: column.gather(pl.Series(order)) for name, column in dataset.context.items()}
    return replace(dataset, histories=replace(histories, **columns), context=context)


def are_tied(histories: Histories) -> BoolArray:
    """Tell of (T,) events whether the same user did something else at the same time, next to it."""
    moments = _moments(histories)
    tied: BoolArray = np.bincount(moments, minlength=1)[moments] > 1
    return tied


def _moments(histories: Histories) -> LongArray:
    """Number the (T,) events so that those next to each other of one user and one time share a number."""
    user, time = histories.row_of_event, histories.timestamp
    begins = np.ones(histories.n_events, dtype=np.bool_)
    begins[1:] = (user[1:] != user[:-1]) | (time[1:] != time[:-1]) | (time[1:] == NO_TIMESTAMP)
    moments: LongArray = np.cumsum(begins) - 1
    return moments
