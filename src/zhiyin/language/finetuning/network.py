"""Readers: a language model with what it takes to foretell labels from its inner states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from zhiyin.language.opened import run_sentences

Batch = Mapping[str, Tensor]
_SLOPE, _SLOPE_OF_NEXT = 4.0, 20.0
"""Where the slopes of the cosine begin: among many items only large differences can decide."""


class CrossReader(nn.Module):
    """Reads history, state and item together; one linear map a task on the pooled inner state.

    Args:
        network: Of Hugging Face, without a head.
        n_tasks: T.
        is_decoder: Whether the last token says the most; else the mean over all tokens is taken.
    """

    def __init__(self, network: nn.Module, n_tasks: int, *, is_decoder: bool) -> None:
        super().__init__()
        self.network = network
        self.heads = nn.Linear(_width(network), n_tasks)
        nn.init.zeros_(self.heads.weight)
        nn.init.zeros_(self.heads.bias)
        self._is_decoder = is_decoder

    @property
    def bias(self) -> nn.Parameter:
        """(T,) what is foretold of a row about which nothing is known."""
        return self.heads.bias

    def forward(self, batch: Batch) -> Tensor:
        """Return (B, T) float32 from ``input_ids`` and ``attention_mask``, both (B, L) int64."""
        pooled = _pooled(self.network, batch, "", is_decoder=self._is_decoder)
        with _exactly(pooled):
            predicted: Tensor = self.heads(pooled)
        return predicted


class TowerReader(nn.Module):
    """Reads user and item apart; a task is foretold from their cosine and from what each says alone.

    ``y_t = a_t cos(u, v) + b_t · u + c_t · v + d_t``; a next item from ``a_t cos(u, v)`` alone, so that
    the vectors can be searched.

    Args:
        sentences: A sentence encoder whose modules are run as they are; None for a decoder.
        network: The transformer inside it, or the decoder.
        is_next: For each of T tasks, whether it is the next item.
    """

    sides: Tensor

    def __init__(self, sentences: Any, network: nn.Module, is_next: Sequence[bool]) -> None:
        super().__init__()
        self.sentences, self.network = sentences, network
        width = _width(network)
        if sentences is not None:
            width = int(sentences.get_embedding_dimension())
        n_tasks = len(is_next)
        self.slope = nn.Parameter(torch.where(torch.tensor(is_next), _SLOPE_OF_NEXT, _SLOPE))
        self.register_buffer("sides", 1.0 - torch.tensor(is_next, dtype=torch.float32), persistent=False)
        self.user_side = nn.Linear(width, n_tasks)
        self.item_side = nn.Linear(width, n_tasks, bias=False)
        for part in (self.user_side, self.item_side):
            nn.init.zeros_(part.weight)
        nn.init.zeros_(self.user_side.bias)

    @property
    def bias(self) -> nn.Parameter:
        """(T,) what is foretold of a row about which nothing is known."""
        return self.user_side.bias

    def vectors(self, batch: Batch, side: str) -> Tensor:
        """Return (n, D) float32 of length 1 for the ``user`` or ``item`` texts of a batch."""
        if self.sentences is None:
            pooled = _pooled(self.network, batch, f"{side}_", is_decoder=True)
        else:
            features: dict[str, Any] = {
                name: batch[f"{side}_{name}"] for name in ("input_ids", "attention_mask")
            }
            pooled = run_sentences(self.sentences, features)
        return functional.normalize(pooled, dim=-1)

    def joined(self, users: Tensor, items: Tensor) -> Tensor:
        """Return (n, T) predictions for pairs of vectors (n, D)."""
        with _exactly(users):
            cosine = (users * items).sum(dim=-1, keepdim=True)
            alone = self.user_side(users) + self.item_side(items)
            joined: Tensor = cosine * self.slope + alone * self.sides
        return joined

    def forward(self, batch: Batch) -> Tensor:
        """Return (B, T) float32 for pairs ``user_of_row`` and ``item_of_row`` (B,) int64 of the texts."""
        users, items = self.vectors(batch, "user"), self.vectors(batch, "item")
        return self.joined(users[batch["user_of_row"]], items[batch["item_of_row"]])


Reader = CrossReader | TowerReader


def _exactly(states: Tensor) -> torch.autocast:
    """Multiply in float32: two or three digits would tie the scores of items that differ."""
    return torch.autocast(states.device.type, enabled=False)


def _pooled(network: nn.Module, batch: Batch, prefix: str, *, is_decoder: bool) -> Tensor:
    ids, mask = batch[f"{prefix}input_ids"], batch[f"{prefix}attention_mask"]
    states = network(input_ids=ids, attention_mask=mask).last_hidden_state.float()
    if is_decoder:
        last = mask.sum(dim=1) - 1
        at_last: Tensor = states[torch.arange(len(states), device=states.device), last]
        return at_last
    kept = mask.unsqueeze(-1).float()
    pooled: Tensor = (states * kept).sum(dim=1) / kept.sum(dim=1)
    return pooled


def _width(network: nn.Module) -> int:
    config: Any = network.config
    return int(getattr(config, "hidden_size", 0) or config.d_model)
