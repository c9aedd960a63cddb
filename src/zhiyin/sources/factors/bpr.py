"""Matrix factorisation that learns to rank."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor
from torch.nn import functional

from zhiyin.domain import FloatArray, LongArray
from zhiyin.sources.factors.ranking import FactorLearner, Pairs, Ranking, ReadOut, learned_vectors
from zhiyin.sources.factors.settings import BprConfig
from zhiyin.sources.factors.source import FactorSource
from zhiyin.sources.factors.taken import Taken

RIDGE = 1e-3
"""Pull towards zero of the map from histories to users, as a share of the mean square of what it reads."""
_PAIRS_AT_ONCE = 65_536
_LEAST_REST = 1e-6
"""Below this share of all weights float32 cannot tell what is left when an item is taken out."""


class Bpr(FactorSource[BprConfig]):
    """Matrix factorisation for ranking (Rendle et al., "BPR: Bayesian Personalized Ranking", 2009).

    Training learns a vector for each user and each item, so that what a user took scores above what was
    drawn. When asked, the vector of a user is made of the history: an affine map of the mean of its item
    vectors. The map is the one that finds the trained vector of a user from all but one of their items: an
    item is asked for while it is not in the history, so the map must not count on it.
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
        self._taken = taken

    def forward(self, pairs: Pairs) -> Tensor:
        """Return the loss of some pairs, () float32."""
        user, item, _ = pairs
        with torch.autocast(self.items.device.type, enabled=False):
            users, items = functional.embedding(user, self.users), functional.embedding(item, self.items)
            return self._ranking.loss(users, self.items, item, (users, items))

    def read_out(self) -> ReadOut:
        """Return item vectors, and the same mapped to where users stand."""
        users, items = self.users.detach().cpu().numpy(), self.items.detach().cpu().numpy()
        slope, start = map_of_rests(self._taken, users, items)
        return ReadOut(items @ slope, items, start)


def map_of_rests(taken: Taken, users: FloatArray, items: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return (D, D) slope and (D,) start that lead from what else a user took to the vector of the user.

    For a user with vector u who took items i of weights w, and each j of these, ``x @ slope + start`` shall
    come close to u, with ``x = Σ_{i≠j} w_i e_i / Σ_{i≠j} w_i``. Such a case counts ``w_j / Σ w``, so a user
    counts 1 in all and what is worth little is seldom left out. Ridge regression with the means taken out.

    Args:
        taken: P pairs; users with one item say nothing.
        users: (U, D) float32.
        items: (I, D) float32.
    """
    dimension = items.shape[1]
    square, across = np.zeros((2, dimension, dimension), dtype=np.float64)
    middle, wanted, n_counted = np.zeros(dimension), np.zeros(dimension), 0.0
    for user, rest, share in _rests(taken, items):
        weighted, of_user = rest * share[:, None], users[user]
        square += weighted.T @ rest
        across += weighted.T @ of_user
        middle += weighted.sum(axis=0, dtype=np.float64)
        wanted += share @ of_user
        n_counted += float(share.sum(dtype=np.float64))
    if not n_counted:
        return np.eye(dimension, dtype=np.float32), np.zeros(dimension, dtype=np.float32)
    middle, wanted = middle / n_counted, wanted / n_counted
    spread = square / n_counted - np.outer(middle, middle)
    strength = RIDGE * float(np.trace(spread)) / dimension + 1e-9
    slope = np.linalg.solve(
        spread + strength * np.eye(dimension), across / n_counted - np.outer(middle, wanted)
    )
    return slope.astype(np.float32), (wanted - middle @ slope).astype(np.float32)


def _rests(taken: Taken, items: FloatArray) -> Iterator[tuple[LongArray, FloatArray, FloatArray]]:
    """Yield users (n,), means of their other items (n, D) and what such a case counts (n,), pair by pair."""
    marks = sp.csr_array((taken.weight, (taken.user, taken.item)), shape=(taken.n_users, taken.n_items))
    total = marks @ items
    of_user = np.bincount(taken.user, weights=taken.weight, minlength=taken.n_users)  # in doubles
    rest = of_user[taken.user] - taken.weight
    kept = np.flatnonzero(rest > _LEAST_REST * of_user[taken.user])
    for start in range(0, len(kept), _PAIRS_AT_ONCE):
        places = kept[start : start + _PAIRS_AT_ONCE]
        user, item, weight = taken.user[places], taken.item[places], taken.weight[places]
        of_others = (total[user] - weight[:, None] * items[item]) / rest[places, None]
        yield user, of_others.astype(np.float32), (weight / of_user[user]).astype(np.float32)
