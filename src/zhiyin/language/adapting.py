"""A sentence encoder that learns a little: low-rank adapters in its last layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zhiyin.contracts import Progress
from zhiyin.domain import LongArray
from zhiyin.domain.errors import ConfigError
from zhiyin.domain.extras import from_extra
from zhiyin.language.batching import batches_by_length
from zhiyin.language.encoder import Precision, SentenceEncoder
from zhiyin.language.kept_states import KeptStates, LayersBelow, can_be_kept
from zhiyin.language.model_files import ModelFolder
from zhiyin.language.parameters import stack_of_layers

if TYPE_CHECKING:
    import torch

_SCALE_OF_RANK = 2
"""The adapters' output counts twice (``lora_alpha`` is twice the rank), whatever the rank."""


@dataclass(frozen=True)
class AdapterShape:
    """Sizes of the adapters.

    Attributes:
        rank: Of each adapter.
        n_layers: Last layers that get adapters; all where there are fewer.
        max_tokens: Of a text that are read.
    """

    rank: int
    n_layers: int
    max_tokens: int


@dataclass(frozen=True, eq=False)
class Opened:
    """Texts read up to where the adapters begin, so that each training step has only the rest to do.

    Attributes:
        tokens: Token ids, one list a text.
        lengths: (n,) int64, tokens of each text.
        states: What the layers below the adapters say; None where that is too much.
    """

    tokens: list[list[int]]
    lengths: LongArray
    states: KeptStates | None


class AdaptedEncoder(SentenceEncoder):
    """Adds low-rank adapters (Hu et al., "LoRA", 2021) to every linear map of the last layers.

    The model itself stays as it is; adapters are a few hundred thousand numbers, drawn from torch's random
    numbers, and change nothing until they are trained. The layers below say the same about a text throughout
    training, so `open_texts` reads them once.

    Args:
        model: Where the encoder lies.
        shape: Sizes of the adapters.
        precision: See `load_encoder`.
        progress: Who listens while many texts are encoded.

    Raises:
        ConfigError: when the model has no stack of layers.
        MissingExtra: when peft is not installed.
    """

    def __init__(
        self,
        model: ModelFolder,
        shape: AdapterShape,
        *,
        precision: Precision = "auto",
        progress: Progress | None = None,
    ) -> None:
        super().__init__(model, precision=precision, progress=progress)
        self.name = f"{self.name} adapted"
        self._model.max_seq_length = min(self._model.max_seq_length or shape.max_tokens, shape.max_tokens)
        network = self._model[0].auto_model
        stack = stack_of_layers(network, model.name)
        self.n_below = max(0, len(stack) - shape.n_layers)
        self.parameters = _with_adapters(network, list(stack[self.n_below :]), shape.rank)
        self.is_half = next(network.parameters()).element_size() == 2
        self._below = LayersBelow(list(stack), self.n_below)
        # The fused attention's backward pass on a CPU takes twice the time of all other parts together.
        network.set_attn_implementation("eager")

    def open_texts(self, texts: Sequence[str]) -> Opened:
        """Read texts up to the adapters."""
        import torch  # noqa: PLC0415 - optional extra

        tokens = self._tokens(list(texts))
        lengths = np.array([len(row) for row in tokens], dtype=np.int64)
        width = self._model[0].auto_model.config.hidden_size
        if not self.n_below or not can_be_kept(lengths, width):
            return Opened(tokens, lengths, None)
        dtype = torch.bfloat16 if self.is_half else torch.float32
        kept = KeptStates.empty(lengths, width, dtype, on_left=self._model.tokenizer.padding_side == "left")
        batches = batches_by_length(lengths)
        for batch in self._progress.track(batches, f"reading {len(tokens):,} texts", len(batches)):
            with torch.inference_mode(), self._below.only() as found:
                self._read([tokens[row] for row in batch])
            kept.put(batch, found[0])
        return Opened(tokens, lengths, kept)

    def vectors(self, opened: Opened, rows: LongArray) -> torch.Tensor:
        """Return the (n, D) float32 vectors of some texts, each row of length 1, ready for gradients.

        Args:
            opened: What `open_texts` returned.
            rows: (n,) int64.
        """
        import torch  # noqa: PLC0415 - optional extra

        parts, places = [], []
        for batch in batches_by_length(opened.lengths[rows]):
            some = rows[batch]
            states = None if opened.states is None else opened.states.padded(some).to(self._model.device)
            with self._below.given(states):
                parts.append(self._read([opened.tokens[row] for row in some]))
            places.append(batch)
        order = torch.from_numpy(np.argsort(np.concatenate(places)))
        return torch.cat(parts)[order.to(parts[0].device)]

    def adapters(self) -> dict[str, npt.NDArray[np.generic]]:
        """Return the adapters as float32 arrays."""
        return {name: weight.detach().cpu().numpy().copy() for name, weight in self.parameters.items()}

    def take_adapters(self, arrays: Mapping[str, npt.NDArray[np.generic]]) -> None:
        """Take over what `adapters` returned.

        Raises:
            ConfigError: when they belong to another model or have another shape.
        """
        import torch  # noqa: PLC0415 - optional extra

        shapes = {name: tuple(weight.shape) for name, weight in self.parameters.items()}
        if {name: array.shape for name, array in arrays.items()} != shapes:
            raise ConfigError(
                f"The adapters do not fit the model '{self.name}'.",
                remedy="Name the model they were trained with, or train again.",
            )
        with torch.no_grad():
            for name, weight in self.parameters.items():
                weight.copy_(torch.from_numpy(np.array(arrays[name])))

    def _read(self, tokens: list[list[int]]) -> torch.Tensor:
        import torch  # noqa: PLC0415 - optional extra

        with torch.autocast(self._model.device.type, torch.bfloat16, enabled=self.is_half):
            return super()._read(tokens)


def _with_adapters(network: Any, layers: list[Any], rank: int) -> dict[str, torch.nn.Parameter]:
    """Put adapters into some layers of a network, freeze all else, and return their weights by name."""
    import torch  # noqa: PLC0415 - optional extra

    with from_extra("language"):
        from peft import LoraConfig, inject_adapter_in_model  # noqa: PLC0415 - optional extra
    network.requires_grad_(requires_grad=False)
    inside = {id(part) for layer in layers for part in layer.modules() if isinstance(part, torch.nn.Linear)}
    named = [name for name, part in network.named_modules() if id(part) in inside]
    inject_adapter_in_model(
        LoraConfig(r=rank, lora_alpha=_SCALE_OF_RANK * rank, lora_dropout=0.0, target_modules=named), network
    )
    for part in network.modules():
        # Autocast chooses the numbers of the products; without this all would be computed in float32.
        if hasattr(part, "cast_input_dtype_enabled"):
            part.cast_input_dtype_enabled = False
    trained = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
    for weight in trained.values():
        weight.data = weight.data.float()
    return trained
