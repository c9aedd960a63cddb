"""Prefix tuning: trained keys and values that every attention finds before those of the text."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from zhiyin.domain.errors import ConfigError
from zhiyin.language.additions.layers import attentions, key_shape
from zhiyin.language.additions.positions import counts_places, place_tokens

NAME = "prefix"
GAIN = 10.0
"""What trained keys and values are multiplied with."""
_SPREAD = 0.02
"""Standard deviation of the first keys and values: near zero, so that at first they only dilute."""


class Prefix(nn.Module):
    """Keys and values of one layer, which belong to no token (Li & Liang, "Prefix-Tuning", 2021).

    The authors put a network before them while they train, because they move too slowly otherwise. Here they
    are kept at a tenth of their size instead: AdamW moves every number about as far as the learning rate, so
    what suits low-rank maps and a head suits these, too.

    Args:
        n: Virtual tokens, P.
        n_heads: Heads with keys of their own.
        width: Numbers of a key.
    """

    def __init__(self, n: int, n_heads: int, width: int) -> None:
        super().__init__()
        self.n = n
        self.keys = nn.Parameter(_SPREAD / GAIN * torch.randn(n_heads, n, width))
        self.values = nn.Parameter(_SPREAD / GAIN * torch.randn(n_heads, n, width))


class _Before:
    """Stands where an attention looks for the keys of earlier tokens, and is asked once in each pass.

    Args:
        prefix: What comes first.
        earlier: What really remembers earlier tokens, while a text is written word by word.
    """

    def __init__(self, prefix: Prefix, earlier: Any) -> None:
        self._prefix, self._earlier = prefix, earlier

    def update(
        self, keys: Tensor, values: Tensor, layer: int, *others: Any, **named: Any
    ) -> tuple[Tensor, Tensor]:
        """Return (B, heads, P + T, width) keys and values."""
        if self._earlier is not None:
            keys, values = self._earlier.update(keys, values, layer, *others, **named)
        first = [
            (GAIN * part).to(keys.dtype).expand(len(keys), -1, -1, -1)
            for part in (self._prefix.keys, self._prefix.values)
        ]
        return torch.cat([first[0], keys], dim=2), torch.cat([first[1], values], dim=2)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._earlier, name)


def add_prefixes(network: nn.Module, n: int) -> None:
    """Give every self-attention trained keys and values; texts stay as long as they are.

    Args:
        network: Of Hugging Face, changed in place.
        n: Virtual tokens, P.

    Raises:
        ConfigError: when the attention of the network takes no keys from outside.
    """
    found = attentions(network)
    if not found:
        raise ConfigError(
            f"'prefix' needs a self-attention in every layer that takes keys and values from outside; "
            f"{type(network).__name__} has none.",
            remedy="Choose 'prompt' or 'lora'.",
        )
    for attention in found:
        weight = next(attention.parameters())
        attention.add_module(NAME, Prefix(n, *key_shape(attention)).to(weight.device))
        attention.register_forward_pre_hook(_before_attention, with_kwargs=True)
    if counts_places(network):
        # Queries are turned by their place, and the keys of a prefix stand at none.
        network.register_forward_pre_hook(place_tokens, with_kwargs=True)


def _before_attention(
    attention: Any, given: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    # A hook of the attention itself, because a layer under gradient checkpointing drops given keys.
    bound = _signature(type(attention).forward).bind(attention, *given, **named)
    arguments = bound.arguments
    prefix: Prefix = attention.prefix
    states: Tensor = arguments["hidden_states"]
    earlier = arguments.get("past_key_values")
    mask = arguments.get("attention_mask")
    if mask is None and states.shape[1] > 1 and _hides_later(attention, arguments):
        mask = _only_earlier(states)
    arguments["attention_mask"] = _with_prefix(mask, prefix.n)
    arguments["past_key_values"] = _Before(prefix, earlier)
    return bound.args[1:], bound.kwargs


@functools.cache
def _signature(forward: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(forward)


def _hides_later(attention: Any, arguments: dict[str, Any]) -> bool:
    """Whether the attention hides later tokens by itself, and would go wrong once keys precede them."""
    if "flash" in str(getattr(attention.config, "_attn_implementation", "")):
        return False  # it counts from the last key, so what precedes is seen by all
    asked = arguments.get("kwargs", {}).get("is_causal")
    return bool(getattr(attention, "is_causal", True) if asked is None else asked)


def _only_earlier(states: Tensor) -> Tensor:
    n = states.shape[1]
    return torch.ones(1, 1, n, n, dtype=torch.bool, device=states.device).tril()


def _with_prefix(mask: Any, n: int) -> Any:
    """Let everybody see n more keys before the others: (B, T) or (B, 1, T, T), boolean or added to scores."""
    if mask is None:
        return None
    if not isinstance(mask, Tensor):
        raise ConfigError(
            "'prefix' cannot be used with an attention that keeps its mask in blocks.",
            remedy="Load the model with attn_implementation 'sdpa' or 'eager', or choose 'prompt' or 'lora'.",
        )
    is_added = mask.ndim > 2 and mask.is_floating_point()
    seen = mask.new_zeros if is_added else mask.new_ones
    return torch.cat([seen((*mask.shape[:-1], n)), mask], dim=-1)
