"""Causal attention that gates instead of normalising, and knows distances and times."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from zhiyin.sources.sequence.gaps import N_GAPS, UNKNOWN_GAP
from zhiyin.sources.sequence.packing import Packing
from zhiyin.training.dropout import Dropout

START_SCALE = 0.02
_NEVER = -1e4
"""Silu of it is exactly zero, and so is its slope."""
_SECONDS_OF_KIND = torch.tensor([math.ceil(2 ** (kind / 2)) - 1 for kind in range(UNKNOWN_GAP)] + [0])


class RelativeBias(nn.Module):
    """How much an event matters to a later one by the places and the time between them alone.

    Args:
        n_blocks: N, each with numbers of its own.
        n_heads: H.
        max_length: Events of a sequence at most.
        reads_gaps: Whether time counts, or places alone.
    """

    def __init__(self, n_blocks: int, n_heads: int, max_length: int, *, reads_gaps: bool) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.by_distance = nn.Parameter(torch.randn(max_length, n_blocks * n_heads) * START_SCALE)
        # Zeros: a span that training never met changes nothing.
        self.by_span = nn.Parameter(torch.zeros(N_GAPS, n_blocks * n_heads)) if reads_gaps else None

    def forward(self, gaps: Tensor, packing: Packing) -> Tensor:
        """Return (N, H, 1 or B, L, L): what row i adds for column j; far below zero where j comes after i."""
        places = torch.arange(packing.longest, device=gaps.device)
        distance = places[:, None] - places
        distance = torch.where(distance < 0, len(self.by_distance), distance)
        never = self.by_distance.new_full((1, self.by_distance.shape[1]), _NEVER)
        added = functional.embedding(distance, torch.cat([self.by_distance, never]))[None]
        if self.by_span is not None:
            added = added + functional.embedding(spans_of(gaps, packing), self.by_span)
        bias: Tensor = added.permute(3, 0, 1, 2).contiguous().unflatten(0, (-1, self.n_heads))
        return bias


class GatedBlock(nn.Module):
    """Attention without a softmax, gated by the event that looks (HSTU).

    With ``u, q, k, v = silu(W norm(x))``, event i sees ``y_i = Σ_{j ≤ i} silu(q_i · k_j + bias_ij) v_j / L``,
    L being the events that a sequence has at most, and becomes ``x_i + W' (norm(y_i) ⊙ u_i)``. Strengths are
    not made to add up to one, and the gate stands for the feed-forward layer (Zhai et al., "Actions Speak
    Louder than Words", 2024, equations 1 to 3).

    Args:
        dimension: D.
        n_heads: H.
        max_length: L.
        dropout: Share of activations set to zero while training.
    """

    def __init__(self, dimension: int, n_heads: int, max_length: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.before = nn.LayerNorm(dimension)
        self.widen = nn.Linear(dimension, 4 * dimension)
        # The norm of y / L with the usual eps: L² in it saves dividing.
        self.after = nn.LayerNorm(dimension, eps=1e-5 * max_length**2)
        self.mix = nn.Linear(dimension, dimension)
        self.dropout = Dropout(dropout)
        for layer in (self.widen, self.mix):
            nn.init.normal_(layer.weight, std=START_SCALE)
            nn.init.zeros_(layer.bias)

    def forward(self, events: Tensor, bias: Tensor, packing: Packing) -> Tensor:
        """Return (N, D) for (N, D): each event has looked at itself and at those before it.

        Args:
            events: (N, D).
            bias: (H, 1 or B, L, L), added to the strengths.
            packing: Where the events stand.
        """
        widened = functional.silu(self.widen(self.before(events)))
        gate, looking = widened.tensor_split([events.shape[1]], dim=1)
        kind = gate.dtype
        if gate.device.type == "cpu":
            looking = looking.float()  # the CPU's attention is slower in bfloat16
        query, key, value = self._heads(looking, 3, packing)
        with torch.autocast(gate.device.type, enabled=False):
            # In place: these are the largest arrays there are, and what is not written need not be read.
            logits = (query @ key.transpose(2, 3)).add_(bias)
            seen = functional.silu(logits, inplace=not logits.requires_grad) @ value
        gated = self.after(packing.of_cells(seen).to(kind)) * gate
        summed: Tensor = events + self.dropout(self.mix(self.dropout(gated)))
        return summed

    def newest(self, events: Tensor, bias: Tensor, packing: Packing) -> Tensor:
        """Return (B, D), what `forward` gives for the newest event of each sequence without dropout."""
        normed, newest, half = self.before(events), packing.newest, 2 * events.shape[1]
        weight, shift = self.widen.weight, self.widen.bias
        of_newest = functional.linear(normed.index_select(0, newest), weight[:half], shift[:half])
        gate, query = functional.silu(of_newest).chunk(2, dim=1)
        key, value = self._heads(
            functional.silu(functional.linear(normed, weight[half:], shift[half:])), 2, packing
        )
        row = torch.arange(packing.n_rows, device=bias.device)
        last = packing.place.index_select(0, newest)
        bias = bias.expand(-1, packing.n_rows, -1, -1)[:, row, last][:, :, None]
        query = query.view(packing.n_rows, self.n_heads, 1, -1).transpose(0, 1)
        seen = functional.silu(query @ key.transpose(2, 3) + bias) @ value
        seen = seen.transpose(0, 1).reshape(packing.n_rows, -1)
        summed: Tensor = events.index_select(0, newest) + self.mix(self.after(seen) * gate)
        return summed

    def _heads(self, flat: Tensor, n: int, packing: Packing) -> Tensor:
        """Unfold (N, n D) into (n, H, B, L, D / H)."""
        of_heads = flat.view(len(flat), n * self.n_heads, -1).transpose(0, 1)
        heads: Tensor = packing.cells(of_heads).unflatten(0, (n, self.n_heads))
        return heads


def spans_of(gaps: Tensor, packing: Packing) -> Tensor:
    """Return (B, L, L) int64, kinds of gaps: from the event of a column to what follows the event of a row.

    A gap counts the fewest whole seconds of its kind, so sums are a little short. Gaps that are not known,
    such as those that training hides, count nothing in the middle; where the one at the end is not, nothing
    is.

    Args:
        gaps: (N,) int64, the kind of the gap between an event and the next.
        packing: Where the events stand.
    """
    seconds = _SECONDS_OF_KIND.to(gaps.device)[gaps]
    passed, kind = packing.cells(torch.stack([seconds, gaps])[:, :, None])[..., 0]
    until = passed.cumsum(1)  # whole numbers, or a minute would vanish beside years
    since = (until[:, :, None] - (until - passed)[:, None, :]).clamp_min(0).float()
    kinds = (2 * torch.log2(1 + since)).long().clamp_max(UNKNOWN_GAP - 1)
    return torch.where(kind[:, :, None] == UNKNOWN_GAP, UNKNOWN_GAP, kinds)
