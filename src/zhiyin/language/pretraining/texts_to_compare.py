"""The texts of a shop as objectives that compare them read them: whole, or as vectors with a map behind."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional

from zhiyin.domain import FloatArray
from zhiyin.language.batching import batches_by_length, padded_tokens
from zhiyin.language.opened import OpenedModel, run_sentences
from zhiyin.language.pretraining.reading_once import ReadOnce
from zhiyin.language.whitening import Whitening

FIRST_WHITENING = 0.5
"""Strength of the whitening that a map behind an encoder begins as."""
_ITEMS_PER_DIMENSION = 4
"""With fewer texts than this for each dimension, whitening would only push all texts apart."""


class Texts(Protocol):
    """The texts of a shop.

    Attributes:
        sentences: What is trained, and turns what `batch` returns into vectors.
    """

    sentences: Any

    def batch(self, rows: npt.NDArray[np.int64]) -> dict[str, Tensor]:
        """Return what `vectors` reads for some texts."""

    def vectors(self, batch: dict[str, Tensor]) -> Tensor:
        """Return (n, D) float32, each row of length 1."""

    def close(self) -> None:
        """Leave the network as it was found, but for what it learned."""


class TextsInTokens:
    """Texts that are read anew in each batch.

    Args:
        sentences: A sentence encoder whose modules are run as they are.
        tokens: Token ids of the texts.
        once: What lower layers said about the texts; None reads them whole each time.
    """

    def __init__(self, sentences: Any, tokens: Sequence[Sequence[int]], once: ReadOnce | None = None) -> None:
        self.sentences, self._tokens, self._once = sentences, tokens, once
        self._padding = sentences.tokenizer.pad_token_id or 0

    def batch(self, rows: npt.NDArray[np.int64]) -> dict[str, Tensor]:
        """Return token ids, and states where lower layers were read once."""
        batch = _padded([self._tokens[row] for row in rows.tolist()], self._padding)
        return batch if self._once is None else {**batch, "states": self._once.of(rows)}

    def vectors(self, batch: dict[str, Tensor]) -> Tensor:
        """Return (n, D) float32, each row of length 1."""
        features: dict[str, Any] = {name: batch[name] for name in ("input_ids", "attention_mask")}
        # Kept in bfloat16 to save room; the layers above take what autocast, if there is any, makes of it.
        with nullcontext() if self._once is None else self._once.below.given(batch["states"].float()):
            return functional.normalize(run_sentences(self.sentences, features), dim=-1)

    def close(self) -> None:
        """Let layers that were skipped speak again."""
        if self._once is not None:
            self._once.close()


class TextsInVectors:
    """Texts that an encoder which stays as it is has read once, with a linear map behind it that learns.

    Args:
        known: (n, D) float32.
        behind: The map.
    """

    def __init__(self, known: Tensor, behind: nn.Module) -> None:
        self.sentences = behind
        self._known = known

    def batch(self, rows: npt.NDArray[np.int64]) -> dict[str, Tensor]:
        """Return which texts; their vectors stay here, since what is handed over may lose digits."""
        return {"text": torch.from_numpy(rows)}

    def vectors(self, batch: dict[str, Tensor]) -> Tensor:
        """Return (n, D) float32, each row of length 1."""
        rows = batch["text"]
        self._known = self._known.to(rows.device)
        with torch.autocast(rows.device.type, enabled=False):
            mapped: Tensor = self.sentences({"sentence_embedding": self._known[rows]})["sentence_embedding"]
            return functional.normalize(mapped, dim=-1)

    def close(self) -> None:
        """Nothing was changed."""


def with_map_behind(opened: OpenedModel, tokens: Sequence[Sequence[int]], fabric: Fabric) -> TextsInVectors:
    """Read all texts once, and put a linear map behind the encoder, in place.

    It begins as half a whitening of the texts' vectors, ``x → (x - mean) P``, or as what changes nothing
    where there are too few texts for that. What comes out is scaled to length 1.

    Args:
        opened: A sentence encoder.
        tokens: Token ids of n texts.
        fabric: Device and numbers.
    """
    from sentence_transformers.sentence_transformer.modules import (  # noqa: PLC0415 - optional extra
        Dense,
        Normalize,
    )

    known = _read(opened, tokens, fabric)
    dimension = known.shape[1]
    weight, bias = np.eye(dimension, dtype=np.float32), np.zeros(dimension, dtype=np.float32)
    if len(known) >= _ITEMS_PER_DIMENSION * dimension:
        whitening = Whitening.fit(known, strength=FIRST_WHITENING)
        kept = whitening.projection.shape[1]
        scale = np.sqrt(kept) / np.linalg.norm(whitening.projection)
        weight[:] = 0.0
        weight[:kept] = whitening.projection.T * scale
        bias = -weight @ whitening.mean
    behind = Dense(
        dimension,
        dimension,
        activation_function=nn.Identity(),
        init_weight=torch.from_numpy(weight),
        init_bias=torch.from_numpy(bias),
    )
    opened.sentences.append(behind)
    opened.sentences.append(Normalize())
    return TextsInVectors(torch.from_numpy(known), behind)


def _read(opened: OpenedModel, tokens: Sequence[Sequence[int]], fabric: Fabric) -> FloatArray:
    sentences = opened.sentences.eval().to(fabric.device)
    padding = opened.tokenizer.pad_token_id or 0
    known: FloatArray | None = None
    for rows in batches_by_length(np.array([len(row) for row in tokens], dtype=np.int64)):
        features: dict[str, Any] = _padded([tokens[row] for row in rows.tolist()], padding)
        features = {name: part.to(fabric.device) for name, part in features.items()}
        with torch.no_grad(), fabric.autocast():
            found = functional.normalize(run_sentences(sentences, features), dim=-1).cpu().numpy()
        if known is None:
            known = np.empty((len(tokens), found.shape[1]), dtype=np.float32)
        known[rows] = found
    assert known is not None
    return known


def _padded(tokens: Sequence[Sequence[int]], padding: int) -> dict[str, Tensor]:
    ids, is_token = padded_tokens(tokens, padding)
    arrays = {"input_ids": ids, "attention_mask": is_token}
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
