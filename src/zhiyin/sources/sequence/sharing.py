"""From vectors back to the rows that they are sums of."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from zhiyin.domain import FloatArray

_STEPS = 30
_RIDGE = 1e-3
"""What holds rows near zero that the vectors say nothing about."""


def shared_rows(vectors: Tensor, places: Tensor, n_rows: int) -> Tensor:
    """Find the rows whose sums come nearest to given vectors.

    Rows of one item are its vector. The others solve ``min_x Σ_i |x_a(i) + x_b(i) - v_i|² + ridge |x|²``
    by conjugate gradients (Hestenes and Stiefel, 1952), all columns at once.

    Args:
        vectors: (I, D) float32.
        places: (2, I) int32, as `shared_places` returns them.
        n_rows: R.

    Returns:
        (R, D) float32.
    """
    first, second = places.numpy()
    is_own = second < 0
    rows = np.zeros((n_rows, vectors.shape[1]), dtype=np.float32)
    rows[first[is_own]] = vectors.numpy()[is_own]
    sharing = np.flatnonzero(~is_own)
    n_sharing = len(sharing)
    of_item = np.concatenate([np.arange(n_sharing), np.arange(n_sharing)])
    of_row = np.concatenate([first[sharing], second[sharing]])
    sums = sp.csr_array(
        (np.ones(len(of_row), dtype=np.float32), (of_item, of_row)), shape=(n_sharing, n_rows)
    )
    rows += _least_squares(sums, vectors.numpy()[sharing])
    return torch.from_numpy(rows)


def _least_squares(sums: sp.csr_array, wanted: FloatArray) -> FloatArray:
    """Return (R, D) float32 x with the least ``|sums x - wanted|² + ridge |x|²``."""
    back = sp.csr_array(sums.T)
    solution = np.zeros((sums.shape[1], wanted.shape[1]), dtype=np.float32)
    residual = back @ wanted
    direction, length = residual.copy(), np.square(residual).sum(axis=0)
    for _ in range(_STEPS):
        image = back @ (sums @ direction) + np.float32(_RIDGE) * direction
        step = length / np.maximum((direction * image).sum(axis=0), 1e-30)
        solution += step * direction
        residual -= step * image
        length, before = np.square(residual).sum(axis=0), length
        direction = residual + length / np.maximum(before, 1e-30) * direction
    return solution
