"""Sums over rows, drawn anew many times with all rows of a user together.

Every figure of predicted labels is a function of a few sums over rows. So a bootstrap needs no second look at
the rows: the rows of each user are summed once, and each resample is a weighted sum of those.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zhiyin.evaluation.intervals import MOST_BLOCKS, resampled_weights
from zhiyin.evaluation.labels.predicted import Doubles, Indices


@dataclass(frozen=True, eq=False)
class Addend:
    """What each row adds to a sum, or to one of several sums.

    Attributes:
        value: (N,) float.
        cell: (N,) int, which of the sums; None where there is one.
        n_cells: How many sums.
    """

    value: npt.NDArray[np.floating] | npt.NDArray[np.bool_]
    cell: Indices | None = None
    n_cells: int = 1


Addends = Mapping[str, Addend]
Sums = Mapping[str, Doubles]
"""Name → (R,) float64, or (R, cells) where an addend has cells."""


@dataclass(frozen=True)
class Resampling:
    """How often users are drawn anew, and the seed of the draws."""

    n_resamples: int = 1000
    seed: int = 0


def plain_sums(addends: Addends) -> Sums:
    """Sum all rows once: R is 1."""
    return {name: _split(_totals(addend, None, 1), addend) for name, addend in addends.items()}


def resampled_sums(addends: Addends, user_index: Indices, resampling: Resampling) -> Sums:
    """Draw U of U users with replacement R times, each with all rows: the cluster bootstrap.

    Davison and Hinkley, *Bootstrap Methods and their Application* (1997), section 3.8. More than
    `MOST_BLOCKS` users are drawn in random blocks, which spread as far. The same users and seed give the same
    draws, so that two sets of predictions for the same rows are resampled alike.

    Args:
        addends: Of N rows.
        user_index: (N,) int.
        resampling: R and the seed.

    Returns:
        Sums of each resample; all NaN where there are fewer than two users, since nothing then says how
        different users are.
    """
    cluster, n_clusters = _clusters(user_index, resampling.seed)
    totals = np.concatenate([_totals(addend, cluster, n_clusters) for addend in addends.values()], axis=1)
    if n_clusters > 1:
        weights = resampled_weights(
            n_clusters, resampling.n_resamples, resampling.seed, width=totals.shape[1]
        )
        drawn = np.concatenate([chunk.astype(np.float64) @ totals for chunk in weights])
    else:
        drawn = np.full((resampling.n_resamples, totals.shape[1]), np.nan)
    ends = np.cumsum([addend.n_cells for addend in addends.values()])
    parts = np.split(drawn, ends[:-1], axis=1)
    return {name: _split(part, addends[name]) for name, part in zip(addends, parts, strict=True)}


def summed_by(cell: Indices, values: npt.NDArray[np.generic], n_cells: int) -> Doubles:
    """Sum (N,) values into the cells that (N,) int says; (n_cells,) float64."""
    return np.bincount(cell, values.astype(np.float64), n_cells).astype(np.float64)


def _clusters(user_index: Indices, seed: int) -> tuple[npt.NDArray[np.intp], int]:
    """(N,) which users are drawn together, and how many such clusters there are."""
    users, user = np.unique(user_index, return_inverse=True)
    if len(users) <= MOST_BLOCKS:
        return user, len(users)
    return (np.random.default_rng(seed).permutation(len(users)) % MOST_BLOCKS)[user], MOST_BLOCKS


def _totals(addend: Addend, cluster: npt.NDArray[np.intp] | None, n_clusters: int) -> Doubles:
    """(n_clusters, cells) float64."""
    key = np.zeros(len(addend.value), dtype=np.intp) if cluster is None else cluster
    if addend.cell is not None:
        key = key * addend.n_cells + addend.cell
    return summed_by(key, addend.value, n_clusters * addend.n_cells).reshape(n_clusters, addend.n_cells)


def _split(sums: Doubles, addend: Addend) -> Doubles:
    return sums if addend.cell is not None else sums[:, 0]
