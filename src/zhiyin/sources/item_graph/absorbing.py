"""Edges that behaviour adds to the item graph between two trainings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from zhiyin.contracts.opinions import Edges
from zhiyin.contracts.updating import Steps, weights_of
from zhiyin.domain import FloatArray, Histories, IndexArray
from zhiyin.sources.item_graph.settings import ItemGraphConfig
from zhiyin.training.recent_counts import Doubles, RecentCounts

EVENTS_BETWEEN_FOLDS = 200_000
"""Events after which recent edges are folded into the trained graph; bounds their memory to about 100 MB."""


@dataclass(frozen=True, eq=False)
class RecentEdges:
    """What followed what since training, beside the trained graph; a value.

    The counts are those that training would add for the same events. Their scale is an approximation:
    training divides the whole row of a by (its sum) ** row_exponent; here the recent part of it is divided
    by max(sum at training, recent sum) ** row_exponent and the trained part stays. So within a row old and
    new counts weigh alike until more has come in than training saw, and an item that is new gets the scale
    that training would give it. The same holds for columns.

    Attributes:
        counts: Decayed follower counts, backward edges included.
        of_columns: Their sums by tail, as pairs (0, tail).
        row_sums: (I,) float32 sums of the trained rows; items beyond I have none.
        column_sums: (I,) float32 sums of the trained columns.
        n_events: Events taken in since the last fold.
    """

    row_sums: FloatArray
    column_sums: FloatArray
    counts: RecentCounts = RecentCounts()  # noqa: RUF009 - a value
    of_columns: RecentCounts = RecentCounts()  # noqa: RUF009 - a value
    n_events: int = 0

    @classmethod
    def beside(cls, counts: sp.csr_array) -> RecentEdges:
        """Begin beside the decayed, unscaled (I, I) counts of training."""
        rows, columns = (np.asarray(counts.sum(axis=axis)).ravel().astype(np.float32) for axis in (1, 0))
        return cls(rows, columns)

    def plus(self, steps: Steps, event_weights: FloatArray, config: ItemGraphConfig) -> RecentEdges:
        """Return these edges with those of further steps, on known items only."""
        heads, tails, weights = _edges(steps, event_weights, config)
        if config.backward:
            backward = np.float64(config.backward) * weights
            heads, tails = np.concatenate([heads, tails]), np.concatenate([tails, heads])
            weights = np.concatenate([weights, backward])
        counts, of_columns = self.counts.plus(heads, tails, weights), self.of_columns
        if config.column_exponent:
            of_columns = of_columns.plus(np.zeros_like(tails), tails, weights)
        return replace(self, counts=counts, of_columns=of_columns, n_events=self.n_events + len(steps))

    def reached(self, start: sp.csr_array, config: ItemGraphConfig) -> sp.csr_array:
        """Walk the recent edges from (B, I) sparse weights of items, and add them up, (B, I) sparse."""
        row = np.repeat(np.arange(start.shape[0], dtype=np.int64), np.diff(start.indptr))
        edges = self._walked(row, start.indices, start.data, config)
        return sp.csr_array((edges.weight, (edges.row, edges.item)), shape=start.shape)

    def walked(self, histories: Histories, weights: FloatArray, config: ItemGraphConfig) -> Edges:
        """Follow the recent edges from every event of B histories; (T,) weights are what the events count."""
        return self._walked(histories.row_of_event, histories.item_index, weights, config)

    def _walked(
        self,
        row: npt.NDArray[np.int64],
        heads: npt.NDArray[np.integer],
        weights: FloatArray,
        config: ItemGraphConfig,
    ) -> Edges:
        place, tails, values = self._scaled(heads, config)
        values *= weights[place]
        if (values <= 0).any():
            # What a weaker repeat takes back from training cannot be taken out of edges already scaled.
            kept = values > 0
            place, tails, values = place[kept], tails[kept], values[kept]
        return Edges(row[place], tails, values.astype(np.float32))

    def between(self, heads: IndexArray, tails: IndexArray, config: ItemGraphConfig) -> FloatArray:
        """Return (M, N) float32 scaled edges from M to N items."""
        edges = np.zeros((len(heads), len(tails)), dtype=np.float32)
        place, found, values = self._scaled(heads, config)
        for column, tail in enumerate(tails):  # the items of one slate
            is_tail = found == tail
            np.add.at(edges[:, column], place[is_tail], values[is_tail].astype(np.float32))
        return edges

    def folded(self, graph: sp.csr_array, config: ItemGraphConfig) -> tuple[sp.csr_array, RecentEdges]:
        """Bring the edges between trained items into the (I, I) graph; those of later items stay here."""
        n_items = graph.shape[0]
        heads, tails, counts = self.counts.pairs()
        old = (heads < n_items) & (tails < n_items)
        rows = np.bincount(heads[old], counts[old], minlength=n_items)
        columns = np.bincount(tails[old], counts[old], minlength=n_items)
        values = counts[old] * _inverse(np.maximum(rows, self.row_sums), config.row_exponent)[heads[old]]
        values *= _inverse(np.maximum(columns, self.column_sums), config.column_exponent)[tails[old]]
        cells = heads[old].astype(np.int32), tails[old].astype(np.int32)
        added = sp.csr_array((values.astype(np.float32), cells), shape=graph.shape)
        rest = RecentCounts().plus(heads[~old], tails[~old], counts[~old])
        of_columns = RecentCounts()
        if config.column_exponent:
            of_columns = of_columns.plus(np.zeros_like(tails[~old]), tails[~old], counts[~old])
        after = RecentEdges(
            (self.row_sums + rows).astype(np.float32),
            (self.column_sums + columns).astype(np.float32),
            rest,
            of_columns,
        )
        return sp.csr_array(graph + added, dtype=np.float32), after

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """Return what `of_arrays` reads."""
        kept: dict[str, npt.NDArray[np.generic]] = {
            "row_sums": self.row_sums,
            "column_sums": self.column_sums,
        }
        for name, counts in (("recent", self.counts), ("recent_columns", self.of_columns)):
            kept[f"{name}.keys"], kept[f"{name}.units"] = counts.merged()
        return kept

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, npt.NDArray[np.generic]], *, n_events: int) -> RecentEdges:
        """Take over what `arrays` returned."""
        counts, of_columns = (
            RecentCounts.of_run(arrays[f"{name}.keys"], arrays[f"{name}.units"])
            for name in ("recent", "recent_columns")
        )
        rows, columns = (np.asarray(arrays[name], dtype=np.float32) for name in ("row_sums", "column_sums"))
        return cls(rows, columns, counts, of_columns, n_events)

    def _scaled(
        self, heads: npt.NDArray[np.integer], config: ItemGraphConfig
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Doubles]:
        """Return place in heads, tail and scaled count of each edge that leads on from (M,) heads."""
        place, tails, counts = self.counts.of_heads(heads)
        recent = np.bincount(place, counts, minlength=len(heads))
        values = counts * _inverse(np.maximum(recent, _at(self.row_sums, heads)), config.row_exponent)[place]
        if config.column_exponent:
            sums = np.maximum(self.of_columns.at(np.zeros_like(tails), tails), _at(self.column_sums, tails))
            values *= _inverse(sums, config.column_exponent)
        return place, tails, values


def _edges(
    steps: Steps, event_weights: FloatArray, config: ItemGraphConfig
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], Doubles]:
    """Return head, tail and weight of every forward edge that the steps add.

    An event on the item of the event before it takes that one's place, as in training: what counts is the
    difference of their weights, seen from the items before both.
    """
    before = steps.before
    if before.n_events > config.window:
        before = before.newest(config.window + 1)
    weights = weights_of(event_weights, steps.event_index).astype(np.float64)
    repeats = steps.repeats
    if repeats.any():
        newest = before.offsets[1:][repeats] - 1
        weights[repeats] -= weights_of(event_weights, before.event_index[newest])
    row = before.row_of_event
    distance = before.age_of_event + 1 - repeats[row]
    kept = (distance >= 1) & (distance <= config.window) & (weights[row] != 0)
    row, distance = row[kept], distance[kept]
    worth = weights[row] * np.float64(config.decay) ** (distance - 1)
    return before.item_index[kept], steps.item_index[row], worth


def _at(sums: FloatArray, items: npt.NDArray[np.integer]) -> FloatArray:
    """Return the (n,) sums of (n,) items, 0 for those that came after training."""
    if not len(sums):
        return np.zeros(len(items), dtype=np.float32)
    return np.where(items < len(sums), sums[np.minimum(items, len(sums) - 1)], np.float32(0))


def _inverse(sums: npt.NDArray[np.floating], exponent: float) -> Doubles:
    if exponent == 0:
        return np.ones(len(sums))
    return np.where(sums > 0, np.maximum(sums, 1e-9) ** -exponent, 0.0).astype(np.float64)
