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
from zhiyin.domain.errors import BundleError
from zhiyin.sources.sequence.arrivals import Arrivals
from zhiyin.sources.sequence.network import SequenceNetwork, Shape

NETWORK = "network."
ARRIVALS = "arrivals."


@dataclass(frozen=True, eq=False)
class TrainedSequence:
    """A transformer ready to answer.

    Attributes:
        shape: Sizes of the network.
        network: In evaluation mode, on the CPU.
        item_vectors: (I, D) float32, or float16 where there are many.
        arrivals: For items that arrive later.
        facts: What JSON can hold: learning curve, device, what was derived from the data.
    """

    shape: Shape
    network: SequenceNetwork
    item_vectors: Tensor
    arrivals: Arrivals
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def learns_repeats(self) -> bool:
        """Whether items of a history have a score as well; they had before there was a choice."""
        return bool(self.facts.get("learns_repeats", True))

    def with_items(self, vectors: FloatArray) -> TrainedSequence:
        """Return the same transformer with (M, D) more items."""
        return replace(
            self,
            item_vectors=torch.cat(
                [self.item_vectors, torch.from_numpy(vectors).to(self.item_vectors.dtype)]
            ),
        )

    def state(self) -> ComponentState:
        """Return everything as arrays and facts."""
        arrays: dict[str, npt.NDArray[np.generic]] = {
            "item_vectors": self.item_vectors.numpy(),
        }
        arrays |= {ARRIVALS + name: getattr(self.arrivals, name) for name in Arrivals.names()}
        weights = self.network.state_dict()
        arrays |= {NETWORK + name: weight.detach().cpu().numpy() for name, weight in weights.items()}
        return ComponentState(arrays, {"shape": asdict(self.shape), **self.facts})

    @classmethod
    def from_state(cls, state: ComponentState) -> TrainedSequence:
        """Read what `state` returned.

        Raises:
            BundleError: when an older Zhiyin wrote it, whose blocks were others.
        """
        arrays = {
            name: torch.tensor(np.asarray(array))
            for name, array in state.arrays.items()
            if name == "item_vectors" or name.startswith((NETWORK, ARRIVALS))
        }
        facts = dict(state.facts)
        shape = Shape(**facts.pop("shape"))
        network = SequenceNetwork(shape, dropout=0.0)
        names = network.state_dict().keys()
        if not all(NETWORK + name in arrays for name in names):
            raise BundleError(
                "The transformer of this bundle was trained by an older Zhiyin; its blocks were others.",
                remedy="Train it again:  zhiyin train DATA --recipe hybrid --out BUNDLE; "
                "where a service holds it, then:  zhiyin publish BUNDLE --activate",
            )
        network.load_state_dict({name: arrays[NETWORK + name] for name in names})
        arrivals = Arrivals(*(arrays[ARRIVALS + name].numpy() for name in Arrivals.names()))
        return cls(shape, network.eval(), arrays["item_vectors"], arrivals, facts)
