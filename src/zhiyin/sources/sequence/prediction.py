"""From queries to scores, the same lines while training and while serving."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from zhiyin.domain import BoolArray, FloatArray, Histories, LongArray, Queries
from zhiyin.sources.sequence.gaps import gaps_until
from zhiyin.sources.sequence.network import SequenceNetwork
from zhiyin.sources.sequence.packing import Packing

EVENTS_AT_ONCE = 16_384
"""Events the network reads at once, padding included: enough to keep it busy, few enough for the cache."""
CELLS_AT_ONCE = 200_000
"""Pairs of events, padding included, that attention looks at at once: some 15 MB."""
CELLS_OF_A_PASS = 5_000
"""Pairs of events, padding included, that attention looks at in the time in which a pass merely begins."""
ITEMS_WIDENED_AT_ONCE = 65_536
"""Vectors in float16 that are made float32 at once: 16 MB."""


def readable(histories: Histories, n_items: int, max_length: int) -> Histories:
    """Return the newest events whose items have a vector, runs on one item counted once."""
    is_known = (histories.item_index >= 0) & (histories.item_index < n_items)
    known = histories if is_known.all() else histories.where(is_known)
    return known.without_repeats().newest(max_length)


@torch.inference_mode()
def score_catalogue(network: SequenceNetwork, item_vectors: Tensor, queries: Queries) -> FloatArray:
    """Score every item as the next event: last hidden state · item vector.

    Args:
        network: In evaluation mode.
        item_vectors: (I, D) float32 or float16.
        queries: B queries.

    Returns:
        (B, I) float32, logits; minus infinity for histories without any known item.
    """
    rows, hidden = last_states(network, item_vectors, queries)
    if len(rows) == len(queries):
        return _products(hidden, item_vectors)
    scores = np.full((len(queries), len(item_vectors)), -np.inf, dtype=np.float32)
    scores[rows] = _products(hidden, item_vectors)
    return scores


def _products(hidden: Tensor, item_vectors: Tensor) -> FloatArray:
    """Return (R, I) float32 inner products; vectors in float16 are widened some at a time."""
    if item_vectors.dtype == torch.float32:
        everything: FloatArray = (hidden @ item_vectors.T).cpu().numpy()
        return everything
    products = np.empty((len(hidden), len(item_vectors)), dtype=np.float32)
    for start in range(0, len(item_vectors), ITEMS_WIDENED_AT_ONCE):
        part = item_vectors[start : start + ITEMS_WIDENED_AT_ONCE].float()
        products[:, start : start + len(part)] = (hidden @ part.T).cpu().numpy()
    return products


def read_histories(
    network: SequenceNetwork, item_vectors: Tensor, queries: Queries
) -> tuple[FloatArray, BoolArray]:
    """Return what item vectors are multiplied with, (B, D) float32, and (B,) bool: nothing is known."""
    rows, hidden = last_states(network, item_vectors, queries)
    asked = np.zeros((len(queries), item_vectors.shape[1]), dtype=np.float32)
    asked[rows] = hidden.cpu().numpy()
    is_silent = np.ones(len(queries), dtype=np.bool_)
    is_silent[rows] = False
    return asked, is_silent


@torch.inference_mode()
def last_states(network: SequenceNetwork, item_vectors: Tensor, queries: Queries) -> tuple[LongArray, Tensor]:
    """Read the histories.

    Returns:
        (R,) int64 rising, the queries with any known item, and (R, D) float32, the hidden state after the
        newest event of each.
    """
    histories = readable(queries.histories, len(item_vectors), network.max_length)
    lengths = histories.lengths
    rows = np.flatnonzero(lengths > 0)
    order = np.argsort(lengths[rows], kind="stable")
    parts = [order[part] for part in runs_alike(lengths[rows][order])]
    if len(parts) == 1:
        some = histories if len(rows) == len(queries) else histories.take(rows)
        return rows, _last_hidden(network, item_vectors, some, queries.timestamp[rows])
    hidden = item_vectors.new_empty(len(rows), item_vectors.shape[1], dtype=torch.float32)
    for part in parts:
        some, requested = histories.take(rows[part]), queries.timestamp[rows[part]]
        hidden[torch.from_numpy(part)] = _last_hidden(network, item_vectors, some, requested)
    return rows, hidden


def runs_alike(lengths: LongArray) -> list[slice]:
    """Cut rising lengths (R,) into runs that are read together; one, maybe empty, at least.

    Sequences of a run are padded to the longest, and attention looks at the square of that. A run is cut in
    two where that saves most, as long as it saves more than another pass through the network costs.
    """
    if not len(lengths):
        return [slice(0, 0)]
    runs, pending = [], [(0, len(lengths))]
    while pending:
        start, end = pending.pop()
        part, longest = lengths[start:end], int(lengths[end - 1])
        saved = np.arange(1, len(part)) * (longest**2 - part[:-1] ** 2)
        if saved.max(initial=0) > CELLS_OF_A_PASS:
            middle = start + int(saved.argmax()) + 1
            pending += [(middle, end), (start, middle)]
            continue
        at_once = max(1, min(EVENTS_AT_ONCE // longest, CELLS_AT_ONCE // longest**2))
        runs += [slice(place, min(place + at_once, end)) for place in range(start, end, at_once)]
    return runs


def _last_hidden(
    network: SequenceNetwork, item_vectors: Tensor, histories: Histories, requested: LongArray
) -> Tensor:
    """Return the (R, D) states after the newest events of histories that are not empty."""
    if not len(histories):
        return item_vectors.new_empty(0, item_vectors.shape[1], dtype=torch.float32)
    device = item_vectors.device
    packing = Packing.of(histories.lengths).to(device)
    gaps = torch.from_numpy(gaps_until(histories, requested).astype(np.int64)).to(device)
    events = torch.from_numpy(histories.item_index).to(device)
    return network.newest(item_vectors.index_select(0, events).float(), gaps, packing)
