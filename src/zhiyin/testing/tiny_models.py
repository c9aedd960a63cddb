"""Language models of a few thousand numbers that have learned nothing, for tests without a download."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def save_tokenizer(pieces: Iterable[str], folder: Path) -> int:
    """Write a tokenizer that knows these pieces of words, ``##`` before what goes on a word.

    Returns:
        How many tokens it has, the special ones included.
    """
    from tokenizers import (  # noqa: PLC0415 - optional extra
        Tokenizer,
        models,
        normalizers,
        pre_tokenizers,
        processors,
    )
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415 - optional extra

    rows = {piece: row for row, piece in enumerate([*_SPECIAL, *pieces])}
    tokenizer = Tokenizer(models.WordPiece(rows, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    around = [("[CLS]", rows["[CLS]"]), ("[SEP]", rows["[SEP]"])]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=around)
    names = {f"{token.strip('[]').lower()}_token": token for token in _SPECIAL}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    return len(rows)


def save_bert(pieces: Iterable[str], folder: Path, *, seed: int = 0, **sizes: Any) -> None:
    """Write a BERT with such a tokenizer; sizes are those of ``BertConfig``."""
    import torch  # noqa: PLC0415 - optional extra
    from transformers import BertConfig, BertModel  # noqa: PLC0415 - optional extra

    n_tokens = save_tokenizer(pieces, folder)
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        BertModel(BertConfig(vocab_size=n_tokens, **(small | sizes))).save_pretrained(folder)


def save_llama(pieces: Iterable[str], folder: Path, *, seed: int = 0, **sizes: Any) -> None:
    """Write a Llama with such a tokenizer; sizes are those of ``LlamaConfig``."""
    import torch  # noqa: PLC0415 - optional extra
    from transformers import LlamaConfig, LlamaForCausalLM  # noqa: PLC0415 - optional extra

    n_tokens = save_tokenizer(pieces, folder)
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    small |= {"intermediate_size": 64, "max_position_embeddings": 256}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        LlamaForCausalLM(LlamaConfig(vocab_size=n_tokens, **(small | sizes))).save_pretrained(folder)


def save_gpt2(pieces: Iterable[str], folder: Path, *, seed: int = 0, **sizes: Any) -> None:
    """Write a GPT-2 with such a tokenizer; sizes are those of ``GPT2Config``."""
    import torch  # noqa: PLC0415 - optional extra
    from transformers import GPT2Config, GPT2LMHeadModel  # noqa: PLC0415 - optional extra

    n_tokens = save_tokenizer(pieces, folder)
    small = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_inner": 64, "n_positions": 256}
    small |= {"bos_token_id": 2, "eos_token_id": 3}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        GPT2LMHeadModel(GPT2Config(vocab_size=n_tokens, **(small | sizes))).save_pretrained(folder)
