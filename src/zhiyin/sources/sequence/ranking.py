"""How well a large catalogue is ranked, without ever holding all its vectors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from zhiyin.domain import Examples, LongArray
from zhiyin.sources.sequence.network import SequenceNetwork
from zhiyin.sources.sequence.prediction import last_states, readable
from zhiyin.sources.sequence.tables import ItemVectors

_SCORES_AT_ONCE = 16_000_000
"""Scores (examples × items) held at once: 64 MB of float32."""


@torch.inference_mode()
def catalogue_ndcg(network: SequenceNetwork, items: ItemVectors, examples: Examples, *, k: int = 10) -> float:
    """Mean NDCG@k over the whole catalogue, as `validation_ndcg` has it, some items at a time.

    Args:
        network: In evaluation mode.
        items: Their vectors are made and forgotten portion by portion.
        examples: What to rank for.
        k: The cut.

    Returns:
        A number from 0 to 1; 0 when there are no examples.
    """
    if not len(examples):
        return 0.0
    asked = examples.take(np.flatnonzero(examples.targets.lengths > 0))
    rows, hidden = _read(network, items, asked)
    if not len(rows):
        return 0.0
    asked = asked.take(rows)
    targets = np.asarray(asked.targets.values)[asked.targets.offsets[:-1]].astype(np.int64)
    ranks = _ranks(hidden, items, asked, targets)
    return float(np.where(ranks <= k, 1.0 / np.log2(ranks + 1.0), 0.0).sum()) / len(examples)


def _read(network: SequenceNetwork, items: ItemVectors, asked: Examples) -> tuple[LongArray, Tensor]:
    """Read the histories with the vectors of the items that occur in them, and no others."""
    histories = readable(asked.queries.histories, len(items), network.max_length)
    met, place = np.unique(histories.item_index, return_inverse=True)
    vectors = items(torch.from_numpy(met.astype(np.int64)).to(items.ids.rows.device)).float()
    renamed = replace(histories, item_index=place.astype(np.int32))
    return last_states(network, vectors, replace(asked.queries, histories=renamed))


def _ranks(hidden: Tensor, items: ItemVectors, asked: Examples, targets: LongArray) -> np.ndarray:
    """Return (B,) float64 ranks of the targets among the items not yet seen, ties at their average."""
    seen = asked.queries.histories
    known = seen.item_index < len(items)
    # A target is no competitor of its own, and one that was seen already is not ranked at all.
    item = np.concatenate([seen.item_index[known], targets])
    row = np.concatenate([seen.row_of_event[known], np.arange(len(targets))])
    order = np.argsort(item, kind="stable")
    item, of_query = item[order], torch.from_numpy(row[order])
    device = hidden.device
    of_target = (hidden * items(torch.from_numpy(targets).to(device)).float()).sum(dim=1, keepdim=True)
    n_better = torch.zeros(len(targets), dtype=torch.int64, device=device)
    n_equal = torch.zeros_like(n_better)
    at_once = max(256, _SCORES_AT_ONCE // len(targets))
    for start in range(0, len(items), at_once):
        stop = min(start + at_once, len(items))
        scores = hidden @ items(torch.arange(start, stop, device=device)).float().T
        first, last = np.searchsorted(item, [start, stop])
        scores[of_query[first:last], torch.from_numpy(item[first:last] - start)] = -torch.inf
        n_better += (scores > of_target).sum(dim=1)
        n_equal += (scores == of_target).sum(dim=1)
    ranks: np.ndarray = (1.0 + n_better.double() + n_equal.double() / 2.0).cpu().numpy()
    is_seen = np.zeros(len(targets), dtype=np.bool_)
    is_seen[seen.row_of_event[seen.item_index == targets[seen.row_of_event]]] = True
    return np.where(is_seen, np.inf, ranks)
