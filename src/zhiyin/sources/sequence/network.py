"""The transformer: from items to what may come next."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zhiyin.sources.sequence.attention import GatedBlock, RelativeBias
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
        self.bias = RelativeBias(shape.n_blocks, shape.n_heads, shape.max_length, reads_gaps=shape.reads_gaps)
        self.blocks = nn.ModuleList(
            GatedBlock(shape.dimension, shape.n_heads, shape.max_length, dropout)
            for _ in range(shape.n_blocks)
        )
        self.last_norm = nn.LayerNorm(shape.dimension)
        self.dropout = Dropout(dropout)

    def forward(self, events: Tensor, gaps: Tensor, packing: Packing) -> Tensor:
        """Return the (N, D) hidden states of (N, D) item vectors, each knowing only what came before it.

        Args:
            events: (N, D) item vectors.
            gaps: (N,) int64, how much time lies between an event and what is to be foretold.
            packing: Where the events stand.
        """
        states = events + self.places[packing.place]
        states = self.dropout(states + self.gaps[gaps] if self.reads_gaps else states)
        for block, bias in zip(self.blocks, self.bias(gaps, packing), strict=True):
            states = block(states, bias, packing)
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
        *biases, of_last = self.bias(gaps, packing)
        for block, bias in zip(blocks, biases, strict=True):
            states = block(states, bias, packing)
        assert isinstance(last, GatedBlock)
        hidden: Tensor = self.last_norm(last.newest(states, of_last, packing))
        return hidden
