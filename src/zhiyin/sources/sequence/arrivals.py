"""Vectors for items that nobody has touched: those that arrive later, and those training saw no event of."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import torch

from zhiyin.domain import BoolArray, FloatArray
from zhiyin.domain.errors import ShapeMismatch
from zhiyin.sources.sequence.text import has_text

N_NEIGHBOURS = 3
ITEMS_AT_ONCE = 512


@dataclass(frozen=True, eq=False)
class Arrivals:
    """Makes an item vector out of a text, as training would have done after some events.

    Training balances the projected text of an item with its ID vector; text alone is out of balance with
    the items it competes with. An untouched item therefore borrows the mean ID vector of the three touched
    items whose projected texts are closest in direction.

    Attributes:
        mean: (K,) float32, the average text vector; K is 0 where training saw no text.
        projection: (K, D) float32, whitening and the learned projection in one.
        known_texts: (M, D) float32, projected texts of the touched items that have one, of length 1, those
            of frequent items first.
        known_ids: (M, D) float32, their ID vectors.
        average_id: (D,) float32, the mean ID vector of all touched items.
    """

    mean: FloatArray
    projection: FloatArray
    known_texts: FloatArray
    known_ids: FloatArray
    average_id: FloatArray

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of the arrays, in order."""
        return tuple(field.name for field in fields(cls))

    @property
    def reads_text(self) -> bool:
        """Whether training saw any text."""
        return len(self.mean) > 0

    def with_first(self, n: int) -> Arrivals:
        """Return the same that borrows from the first ``n`` known items alone."""
        return replace(self, known_texts=self.known_texts[:n], known_ids=self.known_ids[:n])

    def read(self, texts: FloatArray) -> FloatArray:
        """Return (I, D) float32 item vectors for (I, K) text vectors; rows of zeros have no text.

        Raises:
            ShapeMismatch: when the text vectors come from another language model.
        """
        if texts.shape[1] != len(self.mean):
            raise ShapeMismatch(
                f"Text vectors have {texts.shape[1]} numbers; the source was trained with {len(self.mean)}.",
                remedy="Use the language model that the pipeline was trained with, or train again.",
            )
        return self.completed(((texts - self.mean) @ self.projection).astype(np.float32), has_text(texts))

    def completed(self, of_text: FloatArray, spoken: BoolArray) -> FloatArray:
        """Return (I, D) float32 item vectors for (I, D) projected texts; those not (I,) spoken have none."""
        vectors = self.average(len(of_text))
        vectors[spoken] = of_text[spoken] + self._borrowed(of_text[spoken])
        return vectors

    def average(self, n_items: int) -> FloatArray:
        """Return (n_items, D) float32: items nothing is known of."""
        return np.tile(self.average_id, (n_items, 1))

    def _borrowed(self, of_text: FloatArray) -> FloatArray:
        """Return (I, D): the mean ID vector of the nearest neighbours of (I, D) projected texts."""
        n_neighbours = min(N_NEIGHBOURS, len(self.known_ids))
        if n_neighbours == 0:
            return self.average(len(of_text))
        borrowed = np.empty_like(of_text)
        for start in range(0, len(of_text), ITEMS_AT_ONCE):
            part = slice(start, start + ITEMS_AT_ONCE)
            closeness = of_text[part] @ self.known_texts.T
            nearest = torch.topk(
                torch.from_numpy(closeness), n_neighbours, dim=1, sorted=False
            ).indices.numpy()
            borrowed[part] = self.known_ids[nearest].mean(axis=1)
        return borrowed
