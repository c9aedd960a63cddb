"""A graph of users and items, over which the vectors of items are spread."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from zhiyin.domain import FloatArray, LongArray
from zhiyin.domain.arrays import offsets_of
from zhiyin.sources.factors.ranking import FactorLearner, Pairs, Ranking, ReadOut, learned_vectors
from zhiyin.sources.factors.settings import LightGcnConfig
from zhiyin.sources.factors.source import FactorSource
from zhiyin.sources.factors.taken import Taken


class LightGcn(FactorSource[LightGcnConfig]):
    """Light graph convolution (He et al., "LightGCN", 2020), with vectors of items alone.

    With A[u, i] what user u's events on item i count, d the sums of its rows and columns, and
    ``Â = d_user^-½ A d_item^-½``, the vectors of users and items in layer k are ``Y_k = Â X_(k-1)`` and
    ``X_k = Âᵀ Y_(k-1)``, those of the model the means of layers 0 to K. The paper also learns Y_0, a vector
    for each user; here it is zero. The vector of a user is then a sum over the history,
    ``Σ_i A[u, i] (d_u d_i)^-½ Σ_(k<K) X_k[i] / (K + 1)``, and what is served equals what was trained.
    """

    name = "lightgcn"
    config_class = LightGcnConfig

    def _learner(self, taken: Taken, ranking: Ranking) -> FactorLearner:
        config = self.config
        return LightGcnLearner(
            taken, config.dimension, config.n_layers, ranking, hide_target=config.hide_target
        )


class LightGcnLearner(FactorLearner):
    """A vector for each item, spread over the graph.

    Args:
        taken: P pairs, the edges.
        dimension: D.
        n_layers: K.
        ranking: The loss.
        hide_target: Whether an item is left out of its user's history while it is the target.
    """

    divided_by = 0.5
    to_users: Tensor
    to_items: Tensor
    edges: Tensor

    def __init__(
        self, taken: Taken, dimension: int, n_layers: int, ranking: Ranking, *, hide_target: bool
    ) -> None:
        super().__init__()
        self.items = learned_vectors(taken.n_items, dimension)
        self._n_layers, self._ranking, self._hide_target = n_layers, ranking, hide_target
        of_user = np.bincount(taken.user, weights=taken.weight, minlength=taken.n_users)
        self._of_item = taken.item_counts
        edges = taken.weight / np.sqrt(of_user[taken.user] * self._of_item[taken.item])
        sizes = taken.n_users, taken.n_items
        cells = torch.from_numpy(edges.astype(np.float32))
        # Not persistent: they are made of the data, and a checkpoint knows the data by its fingerprint.
        self.register_buffer("edges", cells, persistent=False)
        self.register_buffer("to_users", _sparse(taken.user, taken.item, edges, sizes), persistent=False)
        self.register_buffer(
            "to_items", _sparse(taken.item, taken.user, edges, sizes[::-1]), persistent=False
        )

    def forward(self, pairs: Pairs) -> Tensor:
        """Return the loss of some pairs, () float32."""
        user, item, place = pairs
        with torch.autocast(self.items.device.type, enabled=False):
            users, items, inward = self.spread()
            asked = functional.embedding(user, users)
            if self._hide_target:
                asked = asked - self.edges[place][:, None] * functional.embedding(item, inward)
            own = functional.embedding(item, self.items)
            return self._ranking.loss(asked, items, item, (own,))

    def spread(self) -> tuple[Tensor, Tensor, Tensor]:
        """Spread the vectors over the graph.

        Returns:
            (U, D) vectors of users, (I, D) vectors of items, and (I, D) what users are made of: the item
            vectors of the layers before the last. All float32.
        """
        of_items = self.items
        users, items, inward = None, self.items, self.items
        for layer in range(1, self._n_layers + 1):
            if layer % 2:  # vectors that begin on items stand on users after an odd number of steps
                of_users: Tensor = Spread.apply(self.to_users, self.to_items, of_items)
                users = of_users if users is None else users + of_users
            else:
                of_items = Spread.apply(self.to_items, self.to_users, of_users)
                items = items + of_items
                inward = inward + of_items if layer < self._n_layers else inward
        assert users is not None
        n = self._n_layers + 1
        return users / n, items / n, inward / n

    def read_out(self) -> ReadOut:
        """Return item vectors, and what users are made of, divided by the root of what an item counts."""
        _, items, inward = (part.detach().cpu().numpy() for part in self.spread())
        scale = 1.0 / np.sqrt(np.where(self._of_item > 0, self._of_item, 1.0))
        nothing = np.zeros(items.shape[1], dtype=np.float32)
        return ReadOut(inward * scale[:, None].astype(np.float32), items, nothing)


class Spread(torch.autograd.Function):
    """A product with a sparse matrix whose transpose is at hand; torch would make it in each backward."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, transposed: Tensor, vectors: Tensor) -> Tensor:
        """Return ``matrix @ vectors``."""
        ctx.transposed = transposed
        return matrix @ vectors

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, Tensor]:
        """Return the gradient of the vectors."""
        return None, None, ctx.transposed @ gradients[0].contiguous()


def _sparse(
    row: LongArray, column: LongArray, values: npt.NDArray[np.floating], sizes: tuple[int, ...]
) -> Tensor:
    """Return a compressed sparse matrix of float32; each cell at most once."""
    order = np.lexsort((column, row))
    offsets = offsets_of(np.bincount(row, minlength=sizes[0]))
    data: FloatArray = values[order].astype(np.float32)
    ends, columns, cells = (torch.from_numpy(part) for part in (offsets, column[order], data))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(ends, columns, cells, size=sizes, check_invariants=False)
