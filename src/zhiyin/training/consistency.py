"""How far two predictions for the same batch are apart, which R-Drop adds to the loss.

Liang et al., "R-Drop: regularized dropout for neural networks", 2021: whoever reads a batch twice under
different dropout should say the same twice. The loss becomes the mean of both losses plus a weight times

    ½ (KL(p ‖ q) + KL(q ‖ p)) = ½ Σ (p - q) (log p - log q)

In practice a batch is doubled (``torch.cat([rows, rows])``), read once, and the output is cut in half
(``output.chunk(2)``). Gradients flow into both halves. All functions are 0 for equal predictions, and 0 where
nothing counts.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def disagreement_of_chances(first: Tensor, second: Tensor, counts: Tensor | None = None) -> Tensor:
    """Symmetric divergence of yes/no predictions, averaged.

    For chances p = σ(a) and q = σ(b) it is ``½ (p - q) (a - b)``, exactly: no logarithm is taken.

    Args:
        first: Logits a, any shape, float.
        second: Logits b of the same batch, same shape.
        counts: Same shape, bool: which predictions count; all when None.

    Returns:
        () float32 ≥ 0, in nats.
    """
    first, second = first.float(), second.float()
    return _mean(0.5 * (first.sigmoid() - second.sigmoid()) * (first - second), counts)


def disagreement_of_choices(first: Tensor, second: Tensor, is_choice: Tensor | None = None) -> Tensor:
    """Symmetric divergence of predictions that choose one of several, averaged over rows.

    Args:
        first: (…, C) float logits of C choices.
        second: (…, C) float logits of the same rows.
        is_choice: (…, C) bool, False where there is only padding; all choices are there when None. A row
            with fewer than two choices agrees with itself and does not count.

    Returns:
        () float32 ≥ 0, in nats.
    """
    first, second = first.float(), second.float()
    if is_choice is None:
        is_choice = torch.ones_like(first, dtype=torch.bool)
    counts = is_choice.sum(dim=-1) > 1
    # A large number in place of infinity: ∞ - ∞ is no number, and neither is its gradient.
    lowest = torch.finfo(torch.float32).min / 4
    of_first, of_second = (
        functional.log_softmax(logits.masked_fill(~is_choice, lowest), dim=-1) for logits in (first, second)
    )
    apart = (of_first.exp() - of_second.exp()) * (of_first - of_second)
    return _mean(0.5 * apart.masked_fill(~is_choice, 0.0).sum(dim=-1), counts)


def disagreement_of_values(first: Tensor, second: Tensor, counts: Tensor | None = None) -> Tensor:
    """Mean squared difference of predicted values, such as ratings.

    Args:
        first: Any shape, float.
        second: Values for the same batch, same shape.
        counts: Same shape, bool: which predictions count; all when None.

    Returns:
        () float32 ≥ 0, in squared units of the value.
    """
    return _mean((first.float() - second.float()).square(), counts)


def _mean(apart: Tensor, counts: Tensor | None) -> Tensor:
    if counts is None:
        return apart.mean() if apart.numel() else apart.sum()
    return apart.masked_fill(~counts, 0.0).sum() / counts.sum().clamp_min(1)
