"""Settings of the sequence transformer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from zhiyin.contracts import AnyOf, Between, Config, SearchRange
from zhiyin.training.settings import TrainingSettings

NARROW, WIDE = 64, 128
"""Lengths of vectors to choose between."""
DropoutShare = Annotated[float, Field(ge=0.0, lt=1.0)]


class SequenceTransformerConfig(Config):
    """Settings of `SequenceTransformer`; ``auto`` is derived from the training data."""

    dimension: PositiveInt | Literal["auto"] = "auto"
    """Length of item vectors and hidden states; ``auto`` takes 64, and 128 where items have many events."""
    n_blocks: PositiveInt = 4
    """Transformer blocks."""
    n_heads: PositiveInt = 2
    """Attention heads; they must divide the dimension."""
    dropout: DropoutShare | Literal["auto"] = "auto"
    """Share of activations set to zero while training; ``auto`` takes more where items have few events."""
    max_length: Annotated[int, Field(ge=1, le=1_000)] | Literal["auto"] = "auto"
    """Newest events of a history that are read; ``auto`` takes 50 to 200, so that 95 % of histories fit."""
    n_negatives: NonNegativeInt | Literal["auto"] = "auto"
    """Negatives of the sampled softmax; 0 sums over the catalogue, ``auto`` does so up to 100,000 items."""
    n_id_rows: PositiveInt | Literal["auto"] = "auto"
    """Rows of ID vectors; where items are more, the rarer ones share rows. ``auto`` allows 1,000,000."""
    use_text: bool = True
    """Add the projected text of an item to its ID vector; without it new items cannot be served well."""
    use_gaps: bool = True
    """Read how much time passes between events and until the request; few published rows do."""
    learns_repeats: bool | Literal["auto"] = "auto"
    """Learn whether an item comes again; otherwise what came competes only with what the history lacks.
    ``auto`` learns it but where there are no repeats and histories hold much of what people take. Where
    negatives are drawn, or the catalogue has an index, it is learned whatever stands here."""
    index_above: PositiveInt = 100_000
    """Catalogues of more items are searched through an approximate index, which needs usearch."""
    training: TrainingSettings = TrainingSettings()
    """Settings of the training loop."""

    search_space: ClassVar[Mapping[str, SearchRange]] = {
        "dimension": AnyOf((32, 64, 128, 192)),
        "n_blocks": Between(2, 6),
        "dropout": Between(0.1, 0.6),
        "training.learning_rate": Between(3e-4, 5e-3, by_ratio=True),
    }
