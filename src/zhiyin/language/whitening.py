"""Vectors made rounder and shorter: whitening and projection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zhiyin.contracts import ComponentState
from zhiyin.domain import FloatArray
from zhiyin.domain.errors import ShapeMismatch

_LEAST_VARIANCE = 1e-7
"""Share of the largest variance below which a direction is noise of the arithmetic."""


@dataclass(frozen=True, eq=False)
class Whitening:
    """A fitted map x → (x - mean) P, rows scaled to length 1 again.

    P holds the d directions of largest variance, each divided by its standard deviation to the power
    ``strength``: 1 whitens (Su et al., "Whitening sentence representations", 2021), 0 only rotates and cuts
    (principal components). Rows of zeros, items without text, stay zeros.

    Attributes:
        mean: (D,) float32.
        projection: (D, d) float32.
    """

    mean: FloatArray
    projection: FloatArray

    @classmethod
    def fit(cls, vectors: FloatArray, *, n_dimensions: int | None = None, strength: float = 1.0) -> Whitening:
        """Learn mean and directions.

        Args:
            vectors: (I, D) float32; rows of zeros are left out.
            n_dimensions: d; None keeps every direction that varies.
            strength: 0 to 1.
        """
        there = vectors[np.abs(vectors).sum(axis=1) > 0].astype(np.float64)
        dimension = vectors.shape[1]
        if len(there) < 2:
            return cls(np.zeros(dimension, np.float32), np.eye(dimension, n_dimensions, dtype=np.float32))
        mean = there.mean(axis=0)
        centred = there - mean
        variance, directions = np.linalg.eigh(centred.T @ centred / len(there))
        variance, directions = variance[::-1], directions[:, ::-1]
        n_varying = int((variance > _LEAST_VARIANCE * max(variance[0], 1e-30)).sum())
        kept = max(1, min(n_varying, n_dimensions or dimension))
        scale = np.maximum(variance[:kept], 1e-30) ** (-strength / 2)
        return cls(mean.astype(np.float32), (directions[:, :kept] * scale).astype(np.float32))

    def apply(self, vectors: FloatArray) -> FloatArray:
        """Map (n, D) float32 to (n, d) float32, each row of length 1 or zeros.

        Raises:
            ShapeMismatch: when the vectors are of another length than those it was fitted to.
        """
        if vectors.shape[1] != len(self.mean):
            raise ShapeMismatch(
                f"The whitening was fitted to vectors of length {len(self.mean)}; "
                f"these have length {vectors.shape[1]}.",
                remedy="Fit it again to vectors of the same encoder.",
            )
        there = (np.abs(vectors).sum(axis=1, keepdims=True) > 0).astype(np.float32)
        mapped = ((vectors - self.mean) @ self.projection) * there
        lengths = np.linalg.norm(mapped, axis=1, keepdims=True)
        result: FloatArray = (mapped / np.maximum(lengths, 1e-12)).astype(np.float32)
        return result

    def state(self) -> ComponentState:
        """Return mean and projection."""
        return ComponentState({"mean": self.mean, "projection": self.projection})

    @classmethod
    def restore(cls, arrays: Mapping[str, npt.NDArray[np.generic]]) -> Whitening:
        """Take over the arrays of a state."""
        return cls(arrays["mean"].astype(np.float32), arrays["projection"].astype(np.float32))
