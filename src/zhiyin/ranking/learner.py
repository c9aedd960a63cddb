"""The network as it is trained: batches of rows in, the balanced loss of all tasks out."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from zhiyin.ranking.batches import Batch
from zhiyin.ranking.network import RankerNetwork

Balance = Literal["plain", "root", "scaled", "uncertainty"]


class RankerLearner(nn.Module):
    """Adds up the losses of the tasks: cross-entropy of yes and no, squared error of everything else.

    With ``uncertainty``, the weights are learned as in Kendall, Gal and Cipolla, "Multi-task learning using
    uncertainty to weigh losses", 2018: task t adds ``exp(-s_t) L_t + s_t / 2``, and half of ``L_t`` where it
    is a squared error, with s_t the logarithm of its variance.

    Args:
        network: What is trained.
        is_yes_no: (T,) bool, which tasks are answered by yes or no.
        weights: (T,) float32, weights of the losses.
        balance: Whether weights of the tasks are learned.
        shrinkage: Weight of the length of learned vectors.
    """

    is_yes_no: Tensor
    weights: Tensor

    def __init__(
        self, network: RankerNetwork, is_yes_no: Tensor, weights: Tensor, balance: Balance, shrinkage: float
    ) -> None:
        super().__init__()
        self.network, self._shrinkage = network, shrinkage
        self.register_buffer("is_yes_no", is_yes_no, persistent=False)
        self.register_buffer("weights", weights, persistent=False)
        learns = balance == "uncertainty"
        self.log_variance = nn.Parameter(torch.zeros(len(weights)), requires_grad=learns)

    def forward(self, batch: Batch) -> Tensor:
        """Return the loss, () float32."""
        answers, length = self.network(batch)
        with torch.autocast(answers.device.type, enabled=False):
            losses = self.losses(answers, batch.labels)
            if self.log_variance.requires_grad:
                halves = torch.where(self.is_yes_no, 1.0, 0.5)
                losses = halves * torch.exp(-self.log_variance) * losses + 0.5 * self.log_variance
            loss: Tensor = (self.weights * losses).sum() + self._shrinkage * length
            return loss

    def losses(self, answers: Tensor, labels: Tensor) -> Tensor:
        """Return the (T,) mean loss of each task over the rows that say something about it."""
        is_known = ~torch.isnan(labels)
        truth = torch.where(is_known, labels, torch.zeros_like(labels))
        entropy = functional.binary_cross_entropy_with_logits(
            answers, truth.clamp(0.0, 1.0), reduction="none"
        )
        losses = torch.where(self.is_yes_no, entropy, (answers - truth).square()) * is_known
        return losses.sum(dim=0) / is_known.sum(dim=0).clamp(min=1)

    @torch.no_grad()
    def shares(self) -> Tensor:
        """Return the (T,) weights in force."""
        if not self.log_variance.requires_grad:
            return self.weights
        return self.weights * torch.where(self.is_yes_no, 1.0, 0.5) * torch.exp(-self.log_variance)
