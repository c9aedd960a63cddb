"""What makes training on a processor without a GPU cheaper."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from zhiyin.language.batching import batches_by_length, padded_tokens
from zhiyin.language.kept_states import KeptStates, LayersBelow, can_be_kept
from zhiyin.language.opened import OpenedModel
from zhiyin.language.parameters import stack_of_layers
from zhiyin.language.pretraining.settings import PretrainingConfig
from zhiyin.training.devices import accelerator_of
from zhiyin.training.settings import TrainingSettings


@contextmanager
def quick_attention(network: nn.Module, settings: TrainingSettings) -> Iterator[None]:
    """Let a network that trains on a CPU compute its attention step by step.

    The fused attention's backward pass takes there as long as all other parts together.
    """
    changing: Any = network
    before = getattr(changing.config, "_attn_implementation", None)
    if accelerator_of(settings.devices) != "cpu" or before != "sdpa":
        yield
        return
    changing.set_attn_implementation("eager")
    try:
        yield
    finally:
        changing.set_attn_implementation(before)


class ReadOnce:
    """What the layers that stay as they are say about each text, without dropout.

    Args:
        below: Those layers.
        states: What they said.
    """

    def __init__(self, below: LayersBelow, states: KeptStates) -> None:
        self.below, self._states = below, states

    def of(self, rows: npt.NDArray[np.int64]) -> Tensor:
        """Return the (n, T, D) states of some texts, T being the longest of them."""
        return self._states.padded(rows)

    def close(self) -> None:
        """Let the layers speak again."""
        self.below.close()


def read_once(
    opened: OpenedModel, texts: Sequence[Sequence[int]], config: PretrainingConfig, fabric: Fabric
) -> ReadOnce | None:
    """Read texts up to the layers that ``top`` trains.

    Args:
        opened: The model; its layers below are skipped from now on wherever states are given.
        texts: Tokens of n texts.
        config: How much is trained.
        fabric: Device and numbers.

    Returns:
        None where there is nothing that stays as it is, or too much to be kept.
    """
    network = opened.network
    if config.method.name != "top" or config.new_words:
        return None
    stack = list(stack_of_layers(network, opened.folder.name))
    n_below = len(stack) - config.method.top_layers
    lengths = np.array([len(tokens) for tokens in texts], dtype=np.int64)
    width = int(network.config.hidden_size)  # type: ignore[union-attr, arg-type]
    if n_below <= 0 or not can_be_kept(lengths, width):
        return None
    is_half = "16" in str(fabric._precision.precision)
    dtype = torch.bfloat16 if is_half else torch.float32
    states = KeptStates.empty(lengths, width, dtype)
    below = LayersBelow(stack, n_below)
    network.eval().to(fabric.device)
    for rows in batches_by_length(lengths):
        tokens = [texts[row] for row in rows.tolist()]
        ids, is_token = padded_tokens(tokens, opened.tokenizer.pad_token_id or 0)
        given = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(is_token)}
        with torch.inference_mode(), fabric.autocast(), below.only() as found:
            network(**{name: part.to(fabric.device) for name, part in given.items()})
        states.put(rows, found[0])
    return ReadOnce(below, states)
