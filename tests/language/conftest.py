"""Tiny models that know the words of the shop of words."""

import pytest

from zhiyin.testing.tiny_models import save_bert, save_gpt2, save_llama
from zhiyin.testing.word_shop import WORDS

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@pytest.fixture(scope="session")
def shop_bert(tmp_path_factory):
    """An encoder without dropout, whose vectors of words are far apart."""
    folder = tmp_path_factory.mktemp("shop_bert")
    save_bert(WORDS, folder, initializer_range=0.3, max_position_embeddings=128, **NO_DROPOUT)
    return folder


@pytest.fixture(scope="session")
def shop_llama(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop_llama")
    save_llama(WORDS, folder, initializer_range=0.1)
    return folder


@pytest.fixture(scope="session")
def shop_gpt2(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shop_gpt2")
    save_gpt2(WORDS, folder, initializer_range=0.1, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    return folder
