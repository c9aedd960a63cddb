"""The vectors of items: ID vectors in a table of bounded size, texts beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from zhiyin.domain import BoolArray, FloatArray, LongArray
from zhiyin.sources.eight_bits import EightBits
from zhiyin.sources.sequence.network import ID_SCALE

MOST_ID_ROWS = 1_000_000
"""Rows of a table of ID vectors where nobody says how many."""
OWN_SHARE = 0.5
"""Share of the rows that belong to one item each, where there are more items than rows."""
ROUNDED_ABOVE = 100_000
"""Texts of larger catalogues are kept in eight bits."""
ITEMS_AT_ONCE = 32_768
"""Items whose vectors are made at once where all of them are needed one after the other."""
_FACTORS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F)
"""Odd numbers of 64 bits, far apart: 2⁶⁴ divided by the golden ratio, and a prime."""


class IdTable(nn.Module):
    """An ID vector for each of I items, out of a table of at most R rows.

    Up to R items have a row each. Of more, the most frequent have rows of their own, and each of the others
    is the sum of two rows that it shares with others, found by two hash functions: two items rarely share
    both (Svenstrup, Hansen and Winther, "Hash Embeddings for Efficient Word Representations", 2017, without
    their weights of the rows). So parameters, gradients and what the optimiser remembers are bounded.

    Args:
        counts: (I,) int64, events of each item.
        n_rows: R.
        dimension: D.
    """

    places: Tensor | None

    def __init__(self, counts: LongArray, n_rows: int, dimension: int) -> None:
        super().__init__()
        self.n_items = len(counts)
        self.rows = nn.Parameter(torch.randn(min(n_rows, len(counts)), dimension) * ID_SCALE)
        places = None if n_rows >= len(counts) else torch.from_numpy(shared_places(counts, n_rows))
        self.register_buffer("places", places, persistent=False)

    def forward(self, items: Tensor | None = None) -> Tensor:
        """Return the (I, D) ID vectors of all items, or of (N,) given ones."""
        if self.places is None:
            return self.rows if items is None else functional.embedding(items, self.rows)
        first, second = self.places if items is None else self.places[:, items]
        shared = functional.embedding(second.clamp_min(0), self.rows)
        summed: Tensor = functional.embedding(first, self.rows) + shared * (second >= 0)[:, None]
        return summed


def shared_places(counts: LongArray, n_rows: int) -> npt.NDArray[np.int32]:
    """Say which rows the vector of an item is the sum of.

    Returns:
        (2, I) int32; the second is -1 where the first is the item's own.
    """
    n_own = int(n_rows * OWN_SHARE)
    n_shared = np.uint64(n_rows - n_own)
    item = np.arange(len(counts), dtype=np.uint64)
    places = np.empty((2, len(counts)), dtype=np.int32)
    for place, factor in zip(places, _FACTORS, strict=True):
        high = (item * np.uint64(factor)) >> np.uint64(32)
        place[:] = n_own + ((high * n_shared) >> np.uint64(32)).astype(np.int32)
    own = np.argsort(-counts, kind="stable")[:n_own]
    places[0, own] = np.arange(len(own))
    places[1, own] = -1
    return places


class TextTable(nn.Module):
    """Whitened texts of I items, in float32, or in eight bits where they are many.

    Args:
        numbers: (I, K) float32, or int8.
        scale: (I,) float32, what a 1 of int8 stands for; None with float32.
    """

    scale: Tensor | None
    numbers: Tensor

    def __init__(self, numbers: Tensor, scale: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("numbers", numbers, persistent=False)
        self.register_buffer("scale", scale, persistent=False)

    @classmethod
    def of(cls, portions: Iterable[FloatArray], n_items: int) -> TextTable:
        """Take in the (…, K) float32 texts of ``n_items`` items, portion by portion."""
        if n_items <= ROUNDED_ABOVE:
            return cls(torch.from_numpy(np.concatenate(list(portions))))
        numbers, scale = torch.empty(n_items, 0, dtype=torch.int8), torch.empty(n_items)
        start = 0
        for portion in portions:
            if not numbers.shape[1]:
                numbers = torch.empty(n_items, portion.shape[1], dtype=torch.int8)
            rounded, part = EightBits.of(portion), slice(start, start + len(portion))
            numbers[part], scale[part] = torch.from_numpy(rounded.numbers), torch.from_numpy(rounded.scale)
            start += len(portion)
        return cls(numbers, scale)

    def forward(self, items: Tensor | None = None) -> Tensor:
        """Return the (I, K) float32 texts of all items, or of (N,) given ones."""
        numbers = self.numbers if items is None else self.numbers.index_select(0, items)
        if self.scale is None:
            return numbers
        return numbers.float() * (self.scale if items is None else self.scale[items])[:, None]

    @property
    def has_text(self) -> BoolArray:
        """(I,) bool: False for rows of zeros."""
        if self.scale is not None:
            return np.asarray((self.scale > 0).cpu().numpy())
        return np.asarray((self.numbers != 0).any(dim=1).cpu().numpy())

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """Return what tells these texts from others."""
        scale = {} if self.scale is None else {"text_scale": self.scale.cpu().numpy()}
        return {"texts": self.numbers.cpu().numpy(), **scale}


class ItemVectors(nn.Module):
    """The vector of an item, the same for input and output: its ID vector plus its projected text.

    Args:
        ids: ID vectors.
        texts: Of the same items, or None where no item has a text.
    """

    def __init__(self, ids: IdTable, texts: TextTable | None) -> None:
        super().__init__()
        self.ids, self.texts = ids, texts
        self.projection: nn.Linear | None = None
        if texts is not None:
            dimension = ids.rows.shape[1]
            self.projection = nn.Linear(texts.numbers.shape[1], dimension, bias=False)
            nn.init.normal_(self.projection.weight, std=dimension**-0.5)

    def __len__(self) -> int:
        return self.ids.n_items

    def forward(self, items: Tensor | None = None) -> Tensor:
        """Return the (I, D) vectors of all items, or of (N,) given ones."""
        of_text = self.of_text(items)
        vectors: Tensor = self.ids(items)
        return vectors if of_text is None else vectors + of_text

    def of_text(self, items: Tensor | None = None) -> Tensor | None:
        """Return the (I, D) projected texts of all items, or of (N,) given ones; None without texts."""
        if self.projection is None or self.texts is None:
            return None
        projected: Tensor = self.projection(self.texts(items))
        return projected

    def portions(self) -> Iterator[Tensor]:
        """Yield (N,) int64 runs of items, few enough for their vectors to be made at once."""
        device = self.ids.rows.device
        for start in range(0, len(self), ITEMS_AT_ONCE):
            yield torch.arange(start, min(start + ITEMS_AT_ONCE, len(self)), device=device)
