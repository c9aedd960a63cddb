"""Matrix factorisation that learns to rank."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import Tensor
from torch.nn import functional

from zhiyin.domain import FloatArray
from zhiyin.sources.factors.ranking import FactorLearner, Pairs, Ranking, ReadOut, learned_vectors
from zhiyin.sources.factors.settings import BprConfig
from zhiyin.sources.factors.source import FactorSource
from zhiyin.sources.factors.taken import Taken

RIDGE = 1e-3
"""Pull towards zero of the map from histories to users, as a share of the mean square of what it reads."""


class Bpr(FactorSource[BprConfig]):
    """Matrix factorisation for ranking (Rendle et al., "BPR: Bayesian Personalized Ranking", 2009).

    Training learns a vector for each user and each item, so that what a user took scores above what was
    drawn. When asked, the vector of a user is made of the history: an affine map of the mean of its item
    vectors, the map that comes closest to the trained vectors of all users.
    """

    name = "bpr"
    config_class = BprConfig

    def _learner(self, taken: Taken, ranking: Ranking) -> FactorLearner:
        return BprLearner(taken, self.config.dimension, ranking)


class BprLearner(FactorLearner):
    """A vector for each user and each item; the score is their inner product.

    Args:
        taken: P pairs.
        dimension: D.
        ranking: The loss.
    """

    divided_by = 1.0

    def __init__(self, taken: Taken, dimension: int, ranking: Ranking) -> None:
        super().__init__()
        self.users = learned_vectors(taken.n_users, dimension)
        self.items = learned_vectors(taken.n_items, dimension)
        self._ranking = ranking
        shape = (taken.n_users, taken.n_items)
        self._mean_of_items = sp.csr_array((taken.weight, (taken.user, taken.item)), shape=shape)
        of_user = np.asarray(self._mean_of_items.sum(axis=1))
        self._has_taken = of_user > 0
        self._mean_of_items.data /= np.repeat(of_user, np.diff(self._mean_of_items.indptr))

    def forward(self, pairs: Pairs) -> Tensor:
        """Return the loss of some pairs, () float32."""
        user, item, _ = pairs
        with torch.autocast(self.items.device.type, enabled=False):
            users, items = functional.embedding(user, self.users), functional.embedding(item, self.items)
            return self._ranking.loss(users, self.items, item, (users, items))

    def read_out(self) -> ReadOut:
        """Return item vectors, and the same mapped to where users stand."""
        users, items = self.users.detach().cpu().numpy(), self.items.detach().cpu().numpy()
        means = self._mean_of_items @ items
        slope, start = affine_map(means[self._has_taken], users[self._has_taken])
        return ReadOut(items @ slope, items, start)


def affine_map(given: FloatArray, wanted: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return (D, D) slope and (D,) start, so that ``given @ slope + start`` comes close to ``wanted``.

    Ridge regression with the means taken out: ``slope = (XᵀX + λ)⁻¹ XᵀY``.

    Args:
        given: (U, D) float32.
        wanted: (U, D) float32.
    """
    n, dimension = given.shape
    if not n:
        return np.eye(dimension, dtype=np.float32), np.zeros(dimension, dtype=np.float32)
    middle, wanted_middle = (part.mean(axis=0, dtype=np.float64) for part in (given, wanted))
    apart: npt.NDArray[np.float64] = given - middle
    square = apart.T @ apart
    strength = RIDGE * float(np.trace(square)) / dimension + 1e-9
    slope = np.linalg.solve(square + strength * np.eye(dimension), apart.T @ (wanted - wanted_middle))
    return slope.astype(np.float32), (wanted_middle - middle @ slope).astype(np.float32)
