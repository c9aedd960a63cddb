"""Text vectors made ready for a transformer that learns from IDs as well."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from zhiyin.contracts import CatalogueLanguage
from zhiyin.domain import Catalogue, FloatArray

SMALLEST_VARIANCE = 0.01
"""Of the mean variance: directions that vary less are noise, and not blown up to the size of the others."""
ITEMS_AT_ONCE = 100_000
"""Items whose texts are read at once: 150 MB of vectors with 384 numbers."""


@dataclass(frozen=True, eq=False)
class Whitening:
    """Turns text vectors into ones whose directions all vary alike.

    Vectors of a language model share a large mean and a few strong directions, which say "this is a
    shampoo" ten times over; after whitening a projection learns several times faster.

    Attributes:
        mean: (K,) float32.
        matrix: (K, R) float32; rows of the result have length 1 on average.
    """

    mean: FloatArray
    matrix: FloatArray

    @classmethod
    def of(cls, vectors: FloatArray) -> Whitening:
        """Measure (I, K) text vectors; rows of zeros have no text and do not count."""
        return cls.of_portions([vectors])

    @classmethod
    def of_portions(cls, portions: Iterable[FloatArray]) -> Whitening:
        """Measure text vectors that come portion by portion, (…, K) float32 each, at least one portion.

        Mean and products are summed around the mean of the first portion, so that nothing large cancels.
        """
        n_spoken, origin = 0, np.zeros(0)
        sums, products = np.zeros(0), np.zeros((0, 0))
        for vectors in portions:
            spoken = vectors[has_text(vectors)].astype(np.float64)
            if not len(products):
                origin = spoken.mean(axis=0) if len(spoken) else np.zeros(vectors.shape[1])
                sums, products = np.zeros(len(origin)), np.zeros((len(origin), len(origin)))
            spoken -= origin
            n_spoken += len(spoken)
            sums += spoken.sum(axis=0)
            products += spoken.T @ spoken
        shift = sums / max(n_spoken, 1)
        mean = origin + shift
        variances, directions = np.linalg.eigh(products / max(n_spoken, 1) - np.outer(shift, shift))
        floor = SMALLEST_VARIANCE * max(float(variances.mean()), 1e-12)
        matrix = directions / np.sqrt(np.maximum(variances, 0.0) + floor) / np.sqrt(len(mean))
        return cls(mean.astype(np.float32), matrix.astype(np.float32))

    def __call__(self, vectors: FloatArray) -> FloatArray:
        """Return (I, R) float32; zeros, which is the average, where there is no text."""
        whitened = (vectors - self.mean) @ self.matrix * has_text(vectors)[:, None]
        return np.asarray(whitened, dtype=np.float32)


def has_text(vectors: FloatArray) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Return (I,) bool: False for rows of zeros."""
    return np.asarray(np.abs(vectors).sum(axis=1) > 0)


def text_portions(language: CatalogueLanguage, catalogue: Catalogue) -> Iterator[FloatArray]:
    """Yield the text vectors of a catalogue, (…, K) float32 each: in one piece, or in many where it is large.

    A small catalogue is asked for as a whole, because others ask for it too and its language remembers it.
    """
    if len(catalogue) <= ITEMS_AT_ONCE:
        yield language.vectors(catalogue)
        return
    for start in range(0, len(catalogue), ITEMS_AT_ONCE):
        yield language.vectors(catalogue.rows(np.arange(start, min(start + ITEMS_AT_ONCE, len(catalogue)))))
