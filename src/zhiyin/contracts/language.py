"""What the language floor promises to those above it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from zhiyin.domain import Catalogue, FloatArray


class TextEncoder(Protocol):
    """Turns texts into vectors."""

    @property
    def name(self) -> str:
        """Which model, so that two sets of vectors can be told apart."""
        ...

    @property
    def dimension(self) -> int:
        """D, the length of a vector."""
        ...

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Return (len(texts), D) float32, each row of length 1."""
        ...


class CatalogueLanguage(Protocol):
    """The catalogue as language: one text and one vector an item, made when first asked for."""

    def texts(self, catalogue: Catalogue) -> list[str]:
        """Return one text an item."""
        ...

    def vectors(self, catalogue: Catalogue) -> FloatArray:
        """Return (I, D) float32; nothing is encoded twice.

        Each row has length 1, or is all zeros where an item has no words.
        """
        ...


@runtime_checkable
class ReadsWithModel(Protocol):
    """A catalogue's language whose vectors a model on disk makes, which a component may load and adapt."""

    @property
    def model_name(self) -> str | None:
        """A folder, an id or ``default``; None where the vectors come from something else."""
        ...
