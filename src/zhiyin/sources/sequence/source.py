"""The source itself."""

from __future__ import annotations

from typing import Self

import numpy as np

from zhiyin.contracts import (
    CandidateSource,
    CatalogueLanguage,
    ComponentState,
    DenseOpinion,
    Growth,
    Opinion,
    TrainingData,
)
from zhiyin.domain import Catalogue, FloatArray, Queries
from zhiyin.domain.errors import ConfigError
from zhiyin.domain.extras import from_extra
from zhiyin.sources.nearest import Indexed, ItemVectors, NearestOpinion, index_state
from zhiyin.sources.sequence.prediction import read_histories, score_catalogue
from zhiyin.sources.sequence.settings import NARROW, WIDE, SequenceTransformerConfig
from zhiyin.sources.sequence.trained import TrainedSequence


class SequenceTransformer(Indexed, CandidateSource[SequenceTransformerConfig]):
    """Reads a history from its oldest to its newest event and says what comes next.

    A causal transformer of gated attention (HSTU; Zhai et al., "Actions Speak Louder than Words", 2024),
    trained with cross-entropy over the whole catalogue at every position. Beside its item, an event tells how
    much time passed until the next, the newest one how much until the request. The vector of an item, the
    same for input and output, is its ID vector plus the projection of its whitened text, so an item that
    arrives later is served by its text and an ID vector borrowed from items with similar texts.
    """

    name = "sequence"
    config_class = SequenceTransformerConfig
    serves_new_items = True
    reads_vectors = True

    def __init__(self, config: SequenceTransformerConfig | None = None, **settings: object) -> None:
        super().__init__(config, **settings)
        width = self.config.dimension
        if (NARROW if width == "auto" else width) % self.config.n_heads:
            told = f"{NARROW} or {WIDE} with 'auto'" if width == "auto" else f"{width}"
            raise ConfigError(
                f"Setting '{self.name}.n_heads' is {self.config.n_heads}, which does not divide "
                f"'{self.name}.dimension', {told}.",
                remedy="Choose 1, 2 or 4 heads.",
            )
        self.trained: TrainedSequence | None = None

    @property
    def chosen(self) -> SequenceTransformerConfig:
        """The settings in force, those derived from the data included."""
        if self.trained is None:
            return self.config
        derived = {
            "dimension": self.trained.shape.dimension,
            "max_length": self.trained.shape.max_length,
            "dropout": self.trained.facts.get("dropout", self.config.dropout),
            "learns_repeats": self.trained.learns_repeats,
        }
        return self.config.model_copy(update=derived)

    def fit(self, training: TrainingData) -> None:
        """Train until the validation metric stops rising, and keep the best weights.

        Where nobody has two events there is nothing to learn, and the source has no opinion.

        Raises:
            TrainingError: when the loss is not a number.
        """
        with from_extra("language"):  # Lightning, which those that only answer do without: 170 MB
            from zhiyin.sources.sequence.fitting import fit_sequence  # noqa: PLC0415
        self._take(fit_sequence(self.config, training, self.name))

    def score_all(self, queries: Queries) -> FloatArray:
        """Score every item as the next event, (B, I) float32 logits; NaN for empty histories.

        NaN for items of the history as well where repeats were not learned.
        """
        return self._dense(queries).all()

    def ask(self, queries: Queries) -> Opinion:
        """Read the histories once, and hold a logit for every item, or an index to look them up in."""
        trained = self._ready()
        if self._index is None or not trained.facts["has_learned"]:
            return self._dense(queries)
        asked, is_silent = read_histories(trained.network, trained.item_vectors, queries)
        nothing = np.empty(0, dtype=np.int64)
        return NearestOpinion(self._index, trained.item_vectors.numpy(), asked, is_silent, nothing)

    @property
    def item_vectors(self) -> ItemVectors:
        """(I, D) vectors of all items."""
        vectors: FloatArray = self._ready().item_vectors.numpy()
        return vectors

    def add_items(self, new: Catalogue, language: CatalogueLanguage) -> None:
        """Take in new items by their texts, and as average items where training saw no text."""
        trained = self._ready()
        arrivals = trained.arrivals
        vectors = arrivals.read(language.vectors(new)) if arrivals.reads_text else arrivals.average(len(new))
        self._index_arrivals(vectors)
        self.trained = trained.with_items(vectors)

    def refreshed(self, training: TrainingData, growth: Growth) -> Self:
        """Go on from the weights, on what is new and a replayed sample of what is old.

        Raises:
            TrainingError: when the loss is not a number.
        """
        with from_extra("language"):
            from zhiyin.sources.sequence.refreshing import continue_sequence  # noqa: PLC0415
        again = type(self)(self.config)
        again._take(continue_sequence(self.config, self._ready(), training, growth, self.name))
        return again

    def state(self) -> ComponentState:
        """Return network, item vectors and what reads new texts; the facts hold the learning curve."""
        state = self._ready().state()
        return ComponentState({**state.arrays, **index_state(self._index)}, state.facts)

    def restore(self, state: ComponentState) -> None:
        """Take over a saved transformer."""
        self.trained = TrainedSequence.from_state(state)
        self._index = None
        if self.trained.learns_repeats:
            self._restore_index(state.arrays, self.config.index_above)

    def _take(self, trained: TrainedSequence) -> None:
        self.trained, self._index = trained, None
        if trained.learns_repeats:  # an index would find what the user has first
            self._build_index(self.config.index_above)

    def _dense(self, queries: Queries) -> DenseOpinion:
        trained = self._ready()
        if not trained.facts["has_learned"]:
            silence = np.full((len(queries), len(trained.item_vectors)), -np.inf, dtype=np.float32)
            return DenseOpinion(silence)
        scores = score_catalogue(trained.network, trained.item_vectors, queries)
        if not trained.learns_repeats:
            # What a user has was never compared with anything: its logit would mean nothing.
            items = queries.histories.item_index
            has_vector = (items >= 0) & (items < len(trained.item_vectors))
            scores[queries.histories.row_of_event[has_vector], items[has_vector]] = -np.inf
        return DenseOpinion(scores)

    def _ready(self) -> TrainedSequence:
        self._require(self.trained)
        assert self.trained is not None
        return self.trained
