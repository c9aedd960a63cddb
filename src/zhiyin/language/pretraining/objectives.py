"""What a language model is trained for: each objective is a module that returns a loss, and its batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from zhiyin.language.pretraining.masking import NOT_ASKED, Mask
from zhiyin.language.pretraining.packing import TokenArray

JUDGING = 0
"""Epochs are counted from 1; the held-out texts are read with the draws of this one."""


@dataclass(frozen=True)
class Draw:
    """One batch: which rows, and what its random choices start from."""

    epoch: int
    rows: npt.NDArray[np.int64]


class Objective(Protocol):
    """What `zhiyin.language.pretraining.fitting` trains."""

    metric: str
    module: nn.Module
    n_rows: int
    texts_a_row: int

    def batch(self, draw: Draw) -> dict[str, Tensor]:
        """Return what the module reads for a draw."""

    def quality(self, rows: Sequence[npt.NDArray[np.int64]]) -> float:
        """Judge held-out rows, higher is better."""

    def close(self) -> None:
        """Leave the network as it was found, but for what it learned."""


class BlockObjective:
    """Masked or next words on packed blocks.

    Args:
        head: A network of Hugging Face that returns a loss for labels.
        blocks: (N, L) int64.
        mask: How words are hidden; None asks for the next token at every place.
        seed: Of what is hidden.
    """

    metric = "log_likelihood"
    """Mean logarithm of the chance given to the right token."""
    texts_a_row = 1

    def __init__(self, head: nn.Module, blocks: TokenArray, mask: Mask | None, seed: int) -> None:
        self.module: nn.Module = _Loss(head)
        self.n_rows = len(blocks)
        self._blocks, self._mask, self._seed = blocks, mask, seed

    def batch(self, draw: Draw) -> dict[str, Tensor]:
        """Return tokens and labels; the same draw hides the same words."""
        tokens = self._blocks[draw.rows]
        if self._mask is None:
            seen, labels = tokens, tokens
        else:
            random = np.random.default_rng([self._seed, draw.epoch, int(draw.rows[0])])
            seen, labels = self._mask.hide(tokens, random)
        arrays = {"input_ids": seen, "attention_mask": np.ones_like(seen), "labels": labels}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def quality(self, rows: Sequence[npt.NDArray[np.int64]]) -> float:
        """Return the mean log-likelihood over all asked tokens."""
        total, n_asked = 0.0, 0
        device = next(self.module.parameters()).device
        for some in rows:
            batch = {
                name: part.to(device) for name, part in self.batch(Draw(epoch=JUDGING, rows=some)).items()
            }
            n = int((batch["labels"][:, int(self._mask is None) :] != NOT_ASKED).sum())
            total -= float(self.module(batch)) * n
            n_asked += n
        return total / max(n_asked, 1)

    def close(self) -> None:
        """Nothing was changed."""


class _Loss(nn.Module):
    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        loss: Tensor = self.head(**batch).loss
        return loss
