"""Bottleneck adapters: a narrow residual network behind the feed-forward block of every layer."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from zhiyin.domain.errors import ConfigError
from zhiyin.language.additions.layers import last_feed_forward_names, stack_of_layers

NAME = "bottleneck"


class Bottleneck(nn.Module):
    """``h + W_up relu(W_down h)``; ``W_up`` begins at zero, so nothing changes until something is learned.

    Houlsby et al., "Parameter-Efficient Transfer Learning for NLP", 2019; at the single place in a layer
    that Pfeiffer et al., "AdapterFusion", 2020 found to be enough.

    Args:
        width: Numbers of a state.
        size: Numbers in between.
    """

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(width, size), nn.Linear(size, width)
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, states: Tensor) -> Tensor:
        """Change (…, width) states; they keep their type, whatever the type of the weights."""
        inner = functional.relu(self.down(states.to(self.down.weight.dtype)))
        changed: Tensor = states + self.up(inner).to(states.dtype)
        return changed


def add_bottlenecks(network: nn.Module, size: int) -> None:
    """Put a `Bottleneck` behind the feed-forward block of each layer, before what comes in is added again.

    Args:
        network: Of Hugging Face, changed in place.
        size: Numbers in between.

    Raises:
        ConfigError: when not every layer has exactly one feed-forward block.
    """
    layers = stack_of_layers(network, type(network).__name__)
    names = last_feed_forward_names(network)
    if len(names) != len(layers):
        raise ConfigError(
            f"'adapter' goes behind the feed-forward block of each layer, but {type(network).__name__} has "
            f"{len(names)} of them in {len(layers)} layers.",
            remedy="Choose 'lora', which suits every transformer.",
        )
    for name in names:
        last = network.get_submodule(name)
        weight: Any = last.weight
        width = weight.shape[0] if isinstance(last, nn.Linear) else weight.shape[1]
        last.add_module(NAME, Bottleneck(width, size).to(weight.device))
        last.register_forward_hook(_through_bottleneck)


def _through_bottleneck(last: Any, _given: tuple[Any, ...], states: Tensor) -> Tensor:
    # Looked up by name, so that a deep copy of the network goes through its own copy.
    changed: Tensor = last.bottleneck(states)
    return changed
