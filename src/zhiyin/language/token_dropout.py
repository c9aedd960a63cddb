"""Words left out of token ids, where texts are composed of parts that were tokenised once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from zhiyin.domain import BoolArray, LongArray
from zhiyin.domain.errors import ConfigError
from zhiyin.language.augmenting import HAN

_GOES_ON = "##"
"""What WordPiece writes before a piece that goes on a word."""
_BEGINS = ("▁", "Ġ")
"""What SentencePiece, and byte-level vocabularies, write before a piece that begins one."""
_HAN = re.compile(rf"[▁Ġ]?[{HAN}]")


class TokenDropout:
    """Leaves whole words out of rows of tokens.

    A word is a token with all that go on it. Chinese characters, and the marks of punctuation of WordPiece,
    are words of their own; in the other vocabularies punctuation goes with the word before it. Special tokens
    stay, so does at least one word of each row.

    Args:
        goes_on: (V,) bool, which tokens go on the word of the token before.
        is_fixed: (V,) bool, which tokens are never left out.
        share: Chance of each word to go, from 0 to below 1.
    """

    def __init__(self, goes_on: BoolArray, is_fixed: BoolArray, share: float) -> None:
        if not 0.0 <= share < 1.0:
            raise ConfigError(f"The share of words left out cannot be {share}.", possible="0 to below 1.")
        self.share = share
        self._goes_on, self._is_fixed = goes_on & ~is_fixed, is_fixed

    @classmethod
    def of(cls, tokenizer: Any, share: float, *, fixed: Iterable[int] = ()) -> TokenDropout:
        """Read from a tokenizer of Hugging Face which tokens are whole words.

        Args:
            tokenizer: WordPiece, SentencePiece or byte-level.
            share: Of the words left out.
            fixed: Tokens that stay, beside the special ones.
        """
        tokens = tokenizer.get_vocab()
        n_tokens = max(tokens.values(), default=-1) + 1
        goes_on, is_fixed = np.zeros((2, n_tokens), dtype=np.bool_)
        is_fixed[[token for token in (*tokenizer.all_special_ids, *fixed) if token < n_tokens]] = True
        mark = _mark_of(tokens)
        if mark:
            is_byte_level = mark == "Ġ"
            for piece, token in tokens.items():
                read = tokenizer.convert_tokens_to_string([piece]) if is_byte_level else piece
                is_begin = piece.startswith(mark) != (mark == _GOES_ON)
                goes_on[token] = not is_begin and not _HAN.match(read)
        return cls(goes_on, is_fixed, share)

    def __call__(self, rows: Sequence[Sequence[int]], seed: int | Sequence[int]) -> list[list[int]]:
        """Return the rows without some of their words.

        Args:
            rows: N rows of token ids below V, of any length.
            seed: The same rows and the same seed give the same again.

        Returns:
            N rows, none longer than before.
        """
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        if not self.share or not lengths.sum():
            return [list(row) for row in rows]
        flat = np.concatenate([np.asarray(row, dtype=np.int64) for row in rows])
        row_of = np.repeat(np.arange(len(rows)), lengths)
        stays = ~self._goes(flat, row_of, np.random.default_rng(seed))
        ends = np.cumsum(np.bincount(row_of[stays], minlength=len(rows))).tolist()
        kept = flat[stays].tolist()
        return [kept[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]

    def _goes(self, flat: LongArray, row_of: LongArray, random: np.random.Generator) -> BoolArray:
        """Return (L,) bool: which of all tokens of all rows are left out."""
        is_fixed = self._is_fixed[flat]
        begins = ~self._goes_on[flat]
        begins[0] = True
        begins[1:] |= (row_of[1:] != row_of[:-1]) | is_fixed[:-1]
        first = np.flatnonzero(begins)
        can_go, row_of_word = ~is_fixed[first], row_of[first]
        draws = np.where(can_go, random.random(len(first)), -1.0)
        # The word with the largest draw is the last that would go.
        largest = np.zeros(int(row_of[-1]) + 1)
        np.maximum.at(largest, row_of_word, draws)
        goes = can_go & (draws < self.share) & (draws < largest[row_of_word])
        return np.asarray(goes[np.cumsum(begins) - 1])


def _mark_of(tokens: Iterable[str]) -> str:
    """Return the mark that most tokens bear; empty when none does: each token is a word then."""
    counts = dict.fromkeys((_GOES_ON, *_BEGINS), 0)
    for piece in tokens:
        for mark in counts:
            counts[mark] += piece.startswith(mark) and len(piece) > len(mark)
    most = max(counts, key=counts.__getitem__)
    return most if counts[most] else ""
