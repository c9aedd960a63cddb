"""The loss of all factor models: what was taken ranks above what was drawn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from zhiyin.domain import FloatArray
from zhiyin.training.losses import NegativeSampler, sampled_cross_entropy

Pairs = tuple[Tensor, Tensor, Tensor]
"""(N,) int64 each: users, the items they took, and the places of these pairs among all."""

START_LENGTH = 0.1
"""Standard deviation of the numbers of a vector before training."""


@dataclass(frozen=True, eq=False)
class ReadOut:
    """What answering needs of a trained model; no vector of a user is among it.

    Attributes:
        history_vectors: (I, D) float32, what an event on each item adds to a user's vector.
        item_vectors: (I, D) float32, what a user's vector is multiplied with.
        start: (D,) float32, the vector everybody begins with.
    """

    history_vectors: FloatArray
    item_vectors: FloatArray
    start: FloatArray


class FactorLearner(nn.Module, ABC):
    """A factor model as it is trained: its ``forward`` returns the loss of some pairs, () float32."""

    divided_by: float
    """A sum over a history is divided by the sum of its weights to this power."""

    @abstractmethod
    def forward(self, pairs: Pairs) -> Tensor:
        """Return the loss of some pairs, () float32."""

    @abstractmethod
    def read_out(self) -> ReadOut:
        """Return what answering needs of the model as it stands."""


class Ranking:
    """The loss of pairs against negatives drawn by popularity to some power.

    ``softmax`` is cross-entropy over the catalogue, estimated from S negatives shared by the batch; see
    `sampled_cross_entropy`. ``pairwise`` is ``-ln σ(u · e_i - u · e_j)``, averaged over S negatives j of each
    pair (Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", 2009). A negative that
    is the taken item of its pair is left out.

    Args:
        kind: Which of the two.
        sampler: Where negatives come from.
        n_negatives: S.
        regularisation: Weight of the mean squared length of the learned vectors.
    """

    def __init__(
        self,
        kind: Literal["softmax", "pairwise"],
        sampler: NegativeSampler,
        n_negatives: int,
        regularisation: float,
    ) -> None:
        self._sampler, self._n_negatives, self._regularisation = sampler, n_negatives, regularisation
        self._rank = self._softmax if kind == "softmax" else self._pairwise

    def loss(self, users: Tensor, item_vectors: Tensor, items: Tensor, learned: tuple[Tensor, ...]) -> Tensor:
        """Return the loss with its regularisation, () float32.

        Args:
            users: (N, D) float32, vectors of the users.
            item_vectors: (I, D) float32.
            items: (N,) int64, what they took.
            learned: Parameters of the pairs, (N, D) float32 each, whose length is held down.
        """
        loss = self._rank(users, item_vectors, items)
        for vectors in learned if self._regularisation else ():
            loss = loss + self._regularisation * vectors.square().sum(dim=1).mean()
        return loss

    def _softmax(self, users: Tensor, item_vectors: Tensor, items: Tensor) -> Tensor:
        drawn, log_expected = (part.to(items.device) for part in self._sampler.draw(self._n_negatives))
        is_hit = items[:, None] == drawn[None, :]
        of_items, of_drawn = (functional.embedding(part, item_vectors) for part in (items, drawn))
        alike = torch.ones_like(items, dtype=torch.float32)
        return sampled_cross_entropy(users, of_items, of_drawn, is_hit, log_expected, alike)

    def _pairwise(self, users: Tensor, item_vectors: Tensor, items: Tensor) -> Tensor:
        drawn = self._sampler.draw(len(items) * self._n_negatives)[0].to(items.device)
        drawn = drawn.view(len(items), self._n_negatives)
        of_items, of_drawn = (functional.embedding(part, item_vectors) for part in (items, drawn))
        lead = (users * of_items).sum(dim=1, keepdim=True) - (of_drawn @ users[:, :, None])[..., 0]
        is_other = (drawn != items[:, None]).to(lead.dtype)
        return -(functional.logsigmoid(lead) * is_other).sum() / is_other.sum().clamp_min(1.0)


def learned_vectors(n: int, dimension: int) -> nn.Parameter:
    """Return (n, dimension) random vectors to begin with."""
    return nn.Parameter(torch.randn(n, dimension) * START_LENGTH)
