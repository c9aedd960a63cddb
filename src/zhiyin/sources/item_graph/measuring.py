"""What a graph would be worth on validation, without making all of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import scipy.sparse as sp

from zhiyin.domain import Examples, FloatArray, Histories, Queries
from zhiyin.sources.item_graph.counts import aged_weights, scaled, sums_of
from zhiyin.sources.item_graph.settings import ItemGraphConfig
from zhiyin.sources.item_graph.walking import added_up, one_by_one
from zhiyin.training.selection import validation_ndcg

_QUERIES_AT_ONCE = 128
"""Few, so that their scores for the whole of a usual catalogue stay near the processor."""
_CELLS_PER_EDGE = 8
"""Where there are more cells for an edge than these, only what is reached is ranked."""

Decayed = Callable[[int, float, float], sp.csr_array]
"""Window, decay and backward → (I, I) decayed counts."""


class GraphQuality:
    """Ranks for validation examples by the edges that lead on from their histories, and looks at no others.

    A graph is made for each choice of settings. Where these histories hold little of a catalogue, most of it
    would be made in vain.

    Args:
        decayed: Gives the counts.
        text: (I, I) cosines of text neighbours.
        examples: What to rank for.
        weights_of: Histories → (T,) float32, what their events count.
        history_length: Newest events of a history that are walked from.
    """

    def __init__(
        self,
        decayed: Decayed,
        text: sp.csr_array,
        examples: Examples,
        weights_of: Callable[[Histories], FloatArray],
        history_length: int,
    ) -> None:
        self._examples, self._weights_of, self._history_length = examples, weights_of, history_length
        n_items = text.shape[0]
        heads = np.unique(self._recent(examples.queries).item_index)
        heads = heads[heads < n_items]
        self._place = np.full(n_items, -1, dtype=np.int32)
        self._place[heads] = np.arange(len(heads), dtype=np.int32)
        self._n_heads, self._text = len(heads), sp.csr_array(text[heads])

        @lru_cache(maxsize=4)
        def counted(
            window: int, decay: float, backward: float
        ) -> tuple[sp.csr_array, tuple[FloatArray, FloatArray]]:
            counts = decayed(window, decay, backward)
            of_rows, of_columns = sums_of(counts)
            return sp.csr_array(counts[heads]), (of_rows[heads], of_columns)

        self._counted = counted

    def __call__(self, config: ItemGraphConfig) -> float:
        """Return the validation NDCG@10 of the graph of some settings."""
        counts, sums = self._counted(config.window, config.decay, config.backward)
        edges = joined(
            scaled(
                counts, row_exponent=config.row_exponent, column_exponent=config.column_exponent, sums=sums
            ),
            self._text,
            config,
        )

        n_edges = np.diff(edges.indptr)

        def reached(queries: Queries) -> sp.csr_array | FloatArray:
            start = self._start(queries, config.history_decay)
            if int(n_edges[start.indices].sum()) * _CELLS_PER_EDGE < start.shape[0] * edges.shape[1]:
                return added_up(start, edges)
            scores: FloatArray = one_by_one(start, edges).toarray()
            return scores

        return validation_ndcg(reached, self._examples, chunk=_QUERIES_AT_ONCE)

    def _recent(self, queries: Queries) -> Histories:
        return queries.histories.without_repeats().newest(self._history_length)

    def _start(self, queries: Queries, decay: float) -> sp.csr_array:
        """(B, number of heads) float32, what the items of each history weigh."""
        recent = self._recent(queries)
        weights = aged_weights(recent, self._weights_of(recent), decay=decay)
        known = recent.item_index < len(self._place)
        places = (recent.row_of_event[known], self._place[recent.item_index[known]])
        return sp.csr_array((weights[known], places), shape=(len(queries), self._n_heads), dtype=np.float32)


def joined(edges: sp.csr_array, text: sp.csr_array, config: ItemGraphConfig) -> sp.csr_array:
    """Add text neighbours, as much as the settings say, to the edges of the same items."""
    if config.text_weight == 0:
        return edges
    by_text = text.copy()
    by_text.data = np.float32(config.text_weight) * text.data**config.text_exponent
    return sp.csr_array(edges + by_text, dtype=np.float32)
