"""Places of tokens in a text, counted so that padding takes none."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn


def hides_later(network: nn.Module) -> bool:
    """Whether a token sees only what comes before it, by whichever attention says so."""
    return any(getattr(part, "is_causal", False) for part in network.modules())


def counts_places(network: nn.Module) -> bool:
    """Whether a decoder can be told the places of its tokens; encoders are padded on the right anyway."""
    return hides_later(network) and "position_ids" in inspect.signature(network.forward).parameters


def places(mask: Tensor, n: int) -> Tensor:
    """Return (B, n) int64 places of the last n tokens, counted over the tokens that are there.

    Args:
        mask: (B, T), 1 for a token, 0 for padding, on either side.
        n: At most T.
    """
    return (mask.long().cumsum(dim=1) - 1).clamp(min=0)[:, -n:]


def by_name(network: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
    """Return all arguments of a call by their names, as networks fill in what their settings say."""
    read = dict(inspect.signature(network.forward).bind(*given, **named).arguments)
    others: dict[str, Any] = read.pop("kwargs", {})
    return read | others


def place_tokens(
    network: nn.Module, given: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Hook before a decoder: padding on the left shall move nobody away from what was put before the text."""
    read = by_name(network, given, named)
    mask = read.get("attention_mask")
    if isinstance(mask, Tensor) and mask.ndim == 2 and read.get("position_ids") is None:
        tokens = read["input_ids"] if read.get("input_ids") is not None else read["inputs_embeds"]
        read["position_ids"] = places(mask, tokens.shape[1])
    return (), read
