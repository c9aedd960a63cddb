"""What the catalogue says: for search, for likeness between items, with or without a language model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zhiyin.contracts import CatalogueLanguage, TextEncoder
from zhiyin.domain import Catalogue, FloatArray, IndexArray
from zhiyin.language.lexical import LexicalIndex


@dataclass(frozen=True, eq=False)
class Content:
    """Words of every item and, where the recipe reads with a language model, its vector.

    Attributes:
        words: Lexical index of the catalogue.
        vectors: (I, D) float32 of length 1, or None.
    """

    words: LexicalIndex
    vectors: FloatArray | None

    @classmethod
    def of(cls, catalogue: Catalogue, vectors: FloatArray | None) -> Content:
        """Index a catalogue."""
        return cls(LexicalIndex(catalogue), vectors)

    def extended(self, new: Catalogue, language: CatalogueLanguage) -> Content:
        """Return the content with further items."""
        vectors = self.vectors
        if vectors is not None:
            vectors = np.concatenate([vectors, language.vectors(new)])
        return Content(self.words.extended(self.words.rows_of(new)), vectors)

    def changed(self, item_index: IndexArray, items: Catalogue, language: CatalogueLanguage) -> Content:
        """Return the content with some items (M,) described anew."""
        words = self.words.changed(item_index, self.words.rows_of(items))
        vectors = self.vectors
        if vectors is not None:
            vectors = vectors.copy()
            vectors[item_index] = language.vectors(items)
        return Content(words, vectors)

    def similarity(self, item_index: IndexArray) -> FloatArray:
        """Cosine between the candidates of each query.

        Args:
            item_index: (B, N) int32, -1 pads.

        Returns:
            (B, N, N) float32; padding is like nothing.
        """
        places = np.where(item_index >= 0, item_index, 0)
        if self.vectors is not None:
            rows = self.vectors[places] * (item_index >= 0)[..., None]
            cosines: FloatArray = np.matmul(rows, rows.transpose(0, 2, 1)).astype(np.float32)
            return cosines
        alike = np.zeros((*places.shape, places.shape[1]), dtype=np.float32)
        for row, known, cosine in zip(
            places, item_index >= 0, alike, strict=True
        ):  # asked for one user at a time
            words = self.words.matrix[row]
            cosine[:] = (words @ words.T).toarray() * (known[:, None] & known[None, :])
        return alike

    def match(self, texts: list[str], encoder: TextEncoder | None) -> FloatArray:
        """Score every item for free texts.

        Args:
            texts: M searches.
            encoder: The one that made the vectors; without it, words alone decide.

        Returns:
            (M, I) float32: cosine of words, plus cosine of meaning where there are vectors; NaN where
            neither finds anything.
        """
        scores: FloatArray = (self.words.rows_of_texts(texts) @ self.words.matrix.T).toarray()
        if self.vectors is not None and encoder is not None:
            return scores + encoder.encode(texts) @ self.vectors.T
        return np.where(scores > 0, scores, np.float32(np.nan))
