"""From a matrix of scores to candidates."""

from __future__ import annotations

import numpy as np

from zhiyin.domain import PAD, BoolArray, Candidates, FloatArray, IndexArray

_GROUPS_PER_PLACE = 4
"""Groups a row is cut into for each wanted place, when looking for a bound; more make it tighter."""
_SMALLEST_GROUP = 3
"""With fewer scores a group it is as fast to order all of them."""


def scores_at(scores: FloatArray, item_index: IndexArray) -> FloatArray:
    """Pick scores of given items.

    Args:
        scores: (B, I) float32.
        item_index: (B, N) int32; -1 and indices at or beyond I give NaN.

    Returns:
        (B, N) float32.
    """
    known = (item_index != PAD) & (item_index < scores.shape[1])
    picked = np.take_along_axis(scores, np.where(known, item_index, 0).astype(np.int64), axis=1)
    return np.where(known, picked, np.float32(np.nan))


def best_of(scores: FloatArray, n: int, *, column: str) -> Candidates:
    """Return the ``n`` best items of each row of (B, I) float32 scores; NaN is never proposed.

    Equal scores come in the order of the item index, so that the same input gives the same answer.
    """
    n_queries, n_items = scores.shape
    every_item = np.broadcast_to(np.arange(n_items, dtype=np.int32), (n_queries, n_items))
    return Candidates(every_item, {column: scores}).top(n, by=column)


def best_positions(scores: FloatArray, n: int, *, above: float = -np.inf) -> IndexArray:
    """Find the positions of the ``n`` largest scores of each row, in time that grows with the row alone.

    A lower bound of the n-th largest is the n-th largest of the maxima of some groups; few scores are not
    below it, and only those are ordered.

    Args:
        scores: (B, I) float32 without NaN.
        n: At least 1.
        above: Scores not above it are left out.

    Returns:
        (B, M) int32, best first, M at most n, -1 after the last; of equal scores the lower position first.
    """
    n_rows, n_items = scores.shape
    if not n_rows or not n_items:
        return np.empty((n_rows, 0), dtype=np.int32)
    at_once = max(1, _CELLS_AT_ONCE // n_items)
    if n_rows <= at_once:
        return _best_of_few(scores, n, above)
    best = np.full((n_rows, min(n, n_items)), PAD, dtype=np.int32)
    width = 0
    for start in range(0, n_rows, at_once):
        part = _best_of_few(scores[start : start + at_once], n, above)
        best[start : start + at_once, : part.shape[1]] = part
        width = max(width, part.shape[1])
    return best[:, :width]


def _best_of_few(scores: FloatArray, n: int, above: float) -> IndexArray:
    """Do what `best_positions` promises for scores that fit into the cache."""
    n_rows, n_items = scores.shape
    flat = scores.ravel()
    least = np.nextafter(np.float32(above), np.float32(np.inf))
    bound = np.maximum(_lower_bound(scores, n), least)
    cell = np.flatnonzero(scores >= bound[:, None])
    starts = np.searchsorted(cell, np.arange(n_rows + 1) * n_items)
    lengths = np.diff(starts)
    row = np.repeat(np.arange(n_rows), lengths)
    column = np.arange(len(cell)) - starts[row]
    keys = np.full((n_rows, int(lengths.max())), _NOTHING)
    keys[row, column] = (descending(flat[cell]) << 32) | (cell - row * n_items)
    keys.sort(axis=1)
    keys = keys[:, :n]
    return np.where(keys == _NOTHING, PAD, keys & 0xFFFFFFFF).astype(np.int32)


def nan_unless(is_heard: BoolArray) -> FloatArray:
    """Return 0 where True and NaN where False, to be added: ten times faster than choosing by the mask."""
    with np.errstate(invalid="ignore"):
        return np.float32(0.0) / is_heard.astype(np.float32)


def descending(scores: FloatArray) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Map float32 to int64 of 32 bits that rise as the scores fall; equal scores, ±0 too, give equal keys."""
    bits = (np.float32(0.0) - scores).view(np.int32)
    return (bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))).astype(np.int64)


_NOTHING = np.iinfo(np.int64).max
_CELLS_AT_ONCE = 262_144
"""Scores ranked at once: 1 MB, because they are read three times and should stay near the processor."""


def _lower_bound(scores: FloatArray, n: int) -> FloatArray:
    """Return (B,) float32 that at least ``n`` scores of each row reach; -inf where there are not so many."""
    n_rows, n_items = scores.shape
    if n_items <= n:
        return np.full(n_rows, -np.inf, dtype=np.float32)
    group = n_items // (n * _GROUPS_PER_PLACE)
    if group >= _SMALLEST_GROUP:
        n_groups = n_items // group
        scores = scores[:, : group * n_groups].reshape(n_rows, group, n_groups).max(axis=1)
    place = scores.shape[1] - n
    bound: FloatArray = np.partition(scores, place, axis=1)[:, place]
    return bound
