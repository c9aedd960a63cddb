"""A language small enough to run in a test: words become fixed random directions."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache

import numpy as np
import polars as pl

from zhiyin.domain import Catalogue, FloatArray


class HashedWords:
    """A text encoder without a model: the sum of one random direction a word, drawn from the word itself.

    Texts that share words are close, others nearly at right angles. Deterministic in every process.

    Args:
        dimension: D.
    """

    def __init__(self, dimension: int = 64) -> None:
        self.dimension = dimension
        self.name = f"hashed-words-{dimension}"

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Return (len(texts), D) float32, each row of length 1; a text without words counts as one word."""
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().split() or [""]:
                vectors[row] += _direction(word, self.dimension)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors


class ToyLanguage:
    """The catalogue as language, for tests: an item's text is its title.

    Args:
        encoder: Turns the titles into vectors.
    """

    def __init__(self, encoder: HashedWords | None = None) -> None:
        self.encoder = encoder or HashedWords()

    def texts(self, catalogue: Catalogue) -> list[str]:
        """Return one text an item, empty where there is no title."""
        if "title" not in catalogue.table.columns:
            return [""] * len(catalogue)
        texts: list[str] = catalogue.table["title"].cast(pl.String).fill_null("").to_list()
        return texts

    def vectors(self, catalogue: Catalogue) -> FloatArray:
        """Return (I, D) float32, each row of length 1, zeros where there is no text."""
        texts = self.texts(catalogue)
        has_text = np.array([bool(text) for text in texts], dtype=bool)
        return self.encoder.encode(texts) * has_text[:, None].astype(np.float32)


@cache
def _direction(word: str, dimension: int) -> FloatArray:
    digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
    random = np.random.default_rng(int.from_bytes(digest, "little"))
    return random.normal(size=dimension).astype(np.float32)
