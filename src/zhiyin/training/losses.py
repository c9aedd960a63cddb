"""Losses over a whole catalogue that neither waste memory nor touch padding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zhiyin.domain import LongArray

POSITIONS_AT_ONCE = 256
"""Rows of logits held at once: 256 rows of some 10,000 items stay in the cache of a CPU core."""

TINY = torch.finfo(torch.float32).tiny
"""Smallest likelihood whose logarithm is taken; a target rarer than that counts 87 nats."""

LARGEST_LOGITS = 2**28
"""Logits held at once on a GPU, where few large products are faster than many small ones."""


@dataclass(frozen=True, eq=False)
class LeftOut:
    """Items that do not compete at some positions, because they could not be recommended there.

    Attributes:
        items: (P,) int64, those of each position, one position after the other.
        counts: (N,) int64, how many they are.
        offsets: N + 1 places, where those of each position begin; on the CPU, whatever the device.
    """

    items: Tensor
    counts: Tensor
    offsets: LongArray

    def to(self, device: torch.device) -> LeftOut:
        """Return the same on a device."""
        return LeftOut(self.items.to(device), self.counts.to(device), self.offsets)

    def strike_from(self, logits: Tensor, start: int, at_target: tuple[Tensor, Tensor]) -> None:
        """Set what does not compete to minus infinity, in place; a target always competes.

        Args:
            logits: (M, I), of M positions from ``start`` on.
            start: Position of the first row.
            at_target: Row and column of the targets.
        """
        counts = self.counts[start : start + len(logits)]
        items = self.items[self.offsets[start] : self.offsets[start + len(logits)]]
        rows = at_target[0].repeat_interleave(counts)
        of_targets = logits[at_target]
        logits[rows, items] = -torch.inf
        logits[at_target] = of_targets  # or nothing would be left where the whole catalogue is left out


def full_cross_entropy(
    hidden: Tensor,
    items: Tensor,
    targets: Tensor,
    weights: Tensor | None = None,
    *,
    left_out: LeftOut | None = None,
    half: bool = False,
) -> Tensor:
    """Cross-entropy of the next item over the whole catalogue, averaged over positions.

    ``loss = Σ_n w_n (log Σ_i exp(h_n · e_i) - h_n · e_target(n)) / Σ_n w_n``. The gradient is known in closed
    form, ``p - onehot(target)``, so it is made in the same pass as the loss, some rows at a time; the (N, I)
    logits never stand in memory together and are computed once.

    Args:
        hidden: (N, D) float, last hidden states at N positions that have a target.
        items: (I, D) float, output vectors of the items.
        targets: (N,) int64.
        weights: (N,) float ≥ 0, how much a position counts; all the same when None. Where none counts the
            loss is 0.
        left_out: Items that the sum leaves out, unless they are the target; None for none.
        half: Multiply in bfloat16 (sums stay float32).

    Returns:
        () float32. Its gradient flows into ``hidden`` and ``items``.
    """
    if weights is None:
        weights = torch.ones_like(targets, dtype=torch.float32)
    shares = weights / weights.sum().clamp_min(TINY)
    loss: Tensor = _FullCrossEntropy.apply(hidden, items, targets, shares, left_out, half)
    return loss


class _FullCrossEntropy(torch.autograd.Function):
    """Forward makes the gradients too; backward only scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        items: Tensor,
        targets: Tensor,
        weights: Tensor,
        left_out: LeftOut | None,
        half: bool,
    ) -> Tensor:
        kind = torch.bfloat16 if half else torch.float32
        rows, table = hidden.detach().to(kind), items.detach().to(kind)
        table_t = table.T.contiguous()
        rows_gradient = torch.empty_like(hidden, dtype=torch.float32)
        table_gradient = torch.zeros(table_t.shape, dtype=torch.float32, device=items.device)
        loss = torch.zeros((), dtype=torch.float32, device=hidden.device)
        step = POSITIONS_AT_ONCE if hidden.device.type == "cpu" else max(1, LARGEST_LOGITS // len(items))
        # Two buffers for all chunks: fresh ones would cost more in page faults than the products themselves.
        buffers = torch.empty(2, min(step, len(rows)), len(items), dtype=kind, device=items.device)
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            chunk, target, weight = rows[part], targets[part], weights[part]
            logits, share = buffers[:, : len(chunk)]
            torch.mm(chunk, table_t, out=logits)
            at_target = (torch.arange(len(chunk), device=hidden.device), target)
            if left_out is not None:
                left_out.strike_from(logits, start, at_target)
            torch.softmax(logits, dim=-1, out=share)
            likelihood = share[at_target].float()
            loss -= (weight * likelihood.clamp_min(TINY).log()).sum()
            share.index_put_(at_target, torch.full_like(weight, -1.0, dtype=kind), accumulate=True)
            rows_gradient[part] = (share @ table).float() * weight[:, None]
            table_gradient += (chunk * weight[:, None].to(kind)).T.contiguous() @ share
        ctx.save_for_backward(rows_gradient, table_gradient)
        ctx.kinds = hidden.dtype, items.dtype
        return loss

    @staticmethod
    def backward(ctx: Any, *output_gradients: Tensor) -> tuple[Tensor | None, ...]:
        (scale,) = output_gradients
        rows_gradient, table_gradient = ctx.saved_tensors
        of_hidden, of_items = ctx.kinds
        return (
            (scale * rows_gradient).to(of_hidden),
            (scale * table_gradient.T).to(of_items),
            None,
            None,
            None,
            None,
        )


def sampled_cross_entropy(
    hidden: Tensor,
    target_items: Tensor,
    negative_items: Tensor,
    is_hit: Tensor,
    log_expected: Tensor,
    weights: Tensor,
) -> Tensor:
    """Cross-entropy with the sum over the catalogue estimated from shared negatives.

    ``Σ_i exp(h · e_i) ≈ exp(h · e_y) + Σ_{s ≠ y} exp(h · e_s - log(S q_s))`` for S negatives drawn from q:
    the expectation of the second term is the sum over all items but the target, because each negative is
    divided by how often it is expected among the draws (logQ correction; Bengio and Senécal, 2008). The
    target is no draw and therefore not corrected; draws that hit it are left out.

    Args:
        hidden: (N, D) float, last hidden states.
        target_items: (N, D) float, vectors of the targets.
        negative_items: (S, D) float, vectors of the negatives, shared by all positions.
        is_hit: (N, S) bool, where a negative is the target.
        log_expected: (S,) float, ``log(S q_s)``.
        weights: (N,) float ≥ 0, how much a position counts; where none does the loss is 0.

    Returns:
        () float32.
    """
    of_target = (hidden * target_items).sum(dim=-1, keepdim=True).float()
    of_negatives = (hidden @ negative_items.T).float() - log_expected
    of_negatives = of_negatives.masked_fill(is_hit, -torch.inf)
    loss = torch.logsumexp(torch.cat([of_target, of_negatives], dim=1), dim=1) - of_target[:, 0]
    return (loss * weights).sum() / weights.sum().clamp_min(TINY)


class NegativeSampler:
    """Draws item indices with probability proportional to a power of their counts, with replacement.

    Args:
        counts: (I,) float ≥ 0, events of each item; one is added, so that every item can be drawn.
        power: 0 draws all items alike, 1 by popularity.
    """

    def __init__(self, counts: Tensor, power: float = 0.75) -> None:
        weights = (counts.double() + 1.0) ** power
        self.log_probability = (weights / weights.sum()).log().float()
        self._edges = torch.cumsum(weights / weights.sum(), dim=0)

    def draw(self, n: int) -> tuple[Tensor, Tensor]:
        """Return (n,) int64 items and (n,) float32 ``log(n q)``, how often each is expected to be drawn."""
        uniform = torch.rand(n, dtype=torch.float64, device=self._edges.device)
        drawn = torch.searchsorted(self._edges, uniform).clamp_max(len(self._edges) - 1)
        log_expected = self.log_probability[drawn] + torch.log(torch.tensor(float(n), device=drawn.device))
        return drawn, log_expected
