"""What a language model is trained for: each objective is a module that returns a loss, and its batches."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from zhiyin.language.batching import padded_tokens
from zhiyin.language.kept_states import LayersBelow
from zhiyin.language.pretraining.masking import NOT_ASKED, Mask
from zhiyin.language.pretraining.packing import TokenArray
from zhiyin.language.pretraining.reading_once import ReadOnce

_JUDGING = 0
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
                name: part.to(device) for name, part in self.batch(Draw(epoch=_JUDGING, rows=some)).items()
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


class PairObjective:
    """Texts that belong together near each other, all others of the batch away from them.

    ``-log exp(cos(a, b) / τ) / Σ_j exp(cos(a, b_j) / τ)`` over the batch, both ways round. A pair is one
    text read twice, which differs by dropout alone (Gao et al., "SimCSE", 2021), or two items that people
    took one after the other. Equal texts in a batch are no negatives of each other.

    Args:
        sentences: A sentence encoder whose modules are run as they are.
        texts: Token ids of the items' texts.
        pairs: (P, 2) int64 rows of ``texts``; a row with itself is read twice.
        temperature: τ.
        once: What lower layers said about the texts; None reads them whole each time.
    """

    metric = "pairs_found"
    """Share of the texts whose partner is the nearest of the batch."""
    texts_a_row = 2

    def __init__(
        self,
        sentences: Any,
        texts: Sequence[Sequence[int]],
        pairs: npt.NDArray[np.int64],
        temperature: float,
        once: ReadOnce | None = None,
    ) -> None:
        self.module: nn.Module = _Contrast(sentences, temperature, None if once is None else once.below)
        self._once = once
        self.n_rows = len(pairs)
        self._texts, self._pairs = texts, pairs
        self._padding = sentences.tokenizer.pad_token_id or 0

    def batch(self, draw: Draw) -> dict[str, Tensor]:
        """Return the tokens of both sides, the one under the other, and which text each is."""
        rows = self._pairs[draw.rows].T.reshape(-1)
        tokens = [self._texts[row] for row in rows.tolist()]
        ids, is_token = padded_tokens(tokens, self._padding)
        arrays = {"input_ids": ids, "attention_mask": is_token, "text": rows}
        batch = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
        return batch if self._once is None else {**batch, "states": self._once.of(rows)}

    def quality(self, rows: Sequence[npt.NDArray[np.int64]]) -> float:
        """Return the share of held-out texts whose partner is nearest among the pairs of their batch."""
        device = next(self.module.parameters()).device
        found, n = 0.0, 0
        for some in rows:
            batch = {name: part.to(device) for name, part in self.batch(Draw(_JUDGING, some)).items()}
            contrast = self.module
            assert isinstance(contrast, _Contrast)
            logits, right = contrast.compare(batch)
            found += float((logits.argmax(dim=1) == right).sum())
            n += len(right)
        return found / max(n, 1)

    def close(self) -> None:
        """Let layers that were skipped speak again."""
        if self._once is not None:
            self._once.close()


class _Contrast(nn.Module):
    def __init__(self, sentences: Any, temperature: float, below: LayersBelow | None) -> None:
        super().__init__()
        self.sentences, self.temperature, self._below = sentences, temperature, below

    def compare(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Return (B, B) logits of first sides against second sides, and (B,) which is right."""
        features: dict[str, Any] = {name: batch[name] for name in ("input_ids", "attention_mask")}
        with nullcontext() if self._below is None else self._below.given(batch["states"]):
            for part in self.sentences:
                features = part(features)
        vectors = functional.normalize(features["sentence_embedding"].float(), dim=-1)
        first, second = vectors.chunk(2)
        logits = first @ second.T / self.temperature
        of_first, of_second = batch["text"].chunk(2)
        right = torch.arange(len(first), device=logits.device)
        is_same = of_second[:, None] == of_second[None, :]
        is_same |= of_first[:, None] == of_second[None, :]
        is_same[right, right] = False
        return logits.masked_fill(is_same, -torch.inf), right

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        logits, right = self.compare(batch)
        both = functional.cross_entropy(logits, right) + functional.cross_entropy(logits.T, right)
        return both / 2
