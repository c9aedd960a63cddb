"""Where the parts of a transformer are, whatever their names."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from zhiyin.domain.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

_KEYS_AND_VALUES = {"key", "value", "k_proj", "v_proj", "k_lin", "v_lin", "k", "v"}
_KEYS_AND_VALUES |= {"query_key_value", "c_attn", "Wqkv"}  # one map makes them together with the queries


def stack_of_layers(network: nn.Module, name: str) -> Any:
    """Return the longest list of modules of a network: its layers, from the bottom to the top.

    Raises:
        ConfigError: when it has none.
    """
    import torch  # noqa: PLC0415 - optional extra

    stacks = [part for part in network.modules() if isinstance(part, torch.nn.ModuleList)]
    if not stacks:
        raise ConfigError(
            f"The model '{name}' has no stack of layers that adapters could be put into.",
            remedy="Choose a transformer, or set rank to 0 to leave the model as it is.",
        )
    return max(stacks, key=len)


def map_names(network: nn.Module) -> list[str]:
    """Return the full names of all linear maps of the layers.

    Raises:
        ConfigError: when the network has no stack of layers.
    """
    layers = stack_of_layers(network, type(network).__name__)
    inside = {id(part) for part in layers.modules() if _map_shape(part) is not None}
    return [name for name, part in network.named_modules() if id(part) in inside]


def key_value_names(network: nn.Module) -> list[str]:
    """Return the full names of the maps that make keys and values; empty where none is known by its name."""
    return [name for name in map_names(network) if name.rpartition(".")[2] in _KEYS_AND_VALUES]


def last_feed_forward_names(network: nn.Module) -> list[str]:
    """Return the full names of the maps that lead from the wide inner state of a feed-forward block back.

    They are the maps outside the attention that read more numbers than they write; a mixture of experts has
    several in each layer.
    """
    parts = dict(network.named_modules())
    width = getattr(getattr(network, "config", None), "hidden_size", 0)
    found = []
    for name in map_names(network):
        n_read, n_written = _map_shape(parts[name]) or (0, 0)
        if n_read > n_written and "att" not in name.lower() and n_written == width:
            found.append(name)
    return found


def attentions(network: nn.Module) -> list[nn.Module]:
    """Return the self-attention of each layer, from the bottom to the top, that takes keys given beforehand.

    Empty when not every layer has exactly one.
    """
    found: list[nn.Module] = []
    for layer in stack_of_layers(network, type(network).__name__):
        taking = [part for name, part in layer.named_modules() if _takes_keys(part) and "cross" not in name]
        if len(taking) != 1:
            return []
        found += taking
    return found


def key_shape(attention: nn.Module) -> tuple[int, int]:
    """Return how many heads have keys of their own, and how many numbers a key has."""
    config: Any = getattr(attention, "config", None)
    n_heads: int = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    return n_heads, _head_width(attention)


def _map_shape(part: nn.Module) -> tuple[int, int] | None:
    """Numbers that a linear map reads and writes; None for other modules. GPT-2 has maps of its own kind."""
    import torch  # noqa: PLC0415 - optional extra

    if isinstance(part, torch.nn.Linear):
        return part.in_features, part.out_features
    if type(part).__name__ == "Conv1D" and not isinstance(part, torch.nn.Conv1d):
        weight: Any = part.weight
        return int(weight.shape[0]), int(weight.shape[1])
    return None


def _takes_keys(part: nn.Module) -> bool:
    if not hasattr(part, "layer_idx") or not _head_width(part):
        return False
    return {"past_key_values", "attention_mask"} <= inspect.signature(part.forward).parameters.keys()


def _head_width(attention: nn.Module) -> int:
    return int(getattr(attention, "head_dim", 0) or getattr(attention, "attention_head_size", 0))
