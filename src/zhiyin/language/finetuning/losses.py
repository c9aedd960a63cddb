"""The loss of each kind of task, and how several become one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from zhiyin.language.finetuning.settings import Kind, TaskConfig
from zhiyin.training.consistency import disagreement_of_chances, disagreement_of_values


@dataclass(frozen=True)
class Scale:
    """Mean and spread of a task's training labels; ratings are foretold in units of it."""

    mean: float = 0.0
    spread: float = 1.0


class Losses(nn.Module):
    """Losses of T tasks, summed.

    With ``balance`` by uncertainty the sum is ``Σ_t exp(-s_t) L_t + s_t / 2`` with learned s (Kendall et al.,
    "Multi-task learning using uncertainty", 2018), each s starting where the weights of the settings put it.

    Args:
        tasks: Name → settings, in the order of the labels' columns.
        scales: Name → scale of its labels.
        learns_balance: Whether s is learned.
    """

    def __init__(
        self, tasks: Mapping[str, TaskConfig], scales: Mapping[str, Scale], *, learns_balance: bool
    ) -> None:
        super().__init__()
        self.tasks = dict(tasks)
        self._scales = [scales.get(name, Scale()) for name in tasks]
        weights = torch.tensor([task.weight for task in tasks.values()])
        self.logs = nn.Parameter(-weights.log(), requires_grad=learns_balance)

    def forward(self, predicted: Tensor, labels: Tensor, group: Tensor) -> Tensor:
        """Return the loss, () float32.

        Args:
            predicted: (B, T) float.
            labels: (B, T) float, NaN where unknown.
            group: (B,) int64; rows of one group, such as those of one user, are compared with each other in
                ``pairwise``, ``listwise`` and ``next``.
        """
        total = predicted.sum() * 0.0
        for column, task in enumerate(self.tasks.values()):
            known = ~labels[:, column].isnan()
            if not known.any():
                continue
            loss = self._one(task, column, predicted[known, column], labels[known, column], group[known])
            log = self.logs[column]
            total = total + torch.exp(-log) * loss
            if self.logs.requires_grad:
                total = total + log / 2
        return total

    def _one(self, task: TaskConfig, column: int, predicted: Tensor, labels: Tensor, group: Tensor) -> Tensor:
        if task.kind == "yes_no":
            return functional.binary_cross_entropy_with_logits(predicted, labels)
        if task.kind == "rating":
            scale = self._scales[column]
            difference = predicted - (labels - scale.mean) / scale.spread
            return difference.square().mean() if task.error == "squared" else difference.abs().mean()
        if task.kind == "pairwise":
            return pairwise_loss(predicted, labels, group)
        return listwise_loss(predicted, labels, group)

    def disagreement(self, first: Tensor, second: Tensor, labels: Tensor, group: Tensor) -> Tensor:
        """Return how far two predictions (B, T) of one batch are apart, summed over tasks, () float32.

        What R-Drop adds; see `zhiyin.training.consistency`.
        """
        total = first.sum() * 0.0
        for column, task in enumerate(self.tasks.values()):
            known = ~labels[:, column].isnan()
            if not known.any():
                continue
            one, other = first[known, column], second[known, column]
            if task.kind == "yes_no":
                total = total + disagreement_of_chances(one, other)
            elif task.kind == "rating":
                total = total + disagreement_of_values(one, other)
            else:
                total = total + _disagreement_of_orders(one, other, group[known])
        return total


def pairwise_loss(predicted: Tensor, labels: Tensor, group: Tensor) -> Tensor:
    """Mean of ``log(1 + exp(y_j - y_i))`` over pairs of one group with label i above label j.

    Burges et al., "Learning to rank using gradient descent" (RankNet), 2005.

    Args:
        predicted: (B,) float.
        labels: (B,) float.
        group: (B,) int64.
    """
    is_pair = (group[:, None] == group[None, :]) & (labels[:, None] > labels[None, :])
    if not is_pair.any():
        return predicted.sum() * 0.0
    return functional.softplus(predicted[None, :] - predicted[:, None])[is_pair].mean()


def listwise_loss(predicted: Tensor, labels: Tensor, group: Tensor) -> Tensor:
    """Cross-entropy between labels and predictions over the rows of each group, averaged over groups.

    The labels of a group, shifted so that the lowest is 0, are divided by their sum; a group whose labels are
    all equal says nothing. Cao et al., "Learning to rank: from pairwise approach to listwise approach"
    (ListNet), 2007, with shares in place of their softmax, so that a single chosen row counts whole.

    Args:
        predicted: (B,) float.
        labels: (B,) float.
        group: (B,) int64.
    """
    place, n_groups = _places(group)
    low = labels.new_full((n_groups,), torch.inf).scatter_reduce(0, place, labels, "amin")
    gain = labels - low[place]
    total = gain.new_zeros(n_groups).index_add(0, place, gain)
    tells = total > 0
    if not tells.any():
        return predicted.sum() * 0.0
    share = gain / total.clamp_min(torch.finfo(torch.float32).tiny)[place]
    return -(share * log_shares(predicted, place, n_groups)).sum() / tells.sum()


def log_shares(predicted: Tensor, place: Tensor, n_groups: int) -> Tensor:
    """Return the logarithm of the softmax over each group: (B,) float for (B,) int64 places of groups."""
    highest = predicted.new_full((n_groups,), -torch.inf).scatter_reduce(0, place, predicted.detach(), "amax")
    shifted = predicted - highest[place]
    sums = predicted.new_zeros(n_groups).index_add(0, place, shifted.exp())
    return shifted - sums.log()[place]


def _disagreement_of_orders(first: Tensor, second: Tensor, group: Tensor) -> Tensor:
    place, n_groups = _places(group)
    one, other = log_shares(first, place, n_groups), log_shares(second, place, n_groups)
    return 0.5 * ((one.exp() - other.exp()) * (one - other)).sum() / n_groups


def _places(group: Tensor) -> tuple[Tensor, int]:
    groups, place = torch.unique(group, return_inverse=True)
    return place, len(groups)


def chances(kind: Kind, predicted: Tensor, scale: Scale) -> Tensor:
    """Turn raw predictions into what the label means: a chance, a rating, or a score that only orders."""
    if kind == "yes_no":
        return predicted.sigmoid()
    return predicted * scale.spread + scale.mean if kind == "rating" else predicted
