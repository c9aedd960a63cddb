"""What reads like the things this person took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import ClassVar, Literal

import numpy as np
import torch  # noqa: F401 - for `EightBits`: whoever lacks it is told when the source is named, not when it answers
from pydantic import PositiveInt

from zhiyin.contracts import (
    Between,
    CandidateSource,
    CatalogueLanguage,
    ComponentState,
    Config,
    DenseOpinion,
    Opinion,
    Probability,
    SearchRange,
    TrainingData,
)
from zhiyin.domain import (
    PAD,
    BoolArray,
    Catalogue,
    Examples,
    FloatArray,
    Histories,
    IndexArray,
    LongArray,
    Queries,
)
from zhiyin.language.whitening import Whitening
from zhiyin.sources.eight_bits import EightBits
from zhiyin.sources.listed import ItemLists, ListedOpinion
from zhiyin.sources.nearest import Indexed, ItemVectors, NearestOpinion, index_state
from zhiyin.training.selection import sample_examples, validation_ndcg

DECAYS_TRIED = (0.5, 0.3, 0.7, 0.9)
"""What ``auto`` chooses from; the first where there is no validation."""
STRENGTHS_TRIED = (0.0, 0.5, 1.0)
"""What ``auto`` chooses from; the first where there is no validation."""
_ITEMS_PER_DIMENSION = 4
"""With fewer items than this for each dimension, whitening would only push all items apart."""
_EXAMPLES_TO_CHOOSE_ON = 2000
_LEAST_WEIGHT = 1e-30


class SemanticNeighboursConfig(Config):
    """Settings of `SemanticNeighbours`."""

    history_length: PositiveInt = 20
    """Newest events of a history that are read."""
    history_decay: Probability | Literal["auto"] = "auto"
    """What each step back in the history is multiplied by; ``auto`` is chosen on validation."""
    whitening: Probability | Literal["auto"] = "auto"
    """0 compares the vectors as they are, 1 fully whitened ones; ``auto`` is chosen on validation."""
    index_above: PositiveInt = 100_000
    """Catalogues of more items are searched through an approximate index, which needs usearch."""

    search_space: ClassVar[Mapping[str, SearchRange]] = {"history_length": Between(3, 100, by_ratio=True)}


class SemanticNeighbours(Indexed, CandidateSource[SemanticNeighboursConfig]):
    """Compares the text of the history with the text of every item.

    With unit vectors v of the items' texts, the score of b is the decayed mean cosine to the history::

        Σ_i decay**i × cos(v[h_i], v[b]) / Σ_i decay**i,     h_0 being the newest event

    which is one matrix product, with vectors rounded to eight bits a number (see `EightBits`). An item nobody
    has touched is scored like any other, and so is one that is added later. There is no opinion (NaN) on
    items without words, nor for histories without any item that has words. In catalogues of more than
    ``index_above`` items, which are not compared one and all, candidates come from `ItemLists`.
    """

    name = "semantic"
    config_class = SemanticNeighboursConfig
    serves_new_items: ClassVar[bool] = True
    reads_vectors: ClassVar[bool] = True

    _vectors: EightBits | None = None
    _without_words: LongArray = np.empty(0, dtype=np.int64)
    _lists: ItemLists | None = None
    _whitening: Whitening | None = None
    _decay: float = DECAYS_TRIED[0]
    _strength: float = STRENGTHS_TRIED[0]

    @property
    def chosen(self) -> SemanticNeighboursConfig:
        """The settings in force, decay and whitening as they were chosen."""
        return self.config.model_copy(update={"history_decay": self._decay, "whitening": self._strength})

    def fit(self, training: TrainingData) -> None:
        """Take the catalogue's vectors; choose whitening and decay on validation."""
        plain = training.language.vectors(training.dataset.catalogue)
        examples = None
        if training.validation is not None:
            examples = sample_examples(training.validation, _EXAMPLES_TO_CHOOSE_ON, seed=training.seed)
        with training.progress.stage("semantic neighbours: choosing how to compare texts"):
            strengths = self._strengths(plain)
            fits = [Whitening.fit(plain, strength=strength) if strength else None for strength in strengths]
            candidates = [EightBits.of(plain if fit is None else fit.apply(plain)) for fit in fits]
            decays = DECAYS_TRIED if self.config.history_decay == "auto" else (self.config.history_decay,)
            place = self._best([(vectors, decays[0]) for vectors in candidates], examples)
            self._whitening, self._strength = fits[place], strengths[place]
            self._take(candidates[place])
            self._build_index(self.config.index_above)
            self._decay = decays[self._best([(candidates[place], decay) for decay in decays], examples)]
        self._lists = ItemLists.of(self._index, candidates[place], training.progress)

    def score_all(self, queries: Queries) -> FloatArray:
        """Return (B, I) float32, -1 to 1; NaN where there are no words to compare."""
        return self._dense(queries).all()

    def ask(self, queries: Queries) -> Opinion:
        """Read the histories once, and hold a cosine for every item, or what to look them up in."""
        if self._index is None:
            return self._dense(queries)
        assert self._vectors is not None
        recent = queries.histories.newest(self.config.history_length)
        mean, is_silent = mean_vectors(recent, self._vectors, self._decay)
        nearest = NearestOpinion(self._index, self._vectors, mean, is_silent, self._without_words)
        if self._lists is None:
            return nearest
        edges = self._lists.walked(recent, np.float32(self._decay) ** recent.age_of_event.astype(np.float32))
        return ListedOpinion(edges.opinion(len(recent), len(self._vectors)), nearest)

    @property
    def item_vectors(self) -> ItemVectors:
        """(I, D) vectors of all items."""
        self._require(self._vectors)
        assert self._vectors is not None
        return self._vectors

    def because(self, queries: Queries, item_index: IndexArray) -> IndexArray:
        """Name the item of the history whose text is closest, older ones counting less."""
        self._require(self._vectors)
        assert self._vectors is not None
        reasons = np.full(item_index.shape, PAD, dtype=np.int32)
        recent = queries.histories.newest(self.config.history_length)
        for row in range(len(queries)):  # explanations are asked for one user at a time
            events = recent.slice(row, row + 1).item_index
            known = events[events < len(self._vectors)]
            if len(known):
                decay = np.float32(self._decay) ** np.arange(len(known) - 1, -1, -1, dtype=np.float32)
                shown = self._vectors.take(np.clip(item_index[row], 0, len(self._vectors) - 1))
                closeness = (self._vectors.take(known) @ shown.T) * decay[:, None]
                is_close = (closeness.max(axis=0) > 0) & (item_index[row] != PAD)
                reasons[row] = np.where(is_close, known[closeness.argmax(axis=0)], PAD)
        return reasons

    def add_items(self, new: Catalogue, language: CatalogueLanguage) -> None:
        """Read the texts of new items; they are compared like all others from now on."""
        self._require(self._vectors)
        assert self._vectors is not None
        vectors = language.vectors(new)
        if self._whitening is not None:
            vectors = self._whitening.apply(vectors)
        arrivals = EightBits.of(vectors)
        vectors = arrivals.take(np.arange(len(arrivals)))
        self._index_arrivals(vectors)
        if self._lists is not None and self._index is not None:
            self._lists = self._lists.with_items(self._index, vectors)
        self._take(self._vectors.followed_by(arrivals))

    def state(self) -> ComponentState:
        """Return the vectors that are compared, as they are, and how they were made."""
        self._require(self._vectors)
        assert self._vectors is not None
        whitening = {} if self._whitening is None else self._whitening.state().arrays
        lists = {} if self._lists is None else self._lists.state()
        return ComponentState(
            {**self._vectors.arrays(), **whitening, **index_state(self._index), **lists},
            {"history_decay": self._decay, "whitening": self._strength},
        )

    def restore(self, state: ComponentState) -> None:
        """Take over saved vectors."""
        self._take(EightBits.restored(state.arrays))
        self._restore_index(state.arrays, self.config.index_above)
        self._lists = None if self._index is None else ItemLists.restored(state.arrays)
        self._whitening = Whitening.restore(state.arrays) if "projection" in state.arrays else None
        self._decay = float(state.facts["history_decay"])
        self._strength = float(state.facts["whitening"])

    def _dense(self, queries: Queries) -> DenseOpinion:
        self._require(self._vectors)
        assert self._vectors is not None
        scores = self._mean_cosines(queries, self._vectors, self._decay)
        if len(self._without_words):
            scores[:, self._without_words] = -np.inf
        return DenseOpinion(scores)

    def _take(self, vectors: EightBits) -> None:
        self._vectors = vectors
        self._without_words = np.flatnonzero(vectors.is_empty)

    def _strengths(self, plain: FloatArray) -> tuple[float, ...]:
        if self.config.whitening != "auto":
            return (self.config.whitening,)
        is_large = int(np.any(plain != 0, axis=1).sum()) >= _ITEMS_PER_DIMENSION * plain.shape[1]
        return STRENGTHS_TRIED if is_large else STRENGTHS_TRIED[:1]

    def _best(self, tried: Sequence[tuple[EightBits, float]], examples: Examples | None) -> int:
        """Return which of some pairs of vectors and decay ranks best; the first without examples."""
        if examples is None or len(tried) == 1:
            return 0
        measured = [
            validation_ndcg(partial(self._mean_cosines, vectors=vectors, decay=decay), examples)
            for vectors, decay in tried
        ]
        return int(np.argmax(measured))

    def _mean_cosines(self, queries: Queries, vectors: EightBits, decay: float) -> FloatArray:
        """(B, I) float32; rows of minus infinity where the history has no words."""
        recent = queries.histories.newest(self.config.history_length)
        mean, is_silent = mean_vectors(recent, vectors, decay)
        scores = vectors.products(mean)
        if is_silent.any():
            scores[is_silent] = -np.inf
        return scores


def mean_vectors(histories: Histories, vectors: EightBits, decay: float) -> tuple[FloatArray, BoolArray]:
    """Return the decayed mean vector of each history, (B, D) float32, and (B,) bool: it has no words at all.

    Args:
        histories: B histories.
        vectors: (I, D); rows of zeros have no words, and do not count.
        decay: What each step back is multiplied by.
    """
    item, row = histories.item_index, histories.row_of_event
    weights = np.float32(decay) ** histories.age_of_event.astype(np.float32)
    is_known = item < len(vectors)
    if not is_known.all():
        item, row, weights = item[is_known], row[is_known], weights[is_known]
    read = vectors.take(item)
    weights = weights * (vectors.scale[item] > 0)
    weight_of_row = np.zeros((len(histories), len(item)), dtype=np.float32)
    weight_of_row[row, np.arange(len(item))] = weights
    total = weight_of_row.sum(axis=1)
    mean = weight_of_row @ read
    mean /= np.maximum(total, _LEAST_WEIGHT)[:, None]
    return mean, total <= 0
