"""From a trained table to the vectors that are served."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from zhiyin.domain import BoolArray, FloatArray, LongArray
from zhiyin.sources.sequence.arrivals import Arrivals
from zhiyin.sources.sequence.tables import ItemVectors
from zhiyin.sources.sequence.text import Whitening

MOST_KNOWN = 50_000
"""Items from which arrivals may borrow: where there are more, the most frequent ones."""
FEWEST_KNOWN = 1_000
MOST_COMPARISONS = 100_000_000_000
"""Texts compared for the untouched items of a catalogue: where these are millions, each looks at fewer."""
HALVED_ABOVE = 100_000
"""Vectors of larger catalogues are kept in float16."""


@torch.no_grad()
def finished(items: ItemVectors, whitening: Whitening | None, counts: LongArray) -> tuple[Tensor, Arrivals]:
    """Freeze the item vectors; items nobody has touched get theirs as if they arrived now.

    Args:
        items: Trained, on the CPU.
        whitening: Of their texts, or None where they have none.
        counts: (I,) int64, events of each item.

    Returns:
        (I, D) vectors, float32, or float16 where there are many; and what makes vectors for later items.
    """
    is_touched = counts > 0
    average_id = _average_id(items, is_touched)
    arrivals = _arrivals(items, whitening, counts, average_id)
    has_text = items.texts.has_text if items.texts is not None else np.zeros(len(items), dtype=np.bool_)
    near = arrivals.with_first(max(FEWEST_KNOWN, MOST_COMPARISONS // max(int((~is_touched).sum()), 1)))
    kind = torch.float16 if len(items) > HALVED_ABOVE else torch.float32
    vectors = torch.empty(len(items), len(average_id), dtype=kind)
    for part in items.portions():
        some = items(part).float()
        rows = part.numpy()
        untouched = ~is_touched[rows]
        if untouched.any():
            of_text = items.of_text(part[torch.from_numpy(untouched)])
            some[torch.from_numpy(untouched)] = torch.from_numpy(
                arrivals.average(int(untouched.sum()))
                if of_text is None
                else near.completed(of_text.float().numpy(), has_text[rows[untouched]])
            )
        vectors[part] = some.to(kind)
    return vectors, arrivals


def _average_id(items: ItemVectors, is_touched: BoolArray) -> FloatArray:
    """Return (D,) float32, the mean ID vector of touched items, or of all where none is."""
    counted = is_touched if is_touched.any() else np.ones_like(is_touched)
    total = torch.zeros(items.ids.rows.shape[1], dtype=torch.float64)
    for part in items.portions():
        total += items.ids(part[torch.from_numpy(counted[part.numpy()])]).double().sum(dim=0)
    average: FloatArray = (total / max(int(counted.sum()), 1)).float().numpy()
    return average


def _arrivals(
    items: ItemVectors, whitening: Whitening | None, counts: LongArray, average_id: FloatArray
) -> Arrivals:
    if whitening is None or items.texts is None or items.projection is None:
        nothing = np.empty((0, len(average_id)), dtype=np.float32)
        return Arrivals(np.empty(0, dtype=np.float32), nothing, nothing, nothing, average_id)
    known = np.flatnonzero((counts > 0) & items.texts.has_text)
    known = known[np.argsort(-counts[known], kind="stable")[:MOST_KNOWN]]
    rows = torch.from_numpy(known)
    weight = items.projection.weight.float()
    of_text = (items.texts(rows) @ weight.T).numpy()
    of_text /= np.maximum(np.linalg.norm(of_text, axis=1, keepdims=True), 1e-9)
    projection = whitening.matrix @ weight.T.numpy()
    return Arrivals(whitening.mean, projection, of_text, items.ids(rows).numpy(), average_id)
