"""A language model opened for training, and written down again as anybody can load it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zhiyin.domain.errors import ConfigError
from zhiyin.language.model_files import ModelFolder
from zhiyin.stores.whole_folder import whole_folder


def run_sentences(sentences: Any, features: dict[str, Any]) -> Tensor:
    """Run the modules of a sentence encoder as they are.

    Args:
        sentences: The encoder.
        features: ``input_ids`` and ``attention_mask``, or what its first module reads.

    Returns:
        (n, D) float32, of whatever length.
    """
    for part in sentences:
        features = part(features)
    pooled: Tensor = features["sentence_embedding"].float()
    return pooled


@contextmanager
def computing_again(network: Any, *, wanted: bool) -> Iterator[None]:
    """Let a network of Hugging Face compute inner states again for the backward pass, not keep them."""
    if not wanted:
        yield
        return
    # Older versions of transformers know the switch by its former name alone.
    switch = "activation" if hasattr(network, "activation_checkpointing_enable") else "gradient"
    # The other kind needs inputs with gradients, which frozen ones do not have.
    getattr(network, f"{switch}_checkpointing_enable")({"use_reentrant": False})
    try:
        yield
    finally:
        getattr(network, f"{switch}_checkpointing_disable")()


@dataclass(frozen=True, eq=False)
class OpenedModel:
    """A network with its tokenizer.

    Attributes:
        folder: Where it came from.
        network: What turns tokens into inner states; shared by all objectives.
        tokenizer: Of Hugging Face.
        sentences: The sentence encoder around the network; None for a decoder.
        causal: The decoder with its head; None for an encoder.
    """

    folder: ModelFolder
    network: nn.Module
    tokenizer: Any
    sentences: Any
    causal: Any

    @property
    def is_decoder(self) -> bool:
        """Whether it foretells the next token."""
        return self.causal is not None

    @property
    def was_sentence_encoder(self) -> bool:
        """Whether the folder said how tokens become one vector."""
        return (self.folder.folder / "modules.json").is_file()

    @property
    def most_tokens(self) -> int:
        """Tokens that the network can read at once."""
        config: Any = self.network.config
        most = getattr(config, "max_position_embeddings", None) or 512
        return int(most) - (2 if getattr(config, "model_type", "") in {"roberta", "xlm-roberta"} else 0)


def open_model(model: ModelFolder) -> OpenedModel:
    """Load a base model in float32.

    Raises:
        ConfigError: when the folder's model cannot be loaded.
    """
    from transformers import (  # noqa: PLC0415 - optional extra
        AutoConfig,
        AutoModelForCausalLM,
        AutoTokenizer,
    )
    from transformers.utils import logging  # noqa: PLC0415 - optional extra

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        if _is_decoder(AutoConfig.from_pretrained(str(network_folder(model.folder)))):
            causal = AutoModelForCausalLM.from_pretrained(str(model.folder), dtype=torch.float32)
            tokenizer = AutoTokenizer.from_pretrained(str(model.folder))
            if tokenizer.pad_token is None:
                tokenizer.pad_token = tokenizer.eos_token
            return OpenedModel(model, causal.base_model, tokenizer, None, causal)
        return _open_encoder(model)
    except Exception as error:  # a damaged folder can fail in any layer below
        raise ConfigError(
            f"The model '{model.name}' in '{model.folder}' cannot be loaded: {error}",
            remedy="Download it again, or give another model.",
        ) from error


def save_model(opened: OpenedModel, folder: Path, card: str) -> None:
    """Write the model where it appears whole or not at all, with its card as ``README.md``.

    Raises:
        ConfigError: when the folder holds something else.
    """
    refuse_full_folder(folder)
    with whole_folder(folder) as draft:
        if opened.causal is not None:
            opened.causal.save_pretrained(draft)
            opened.tokenizer.save_pretrained(draft)
        else:
            opened.sentences.save_pretrained(str(draft), create_model_card=False)
        (draft / "README.md").write_text(card, encoding="utf-8")


def refuse_full_folder(folder: Path) -> None:
    """Refuse to write over anything that is not a language model.

    Raises:
        ConfigError: when there is something else.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not _is_model(folder)):
        raise ConfigError(
            f"{folder} holds something that is no language model; it would be written over.",
            remedy="Choose another place for --out; nothing was changed.",
        )


def _is_model(folder: Path) -> bool:
    return (folder / "config.json").is_file() or (folder / "modules.json").is_file()


def _open_encoder(model: ModelFolder) -> OpenedModel:
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - optional extra

    sentences: Any = SentenceTransformer(str(model.folder), device="cpu", local_files_only=True)
    network = sentences[0].auto_model.float()
    return OpenedModel(model, network, sentences.tokenizer, sentences, None)


def network_folder(folder: Path) -> Path:
    """Older sentence encoders keep the transformer in a folder of its own."""
    inner = folder / "0_Transformer"
    return inner if not (folder / "config.json").is_file() and inner.is_dir() else folder


def _is_decoder(config: Any) -> bool:
    architectures = " ".join(getattr(config, "architectures", None) or [])
    return "CausalLM" in architectures or "LMHead" in architectures or bool(config.is_decoder)
