"""Words hidden from a model that shall guess them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zhiyin.language.pretraining.packing import TokenArray

NOT_ASKED = -100
"""Label of a token that is not asked for; torch's cross-entropy passes it over."""


@dataclass(frozen=True)
class Mask:
    """How words are hidden: of those chosen, 80 % become the mask, 10 % any word, 10 % stay.

    Devlin et al., "BERT", 2019, section 3.1.

    Attributes:
        share: Of the tokens that are asked for.
        token: The mask's.
        n_tokens: Of the vocabulary.
        special: Tokens that are never hidden and never put in.
    """

    share: float
    token: int
    n_tokens: int
    special: npt.NDArray[np.int64]

    def hide(self, tokens: TokenArray, random: np.random.Generator) -> tuple[TokenArray, TokenArray]:
        """Return (N, L) int64 what the model sees, and labels, `NOT_ASKED` where nothing is asked."""
        is_word = ~np.isin(tokens, self.special)
        is_asked = is_word & (random.random(tokens.shape) < self.share)
        if not is_asked.any() and is_word.any():  # a tiny batch still teaches something
            is_asked.flat[random.choice(np.flatnonzero(is_word))] = True
        kind = random.random(tokens.shape)
        words = np.setdiff1d(np.arange(self.n_tokens), self.special)
        seen = np.where(is_asked & (kind < 0.8), self.token, tokens)
        is_swapped = is_asked & (kind >= 0.8) & (kind < 0.9)
        seen = np.where(is_swapped, random.choice(words, tokens.shape), seen)
        return seen, np.where(is_asked, tokens, NOT_ASKED)
