"""The transformer: from items to what may come next."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from zhiyin.sources.sequence.gaps import N_GAPS
from zhiyin.sources.sequence.packing import Packing
from zhiyin.training.dropout import Dropout

ID_SCALE = 0.02
"""Standard deviation of the ID vectors at the start: small, so that the text speaks first."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a network.

    Attributes:
        dimension: D.
        n_blocks: Transformer blocks.
        n_heads: Attention heads; they divide D.
        max_length: Events of a sequence at most.
        reads_gaps: Whether it reads how much time passes between events.
    """

    dimension: int
    n_blocks: int
    n_heads: int
    max_length: int
    reads_gaps: bool = True


class Block(nn.Module):
    """Causal self-attention and a feed-forward layer, each normalised before and added to what came in."""

    def __init__(self, dimension: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.before_attention = nn.LayerNorm(dimension)
        self.query_key_value = nn.Linear(dimension, 3 * dimension)
        self.mix = nn.Linear(dimension, dimension)
        self.before_feed_forward = nn.LayerNorm(dimension)
        self.widen = nn.Linear(dimension, 4 * dimension)
        self.narrow = nn.Linear(4 * dimension, dimension)
        self.dropout = Dropout(dropout)

    def forward(self, events: Tensor, packing: Packing) -> Tensor:
        """Return (N, D) for (N, D): each event has looked at itself and at those before it."""
        events = events + self.dropout(self._attend(self.before_attention(events), packing))
        wide = functional.gelu(self.widen(self.before_feed_forward(events)))
        summed: Tensor = events + self.dropout(self.narrow(self.dropout(wide)))
        return summed

    def newest(self, events: Tensor, packing: Packing) -> Tensor:
        """Return (B, D), what `forward` gives for the newest event of each sequence, and nothing else."""
        normed = self.before_attention(events)
        dimension, newest = events.shape[1], packing.newest
        weight, bias = self.query_key_value.weight, self.query_key_value.bias
        query = functional.linear(normed.index_select(0, newest), weight[:dimension], bias[:dimension])
        key_value = functional.linear(normed, weight[dimension:], bias[dimension:])
        heads = packing.rows(key_value).view(packing.n_rows, packing.longest, 2, self.n_heads, -1)
        key, value = heads.permute(2, 0, 3, 1, 4)
        query = query.view(packing.n_rows, self.n_heads, 1, -1)
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=packing.mask)
        states = events.index_select(0, newest) + self.mix(seen.reshape(packing.n_rows, dimension))
        summed: Tensor = states + self.narrow(functional.gelu(self.widen(self.before_feed_forward(states))))
        return summed

    def _attend(self, events: Tensor, packing: Packing) -> Tensor:
        projected = self.query_key_value(events)
        kind = projected.dtype
        if projected.device.type == "cpu":
            projected = projected.float()  # the CPU's attention is three to five times slower in bfloat16
        heads = packing.rows(projected).view(packing.n_rows, packing.longest, 3, self.n_heads, -1)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        with torch.autocast(projected.device.type, enabled=False):
            seen = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        mixed: Tensor = self.mix(packing.flat(seen.transpose(1, 2)).to(kind))
        return mixed


class SequenceNetwork(nn.Module):
    """Item vectors in, what may come next out.

    Args:
        shape: Sizes.
        dropout: Share of activations set to zero while training.
    """

    def __init__(self, shape: Shape, dropout: float) -> None:
        super().__init__()
        self.max_length, self.reads_gaps = shape.max_length, shape.reads_gaps
        self.places = nn.Parameter(torch.randn(shape.max_length, shape.dimension) * ID_SCALE)
        # Zeros: a gap that training never met changes nothing.
        self.gaps = nn.Parameter(torch.zeros(N_GAPS, shape.dimension))
        self.blocks = nn.ModuleList(
            Block(shape.dimension, shape.n_heads, dropout) for _ in range(shape.n_blocks)
        )
        self.last_norm = nn.LayerNorm(shape.dimension)
        self.dropout = Dropout(dropout)
        for layer in self.blocks.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)

    def forward(self, events: Tensor, gaps: Tensor, packing: Packing) -> Tensor:
        """Return the (N, D) hidden states of (N, D) item vectors, each knowing only what came before it.

        Args:
            events: (N, D) item vectors.
            gaps: (N,) int64, how much time lies between an event and what is to be foretold.
            packing: Where the events stand.
        """
        states = events + self.places[packing.place]
        states = self.dropout(states + self.gaps[gaps] if self.reads_gaps else states)
        for block in self.blocks:
            states = block(states, packing)
        hidden: Tensor = self.last_norm(states)
        return hidden

    def newest(self, events: Tensor, gaps: Tensor, packing: Packing) -> Tensor:
        """Return the (B, D) hidden state after the newest event of each sequence, for answering only.

        The same numbers as `forward` without dropout, but the last block looks at the newest events alone.
        """
        states = events + self.places.index_select(0, packing.place)
        if self.reads_gaps:
            states = states + self.gaps.index_select(0, gaps)
        *blocks, last = self.blocks.children()
        for block in blocks:
            states = block(states, packing)
        assert isinstance(last, Block)
        hidden: Tensor = self.last_norm(last.newest(states, packing))
        return hidden
