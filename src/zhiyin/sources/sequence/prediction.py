"""From queries to scores, the same lines while training and while serving."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from zhiyin.domain import FloatArray, Histories, Queries
from zhiyin.sources.sequence.network import SequenceNetwork
from zhiyin.sources.sequence.packing import Packing

EVENTS_AT_ONCE = 16_384
"""Events the network reads at once, padding included: enough to keep it busy, few enough for the cache."""


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
        item_vectors: (I, D) float32.
        queries: B queries.

    Returns:
        (B, I) float32, logits; NaN for histories without any known item.
    """
    scores = np.full((len(queries), len(item_vectors)), np.nan, dtype=np.float32)
    histories = readable(queries.histories, len(item_vectors), network.max_length)
    rows = np.flatnonzero(histories.lengths > 0)
    # Histories of like length side by side leave little to pad.
    rows = rows[np.argsort(histories.lengths[rows], kind="stable")]
    at_once = max(1, EVENTS_AT_ONCE // max(int(histories.lengths.max(initial=1)), 1))
    for start in range(0, len(rows), at_once):
        part = rows[start : start + at_once]
        scores[part] = (
            (_last_hidden(network, item_vectors, histories.take(part)) @ item_vectors.T).cpu().numpy()
        )
    return scores


def _last_hidden(network: SequenceNetwork, item_vectors: Tensor, histories: Histories) -> Tensor:
    """Return the (B, D) state after the newest event of each history."""
    packing = Packing.of(histories.lengths).to(item_vectors.device)
    events = torch.from_numpy(histories.item_index.astype(np.int64)).to(item_vectors.device)
    hidden: Tensor = network(item_vectors[events], packing)
    return hidden[packing.newest]
