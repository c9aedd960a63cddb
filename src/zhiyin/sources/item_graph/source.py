"""The source itself."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from zhiyin.contracts import (
    CandidateSource,
    CatalogueLanguage,
    ComponentState,
    Edges,
    Opinion,
    Steps,
    TrainingData,
)
from zhiyin.domain import PAD, Catalogue, FloatArray, Histories, IndexArray, LongArray, Queries, Vocabulary
from zhiyin.language.lexical import LexicalIndex, sparse_from_parts, sparse_parts
from zhiyin.sources.item_graph.absorbing import EVENTS_BETWEEN_FOLDS, RecentEdges
from zhiyin.sources.item_graph.choosing import choose_settings
from zhiyin.sources.item_graph.counts import (
    aged_weights,
    decayed_sum,
    follower_counts,
    history_weights,
    scaled,
    strongest,
)
from zhiyin.sources.item_graph.measuring import GraphQuality, joined
from zhiyin.sources.item_graph.settings import ItemGraphConfig
from zhiyin.sources.item_graph.walking import Follow, are_many, opinion_of, scores_of
from zhiyin.training.selection import sample_examples

_EXAMPLES_TO_CHOOSE_ON = 3000


class ItemGraph(CandidateSource[ItemGraphConfig]):
    """Walks one step from the history through a graph of items.

    An edge a → b is a decayed count of b following a, scaled by powers of the row and column sums, plus a
    power of the cosine of their words. With history h (newest first) and edges M, the score of b is
    ``Σ_i history_decay**i × M[h_i, b]``. Nothing is trained by gradients; the decays, exponents and the
    weight of text are chosen on validation. An item nobody has touched is reached through its words. Events
    after training add edges at once, see `zhiyin.sources.item_graph.absorbing`.
    """

    name = "item_graph"
    config_class = ItemGraphConfig
    serves_new_items = True
    absorbs_events = True
    in_short_steps = True

    def __init__(self, config: ItemGraphConfig | None = None, **settings: object) -> None:
        super().__init__(config, **settings)
        self.graph: sp.csr_array | None = None
        self.arrivals: sp.csr_array | None = None
        self.recent: RecentEdges | None = None
        self._to_arrivals: tuple[sp.csr_array, sp.csr_array] | None = None
        self._chosen: ItemGraphConfig = self.config
        self._lexical: LexicalIndex | None = None
        self._event_weights = np.ones(1, dtype=np.float32)

    @property
    def chosen(self) -> ItemGraphConfig:
        """The settings in force, those chosen on validation included."""
        return self._chosen

    def fit(self, training: TrainingData) -> None:
        """Count transitions, find text neighbours, choose the settings, join both into one graph."""
        dataset = training.dataset
        n_items = dataset.n_items
        self._event_weights = dataset.event_weights / max(float(dataset.event_weights.max()), 1e-9)
        histories = dataset.histories.without_repeats()
        weights = self._weights_of(histories)
        with training.progress.stage("item graph: counting transitions"):
            counts = [
                follower_counts(histories, weights, n_items=n_items, distances=range(d, d + 1))
                for d in range(1, self.config.window + 1)
            ]
        with training.progress.stage("item graph: text neighbours"):
            self._lexical = LexicalIndex(dataset.catalogue)
            text = self._text_edges(self._lexical.matrix, drop_self=True)

        def decayed(window: int, decay: float, backward: float) -> sp.csr_array:
            return decayed_sum(counts[:window], decay=decay, backward=backward)

        if self.config.choose_on_validation and training.validation is not None:
            examples = sample_examples(training.validation, _EXAMPLES_TO_CHOOSE_ON, seed=training.seed)
            quality = GraphQuality(decayed, text, examples, self._weights_of, self.config.history_length)
            self._chosen = choose_settings(self.config, quality, training.progress)
        chosen = self._chosen
        moved = decayed(chosen.window, chosen.decay, chosen.backward)
        edges = scaled(moved, row_exponent=chosen.row_exponent, column_exponent=chosen.column_exponent)
        self.graph, self.arrivals = strongest(joined(edges, text, chosen), chosen.most_edges), None
        self.recent = RecentEdges.beside(moved)

    def score_all(self, queries: Queries) -> FloatArray:
        """Score every item by the edges that lead to it from the history; no opinion where none does."""
        self._require(self.graph)
        recent = queries.histories.without_repeats().newest(self._chosen.history_length)
        start = self._start(queries, self._chosen, n_items=len(self))
        scores = scores_of(start, self._reached, self._edges_that_lead_on(recent))
        return np.where(scores > 0, scores, np.float32(np.nan))

    def ask(self, queries: Queries) -> Opinion:
        """Walk the edges from the history, without looking at the rest of the catalogue."""
        arrivals, n_items = self._arrivals(), len(self)
        assert self.graph is not None
        recent = queries.histories.without_repeats().newest(self._chosen.history_length)
        n_edges = self._edges_that_lead_on(recent)
        if are_many(int(n_edges.sum()), n_items):
            return opinion_of(self._start(queries, self._chosen, n_items=n_items), self._reached, n_edges)
        n_trained = self.graph.shape[0]
        weights = aged_weights(recent, self._weights_of(recent), decay=self._chosen.history_decay)
        edges = Edges.walked(recent, weights, self.graph)
        if arrivals.shape[0]:
            edges = edges.joined(Edges.walked(recent, weights, arrivals, first_item=n_trained))
            back = Edges.walked(recent, weights, self._edges_to_arrivals())
            edges = edges.joined(Edges(back.row, back.item + n_trained, back.weight))
        if self.recent is not None and len(self.recent.counts):
            edges = edges.joined(self.recent.walked(recent, weights, self._chosen))
        return edges.opinion(len(recent), n_items)

    @property
    def is_dense(self) -> bool:
        """Only what is reached from the history has a score."""
        return False

    def because(self, queries: Queries, item_index: IndexArray) -> IndexArray:
        """Name the item of the history with the strongest decayed edge to each item."""
        recent = queries.histories.without_repeats().newest(self._chosen.history_length)
        reasons = np.full(item_index.shape, PAD, dtype=np.int32)
        for row in range(len(queries)):  # explanations are asked for one user at a time
            events = recent.slice(row, row + 1)
            known = events.item_index[events.item_index < len(self)]
            if not len(known):
                continue
            decay = self._chosen.history_decay ** np.arange(len(known) - 1, -1, -1)
            shown = np.clip(item_index[row], 0, len(self) - 1)
            strength = self._edges_between(known, shown) * decay[:, None]
            has_reason = (strength.max(axis=0) > 0) & (item_index[row] != PAD)
            reasons[row] = np.where(has_reason, known[strength.argmax(axis=0)], PAD)
        return reasons

    def __len__(self) -> int:
        """Items the graph knows, those that came after training included."""
        arrivals = self._arrivals()
        return int(arrivals.shape[0] + arrivals.shape[1])

    def add_items(self, new: Catalogue, language: CatalogueLanguage) -> None:  # noqa: ARG002
        """Link new items with their text neighbours among the trained items, both ways.

        The trained graph is not rebuilt: edges of arrivals stand beside it, so that an item is taken in
        within milliseconds. Two arrivals are not linked with each other before the next training.
        """
        arrivals = self._arrivals()
        assert self._lexical is not None
        edges = self._text_edges(self._lexical.rows_of(new), drop_self=False)
        # A shop may have no weight for text because its items have long histories; a new item has none.
        weight = self._chosen.text_weight or self.config.text_weight
        edges.data = np.float32(weight) * edges.data**self._chosen.text_exponent
        self.arrivals = sp.csr_array(sp.vstack([arrivals, edges], format="csr"), dtype=np.float32)

    def absorb(self, steps: Steps) -> None:
        """Add the edges of new events, O(window) an event; from time to time fold them into the graph."""
        self._require(self.graph)
        assert self.graph is not None
        assert self.recent is not None
        steps = steps.on_items(len(self))
        while len(steps):
            n = min(len(steps), EVENTS_BETWEEN_FOLDS - self.recent.n_events)
            recent = self.recent.plus(steps.slice(0, n), self._event_weights, self._chosen)
            if recent.n_events == EVENTS_BETWEEN_FOLDS:
                self.graph, recent = recent.folded(self.graph, self._chosen)
            self.recent = recent
            if n == len(steps):
                return
            steps = steps.slice(n, len(steps))

    def state(self) -> ComponentState:
        """Return the graph, the words of the catalogue and the settings that were chosen."""
        self._require(self.graph)
        assert self._lexical is not None
        arrays: dict[str, npt.NDArray[np.generic]] = {
            "event_weights": self._event_weights,
            "idf": self._lexical.idf,
        }
        arrays |= self.recent.arrays() if self.recent is not None else {}
        arrays |= {f"graph.{name}": part for name, part in sparse_parts(self.graph).items()}
        arrays |= {f"arrivals.{name}": part for name, part in sparse_parts(self._arrivals()).items()}
        arrays |= {f"lexical.{name}": part for name, part in sparse_parts(self._lexical.matrix).items()}
        facts = {
            "chosen": self._chosen.model_dump(),
            "n_absorbed": self.recent.n_events if self.recent is not None else 0,
            "columns": list(self._lexical.columns),
            "words": self._lexical.vocabulary.ids.to_list(),
        }
        return ComponentState(arrays, facts)

    def restore(self, state: ComponentState) -> None:
        """Take over a saved graph."""
        arrays, facts = state.arrays, state.facts
        self._chosen = ItemGraphConfig.parse(facts["chosen"], where=self.name)
        self.graph = sparse_from_parts(arrays, "graph.")
        self.arrivals = sparse_from_parts(arrays, "arrivals.")
        self.recent = RecentEdges.of_arrays(arrays, n_events=int(facts["n_absorbed"]))
        self._event_weights = np.asarray(arrays["event_weights"], dtype=np.float32)
        self._lexical = LexicalIndex.from_parts(
            facts["columns"],
            Vocabulary(facts["words"]),
            np.asarray(arrays["idf"], dtype=np.float32),
            sparse_from_parts(arrays, "lexical."),
        )

    def _weights_of(self, histories: Histories) -> FloatArray:
        known = np.minimum(histories.event_index, len(self._event_weights) - 1)
        return self._event_weights[known]

    def _arrivals(self) -> sp.csr_array:
        """Edges of the items that came after training: one row each, one column a trained item."""
        self._require(self.graph)
        assert self.graph is not None
        if self.arrivals is None:
            self.arrivals = sp.csr_array((0, self.graph.shape[0]), dtype=np.float32)
        return self.arrivals

    def _start(self, queries: Queries, config: ItemGraphConfig, *, n_items: int) -> sp.csr_array:
        recent = queries.histories.without_repeats().newest(config.history_length)
        return history_weights(recent, self._weights_of(recent), decay=config.history_decay, n_items=n_items)

    def _edges_that_lead_on(self, recent: Histories) -> LongArray:
        """Count the edges of the trained graph that lead on from each of B histories, (B,) int64."""
        assert self.graph is not None
        known = recent.item_index < self.graph.shape[0]
        item, row = recent.item_index[known], recent.row_of_event[known]
        n_edges = self.graph.indptr[item + 1] - self.graph.indptr[item]
        return np.bincount(row, n_edges, minlength=len(recent)).astype(np.int64)

    def _reached(self, start: sp.csr_array, follow: Follow) -> sp.csr_array:
        """Follow all edges from (M, I) sparse weights of items, (M, I) sparse."""
        arrivals = self._arrivals()
        assert self.graph is not None
        n_trained = self.graph.shape[0]
        old = start[:, :n_trained] if arrivals.shape[0] else start
        reached = follow(old, self.graph)
        if arrivals.shape[0]:
            reached = reached + follow(start[:, n_trained:], arrivals)
            reached = sp.hstack([reached, follow(old, self._edges_to_arrivals())], format="csr")
        if self.recent is not None and len(self.recent.counts):
            reached = reached + self.recent.reached(start, self._chosen)
        return sp.csr_array(reached)

    def _edges_to_arrivals(self) -> sp.csr_array:
        """Edges from trained items to those that came after training: the text edges the other way round."""
        arrivals = self._arrivals()
        if self._to_arrivals is None or self._to_arrivals[0] is not arrivals:
            self._to_arrivals = arrivals, sp.csr_array(arrivals.T)
        return self._to_arrivals[1]

    def _edges_between(self, heads: IndexArray, tails: IndexArray) -> FloatArray:
        """(M, N) float32 edges from M to N items; two arrivals have none."""
        arrivals = self._arrivals()
        assert self.graph is not None
        n_trained = self.graph.shape[0]
        old_heads, old_tails = heads < n_trained, tails < n_trained
        edges = np.zeros((len(heads), len(tails)), dtype=np.float32)
        edges[np.ix_(old_heads, old_tails)] = self.graph[heads[old_heads]][:, tails[old_tails]].toarray()
        to_old = arrivals[heads[~old_heads] - n_trained][:, tails[old_tails]]
        edges[np.ix_(~old_heads, old_tails)] = to_old.toarray()
        from_old = arrivals[tails[~old_tails] - n_trained][:, heads[old_heads]]
        edges[np.ix_(old_heads, ~old_tails)] = from_old.toarray().T
        return edges if self.recent is None else edges + self.recent.between(heads, tails, self._chosen)

    def _text_edges(self, rows: sp.csr_array, *, drop_self: bool) -> sp.csr_array:
        assert self._lexical is not None
        edges = self._lexical.neighbours(rows, self.config.n_text_neighbours + int(drop_self))
        if not drop_self:
            return edges
        row = np.repeat(np.arange(edges.shape[0], dtype=np.int32), np.diff(edges.indptr))
        is_itself = edges.indices == row
        n_before = np.cumsum(np.bincount(row[is_itself], minlength=edges.shape[0]))
        offsets = edges.indptr - np.append(0, n_before).astype(edges.indptr.dtype)
        return sp.csr_array((edges.data[~is_itself], edges.indices[~is_itself], offsets), shape=edges.shape)
