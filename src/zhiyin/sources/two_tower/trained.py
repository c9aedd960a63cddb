"""What training a two-tower leaves behind, and how it is written down."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from zhiyin.contracts import CatalogueLanguage, ComponentState, ReadsWithModel
from zhiyin.domain import Catalogue, FloatArray
from zhiyin.domain.errors import ConfigError
from zhiyin.language.adapting import AdaptedEncoder, AdapterShape
from zhiyin.language.model_files import locate_model
from zhiyin.sources.two_tower.tower import project

_ADAPTERS = "adapters."


@dataclass(frozen=True)
class AdaptedModel:
    """Which encoder was adapted, and how it reads since then.

    Attributes:
        name: What `locate_model` finds it by.
        fingerprint: Of its files.
        shape: Sizes of the adapters.
        adapters: Name → float32 array.
    """

    name: str
    fingerprint: str
    shape: AdapterShape
    adapters: dict[str, npt.NDArray[np.generic]]

    def load(self, name: str | None) -> AdaptedEncoder:
        """Load the model and put the adapters in.

        Args:
            name: Where the model lies on this machine; None looks where it lay while training.

        Raises:
            ConfigError: when it is not there, or is another model.
        """
        model = locate_model(name or self.name)
        if model.fingerprint != self.fingerprint:
            raise ConfigError(
                f"The text two-tower adapted the model '{self.name}'; '{model.name}' has other weights.",
                remedy="Bring back the model it was trained with, or train again.",
            )
        encoder = AdaptedEncoder(model, self.shape)
        encoder.take_adapters(self.adapters)
        return encoder


@dataclass(frozen=True, eq=False)
class TrainedTowers:
    """A two-tower ready to answer.

    Attributes:
        item_vectors: (I, d) float32, each row of length 1, zeros where an item has no words.
        mean: (D,) float32 of the encoder's vectors.
        projection: (D, d) float32 behind the encoder.
        event_weights: (history_length,) float32, what events count by their age, the newest first.
        adapted: The encoder's adapters; None where the encoder stayed as it was.
        facts: What JSON can hold: learning curve, device, temperature.
    """

    item_vectors: FloatArray
    mean: FloatArray
    projection: FloatArray
    event_weights: FloatArray
    adapted: AdaptedModel | None
    facts: dict[str, Any] = field(default_factory=dict)

    def read(
        self, items: Catalogue, language: CatalogueLanguage, encoder: AdaptedEncoder | None
    ) -> FloatArray:
        """Return the (n, d) float32 vectors of items by their texts, zeros where there are no words."""
        texts = language.texts(items)
        if encoder is None:
            return project(language.vectors(items), self.mean, self.projection)
        has_words = np.array([bool(text) for text in texts], dtype=np.float32)
        return project(encoder.encode(texts) * has_words[:, None], self.mean, self.projection)

    def encoder(self, language: CatalogueLanguage) -> AdaptedEncoder | None:
        """Load the adapted encoder; None where the encoder stayed as it was."""
        if self.adapted is None:
            return None
        return self.adapted.load(language.model_name if isinstance(language, ReadsWithModel) else None)

    def with_items(self, vectors: FloatArray) -> TrainedTowers:
        """Return the same with (M, d) more items."""
        return replace(self, item_vectors=np.concatenate([self.item_vectors, vectors]))

    def state(self) -> ComponentState:
        """Return everything as arrays and facts; item vectors as float16."""
        arrays: dict[str, npt.NDArray[np.generic]] = {
            "item_vectors": self.item_vectors.astype(np.float16),
            "mean": self.mean,
            "projection": self.projection,
            "event_weights": self.event_weights,
        }
        model = None
        if self.adapted is not None:
            arrays |= {_ADAPTERS + name: array for name, array in self.adapted.adapters.items()}
            model = {
                "name": self.adapted.name,
                "fingerprint": self.adapted.fingerprint,
                "shape": asdict(self.adapted.shape),
            }
        return ComponentState(arrays, {"model": model, **self.facts})

    @classmethod
    def from_state(cls, state: ComponentState) -> TrainedTowers:
        """Read what `state` returned."""
        facts = dict(state.facts)
        model = facts.pop("model")
        adapters = {
            name.removeprefix(_ADAPTERS): array
            for name, array in state.arrays.items()
            if name.startswith(_ADAPTERS)
        }
        adapted = None
        if model is not None:
            shape = AdapterShape(**model["shape"])
            adapted = AdaptedModel(model["name"], model["fingerprint"], shape, adapters)
        item_vectors, mean, projection, event_weights = (
            state.arrays[name].astype(np.float32)
            for name in ("item_vectors", "mean", "projection", "event_weights")
        )
        return cls(item_vectors, mean, projection, event_weights, adapted, facts)
