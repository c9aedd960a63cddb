"""What training leaves behind, and how it is written down."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from zhiyin.contracts import ComponentState
from zhiyin.domain import FloatArray
from zhiyin.domain.errors import ShapeMismatch
from zhiyin.sources.sequence.network import SequenceNetwork, Shape
from zhiyin.sources.sequence.text import has_text

NETWORK = "network."


@dataclass(frozen=True, eq=False)
class TextReader:
    """Makes the vector of an item that training did not know out of its text.

    Attributes:
        mean: (K,) float32, the average text vector; K is 0 where training saw no text.
        projection: (K, D) float32, whitening and the learned projection in one.
        average_id: (D,) float32, the ID vector of an average item.
    """

    mean: FloatArray
    projection: FloatArray
    average_id: FloatArray

    def read(self, texts: FloatArray) -> FloatArray:
        """Return (I, D) float32 item vectors for (I, K) text vectors; rows of zeros have no text.

        Raises:
            ShapeMismatch: when the text vectors come from another language model.
        """
        if texts.shape[1] != len(self.mean):
            raise ShapeMismatch(
                f"Text vectors have {texts.shape[1]} numbers; the source was trained with {len(self.mean)}.",
                remedy="Use the language model that the pipeline was trained with, or train again.",
            )
        of_text = ((texts - self.mean) @ self.projection) * has_text(texts)[:, None]
        vectors: FloatArray = (of_text + self.average_id).astype(np.float32)
        return vectors

    def average(self, n_items: int) -> FloatArray:
        """Return (n_items, D) float32: items nothing is known of."""
        return np.tile(self.average_id, (n_items, 1))


@dataclass(frozen=True, eq=False)
class TrainedSequence:
    """A transformer ready to answer.

    Attributes:
        shape: Sizes of the network.
        network: In evaluation mode, on the CPU.
        item_vectors: (I, D) float32.
        reader: For items that arrive later.
        facts: What JSON can hold: learning curve, device, what was derived from the data.
    """

    shape: Shape
    network: SequenceNetwork
    item_vectors: Tensor
    reader: TextReader
    facts: dict[str, Any] = field(default_factory=dict)

    def with_items(self, vectors: FloatArray) -> TrainedSequence:
        """Return the same transformer with (M, D) more items."""
        return replace(self, item_vectors=torch.cat([self.item_vectors, torch.from_numpy(vectors)]))

    def state(self) -> ComponentState:
        """Return everything as arrays and facts."""
        arrays: dict[str, npt.NDArray[np.generic]] = {
            "item_vectors": self.item_vectors.numpy(),
            "text_mean": self.reader.mean,
            "text_projection": self.reader.projection,
            "average_id": self.reader.average_id,
        }
        weights = self.network.state_dict()
        arrays |= {NETWORK + name: weight.detach().cpu().numpy() for name, weight in weights.items()}
        return ComponentState(arrays, {"shape": asdict(self.shape), **self.facts})

    @classmethod
    def from_state(cls, state: ComponentState) -> TrainedSequence:
        """Read what `state` returned."""
        arrays = {name: torch.tensor(np.asarray(array)) for name, array in state.arrays.items()}
        facts = dict(state.facts)
        shape = Shape(**facts.pop("shape"))
        network = SequenceNetwork(shape, dropout=0.0)
        network.load_state_dict(
            {name.removeprefix(NETWORK): array for name, array in arrays.items() if name.startswith(NETWORK)}
        )
        reader = TextReader(
            *(arrays[name].numpy() for name in ("text_mean", "text_projection", "average_id"))
        )
        return cls(shape, network.eval(), arrays["item_vectors"], reader, facts)
