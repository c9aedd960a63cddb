"""What the two towers say of users and items, each text read once however many pairs it stands in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from zhiyin.contracts import Progress
from zhiyin.data.labelled import LabelledExamples
from zhiyin.domain import LongArray
from zhiyin.language.batching import batches_by_length, padded_tokens
from zhiyin.language.finetuning.network import TowerReader
from zhiyin.language.finetuning.wording import Tokens, Wording


class TowerVectors:
    """Reads the texts of one side at a time.

    Args:
        reader: What reads.
        wording: From rows and items to tokens.
        tokens_per_batch: Tokens of a batch.
        quick: Gives out the precision to read in.
    """

    def __init__(
        self,
        reader: TowerReader,
        wording: Wording,
        tokens_per_batch: int,
        quick: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self._reader, self._wording = reader, wording
        self._tokens_per_batch, self._quick = tokens_per_batch, quick

    def of_users(self, examples: LabelledExamples, progress: Progress) -> Tensor:
        """Return (N, D) float32 of length 1, on the reader's device, for the user of each row."""
        return self._read(
            lambda rows: self._wording.users(examples.take(rows)),
            self._wording.user_lengths(examples),
            "user",
            progress,
        )

    def of_items(self, item_index: npt.NDArray[np.integer], progress: Progress) -> Tensor:
        """Return (N, D) float32 of length 1, on the reader's device."""
        return self._read(
            lambda rows: self._wording.items(item_index[rows]),
            self._wording.item_lengths(item_index),
            "item",
            progress,
        )

    def _read(
        self,
        tokens_of: Callable[[LongArray], Sequence[Tokens]],
        lengths: LongArray,
        side: str,
        progress: Progress,
    ) -> Tensor:
        device = next(self._reader.parameters()).device
        batches = batches_by_length(lengths, self._tokens_per_batch)
        read = []
        with torch.inference_mode(), self._quick():
            for rows in progress.track(batches, f"reading {len(lengths):,} texts ({side}s)", len(batches)):
                ids, mask = padded_tokens(tokens_of(rows), self._wording.frame.padding)
                parts = {f"{side}_input_ids": ids, f"{side}_attention_mask": mask}
                batch = {name: torch.from_numpy(part).to(device) for name, part in parts.items()}
                read.append(self._reader.vectors(batch, side))
            order = np.argsort(np.concatenate(batches))
            return torch.cat(read)[torch.from_numpy(order).to(device)]
