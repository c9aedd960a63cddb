"""Which objectives a base model can be pre-trained on, and the head that guesses words."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from zhiyin.domain.errors import ConfigError
from zhiyin.language.opened import OpenedModel, network_folder
from zhiyin.language.pretraining.settings import Objective


def default_objectives(opened: OpenedModel) -> tuple[Objective, ...]:
    """Say what suits the model."""
    if opened.is_decoder:
        return ("causal",)
    return ("contrastive",) if opened.was_sentence_encoder else ("masked",)


def refuse_unfit(opened: OpenedModel, objectives: tuple[Objective, ...]) -> None:
    """Refuse objectives that the model cannot learn.

    Raises:
        ConfigError: when one does not fit.
    """
    unfit = [name for name in objectives if (name == "causal") != opened.is_decoder]
    if unfit:
        kind = "a decoder, which learns 'causal'" if opened.is_decoder else "an encoder, which learns "
        kind += "" if opened.is_decoder else "'masked', 'contrastive' and 'next_item'"
        raise ConfigError(
            f"The objective '{unfit[0]}' does not fit '{opened.folder.name}': it is {kind}.",
            remedy="Leave the objective out to take what fits, or choose another base model.",
        )


def masked_head(opened: OpenedModel) -> nn.Module:
    """Put a head that guesses words on the encoder; its output table is the encoder's own input table.

    A folder without such a head gets a new one, which learns along.
    """
    from transformers import AutoModelForMaskedLM  # noqa: PLC0415 - optional extra

    folder = network_folder(opened.folder.folder)
    network: Any = opened.network
    whole: Any = AutoModelForMaskedLM.from_pretrained(str(folder), dtype=torch.float32)
    n_tokens = network.get_input_embeddings().num_embeddings
    if whole.get_input_embeddings().num_embeddings != n_tokens:
        whole.resize_token_embeddings(n_tokens, mean_resizing=False)
    setattr(whole, whole.base_model_prefix, network)
    whole.tie_weights()
    head: nn.Module = whole
    return head
