"""Whole words left out of token ids."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiyin.domain.errors import ConfigError
from zhiyin.language.token_dropout import TokenDropout
from zhiyin.testing.tiny_models import save_tokenizer

SPECIAL, PLAIN, PIECES = (0, 1), (2, 3, 4, 5), (6, 7)
ROWS = st.lists(st.lists(st.integers(0, 7), max_size=12), min_size=1, max_size=8)


def dropout(share):
    goes_on, is_fixed = np.zeros((2, 8), dtype=np.bool_)
    goes_on[list(PIECES)], is_fixed[list(SPECIAL)] = True, True
    return TokenDropout(goes_on, is_fixed, share)


def words_of(row):
    """The slow way: a special token alone, or a token with the pieces after it."""
    words = []
    for place, token in enumerate(row):
        if token in PIECES and place and row[place - 1] not in SPECIAL:
            words[-1] = (*words[-1], token)
        else:
            words.append((token,))
    return words


@given(ROWS, st.floats(0, 0.99), st.integers(0, 1000))
def test_words_go_whole_specials_stay_and_one_word_too(rows, share, seed):
    found = dropout(share)(rows, seed)
    assert found == dropout(share)(rows, seed)
    for old, new in zip(rows, found, strict=True):
        assert [token for token in new if token in SPECIAL] == [token for token in old if token in SPECIAL]
        words, kept = words_of(old), words_of(new)
        rest = iter(words)
        assert all(word in rest for word in kept), "what is left is whole words in their order"
        has_words = any(word[0] not in SPECIAL for word in words)
        assert any(word[0] not in SPECIAL for word in kept) == has_words


def test_the_share_of_words_is_the_one_asked_for():
    rows = [[0, *np.random.default_rng(row).integers(2, 6, 60).tolist(), 1] for row in range(300)]
    found = dropout(0.3)(rows, 0)
    assert np.mean([len(row) - 2 for row in found]) == pytest.approx(42, abs=0.8)
    assert dropout(0.3)(rows, 1) != dropout(0.3)(rows, 2)
    assert dropout(0.0)(rows, 0) == rows
    assert dropout(0.3)([[], []], 0) == [[], []]
    assert dropout(0.3)([], 0) == []
    with pytest.raises(ConfigError, match=r"cannot be 1\.0"):
        dropout(1.0)


def test_a_wordpiece_tokenizer_says_what_goes_on(tmp_path):
    from transformers import AutoTokenizer

    save_tokenizer(["lo", "##tion", "red", "红", "色", ","], tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    kept_word = tokenizer.convert_tokens_to_ids("red")
    row = tokenizer("lotion red , 红 色")["input_ids"]
    texts = {
        " ".join(tokenizer.convert_ids_to_tokens(found)).replace(" ##", "")
        for seed in range(300)
        for found in TokenDropout.of(tokenizer, 0.5, fixed=[kept_word])([row], seed)
    }
    assert all("red" in text for text in texts)
    assert {"lotion" in text for text in texts} == {True, False}
    assert {"红" in text and "色" not in text for text in texts} == {True, False}
    assert not any(("tion" in text) != ("lo" in text) for text in texts)


class Vocabulary:
    """A tokenizer as far as it is asked."""

    all_special_ids = (0,)

    def __init__(self, pieces, readable=None):
        self.pieces, self.readable = ["</s>", *pieces], readable or {}

    def get_vocab(self):
        return {piece: row for row, piece in enumerate(self.pieces)}

    def convert_tokens_to_string(self, pieces):
        return "".join(self.readable.get(piece, piece) for piece in pieces)


@pytest.mark.parametrize(
    "vocabulary",
    [
        Vocabulary(["▁red", "▁lo", "tion", "红", "色"]),
        Vocabulary(["Ġred", "Ġlo", "tion", "çº¢", "èī²"], {"çº¢": "红", "èī²": "色"}),
    ],
)
def test_other_vocabularies_mark_where_words_begin(vocabulary):
    goes = TokenDropout.of(vocabulary, 0.5)
    seen = {tuple(goes([[1, 2, 3, 4, 5, 0]], seed)[0]) for seed in range(500)}
    words = [(1,), (2, 3), (4,), (5,)]
    expected = {
        (*(token for place, word in enumerate(words) if kept >> place & 1 for token in word), 0)
        for kept in range(1, 16)
    }
    assert seen == expected


def test_without_marks_every_token_is_a_word():
    goes = TokenDropout.of(Vocabulary(["a", "b"]), 0.5)
    assert {tuple(goes([[1, 2]], seed)[0]) for seed in range(60)} == {(1, 2), (1,), (2,)}
