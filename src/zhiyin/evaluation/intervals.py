"""How sure a mean over queries is, by drawing the queries anew."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zhiyin.domain import FloatArray

Array = npt.NDArray[np.float64]

CELLS_AT_ONCE = 2_000_000
"""Weights held in memory at the same time: 8 MB."""

MOST_BLOCKS = 30_000
"""Things that are drawn; above that, several queries are drawn together."""


@dataclass(frozen=True)
class Interval:
    """A value and where it lies in 95 of 100 repetitions; NaN where nothing can be said."""

    value: float
    low: float
    high: float


def resampled_weights(n_queries: int, n_resamples: int, seed: int, *, width: int = 0) -> Iterator[FloatArray]:
    """Draw B of B queries with replacement, many times.

    Args:
        n_queries: B.
        n_resamples: How often.
        seed: Of the draws.
        width: Numbers that the caller holds for every resample; so many fewer are handed out at once.

    Yields:
        (R, B) float32: how often each query was drawn in each of R resamples; R in all is ``n_resamples``.
        The same arguments give the same draws, so that two evaluations are resampled alike.
    """
    rng = np.random.default_rng(seed)
    at_once = max(1, min(n_resamples, CELLS_AT_ONCE // max(n_queries, width, 1)))
    for start in range(0, n_resamples, at_once):
        weights = np.empty((min(at_once, n_resamples - start), n_queries), dtype=np.float32)
        for resample in weights:
            drawn = rng.integers(n_queries, size=n_queries)
            resample[:] = np.bincount(drawn, minlength=n_queries)
        yield weights


def resampled_means(values: npt.NDArray[np.floating], n_resamples: int, seed: int) -> Array:
    """Means of resampled queries: Efron, *Bootstrap Methods: Another Look at the Jackknife* (1979).

    More than `MOST_BLOCKS` queries are drawn in random blocks: queries are independent, so that block means
    spread as far as the queries do, and the time stays bounded.

    Args:
        values: (B, M) floats, M quantities of each query; NaN says nothing and is left out.
        n_resamples: R.
        seed: Of the draws.

    Returns:
        (R, M) float64; NaN where a resample drew only NaN.
    """
    totals, counts = _in_blocks(np.nan_to_num(values, nan=0.0), ~np.isnan(values), seed)
    means = [
        _ratio(weights @ totals, weights @ counts)
        for weights in resampled_weights(len(totals), n_resamples, seed)
    ]
    return np.concatenate(means) if means else np.empty((0, values.shape[1]))


def _in_blocks(
    values: npt.NDArray[np.floating], known: npt.NDArray[np.bool_], seed: int
) -> tuple[FloatArray, FloatArray]:
    """Sum values and count known ones, both (B, M), in at most `MOST_BLOCKS` random blocks of queries."""
    if len(values) <= MOST_BLOCKS:
        return values.astype(np.float32), known.astype(np.float32)
    block = np.random.default_rng(seed).permutation(len(values)) % MOST_BLOCKS
    totals, counts = (
        np.stack([np.bincount(block, column, MOST_BLOCKS) for column in table.T], axis=1)
        for table in (values, known)
    )
    return totals.astype(np.float32), counts.astype(np.float32)


def percentile_interval(value: float, resampled: Array) -> Interval:
    """Take the middle 95 % of the (R,) resampled values."""
    known = resampled[~np.isnan(resampled)]
    if len(known) == 0:
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(known, [0.025, 0.975])
    return Interval(value, float(low), float(high))


def normal_interval(value: float, resampled: Array, *, least: float = 0.0, most: float = 1.0) -> Interval:
    """Put 1.96 standard deviations of the (R,) resampled values around the value.

    For quantities of a union of slates, such as coverage: a resample holds fewer different queries, so that
    its values are too small, while their spread is right.
    """
    margin = 1.96 * float(np.std(resampled)) if len(resampled) else float("nan")
    return Interval(value, *(float(end) for end in np.clip([value - margin, value + margin], least, most)))


def _ratio(total: FloatArray, count: FloatArray) -> Array:
    empty = np.full(total.shape, np.nan)
    ratio: Array = np.divide(total, count, out=empty, where=count > 0, dtype=np.float64)
    return ratio
