"""Prompt tuning: trained vectors that a network reads before the text."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from zhiyin.domain.errors import ConfigError
from zhiyin.language.additions.layers import stack_of_layers
from zhiyin.language.additions.positions import by_name, counts_places, places

NAME = "prompt"
GAIN = 10.0
"""What trained vectors are multiplied with."""


class Prompt(nn.Module):
    """Vectors in the place of words (Lester et al., "The Power of Scale", 2021).

    They begin as words drawn from the vocabulary, which the authors found better than noise, and are kept at
    a tenth of their size: with the learning rate of low-rank maps they would hardly move otherwise.

    Args:
        n: Virtual tokens, P.
        words: What the network reads for each token, (V, D).
    """

    def __init__(self, n: int, words: nn.Embedding) -> None:
        super().__init__()
        drawn = torch.randint(words.num_embeddings, (n,)).to(words.weight.device)
        self.vectors = nn.Parameter(words(drawn).detach().float() / GAIN)


def add_prompt(network: nn.Module, n: int) -> None:
    """Let a network read trained vectors first; what it says of them is dropped from its answer.

    Args:
        network: Of Hugging Face, changed in place; it then reads n tokens less of a text at most.
        n: Virtual tokens, P.

    Raises:
        ConfigError: when the network takes no vectors instead of tokens.
    """
    stack_of_layers(network, type(network).__name__)
    takes = inspect.signature(network.forward).parameters
    if not {"input_ids", "attention_mask", "inputs_embeds"} <= takes.keys():
        raise ConfigError(
            f"'prompt' needs a network that reads vectors in the place of tokens; {type(network).__name__} "
            "does not.",
            remedy="Choose 'lora', which suits every transformer.",
        )
    words: Any = network.get_input_embeddings()  # type: ignore[operator]
    network.add_module(NAME, Prompt(n, words))
    network.register_forward_pre_hook(_with_prompt, with_kwargs=True)
    network.register_forward_hook(_without_prompt, with_kwargs=True)


def _with_prompt(
    network: Any, given: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    read = by_name(network, given, named)
    tokens, vectors = read.get("input_ids"), read.get("inputs_embeds")
    if vectors is None:
        vectors = network.get_input_embeddings()(tokens)
    prompt: Tensor = (GAIN * network.prompt.vectors).to(vectors.dtype).expand(len(vectors), -1, -1)
    n = prompt.shape[1]
    earlier = read.get("past_key_values")
    n_earlier = 0 if earlier is None else int(earlier.get_seq_length())
    mask = read.get("attention_mask")
    if mask is None:
        mask = vectors.new_ones(len(vectors), max(0, n_earlier - n) + vectors.shape[1], dtype=torch.long)
    read["attention_mask"] = mask = torch.cat([mask.new_ones(len(mask), n), mask], dim=1)
    if counts_places(network):
        read["position_ids"] = places(mask, vectors.shape[1] + (0 if n_earlier else n))
    if n_earlier:  # the prompt was read with the first words
        return (), read
    read["inputs_embeds"] = torch.cat([prompt, vectors], dim=1)
    read["input_ids"] = None
    kinds = read.get("token_type_ids")
    if kinds is not None:
        read["token_type_ids"] = torch.cat([kinds.new_zeros(len(kinds), n), kinds], dim=1)
    _refuse_too_long(network, vectors.shape[1], n)
    return (), read


def _without_prompt(network: Any, _given: tuple[Any, ...], named: dict[str, Any], answer: Any) -> Any:
    states: Tensor = answer.last_hidden_state
    if states.shape[1] != named["attention_mask"].shape[1]:
        return answer  # a word that continues a text: the prompt was read with the first
    n = len(network.prompt.vectors)
    answer.last_hidden_state = states[:, n:]
    if answer.get("hidden_states") is not None:
        answer.hidden_states = tuple(layer[:, n:] for layer in answer.hidden_states)
    if answer.get("pooler_output") is not None:
        answer.pooler_output = network.pooler(answer.last_hidden_state)
    return answer


def _refuse_too_long(network: nn.Module, n_tokens: int, n: int) -> None:
    """Say clearly what a table of positions would answer with an index out of range."""
    for name, part in network.named_modules():
        is_table = isinstance(part, nn.Embedding) and ("position" in name or name.endswith("wpe"))
        if not is_table:
            continue
        assert isinstance(part, nn.Embedding)
        most = part.num_embeddings - (0 if part.padding_idx is None else part.padding_idx + 1)
        if n_tokens + n > most:
            raise ConfigError(
                f"A text of {n_tokens} tokens and {n} virtual ones are more than the {most} that the network "
                "can read.",
                remedy="Cut texts earlier, lower virtual_tokens, or choose 'prefix', which takes no room.",
            )
