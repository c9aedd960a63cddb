"""Words that differ a little each time a row is read, so that a model does not learn them by heart."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zhiyin.language.finetuning.wording import Tokens, Wording
from zhiyin.language.token_dropout import TokenDropout

VERSIONS = 3
"""Other wordings of the catalogue that are read beside its own, where texts are rewritten."""

Random = np.random.Generator


@dataclass(frozen=True, eq=False)
class VariedWording:
    """Several wordings of one catalogue, of which each batch is read in one.

    Attributes:
        wordings: The catalogue's own first.
        dropout: Leaves words out; None leaves them in.
    """

    wordings: tuple[Wording, ...]
    dropout: TokenDropout | None = None

    def one(self, random: Random | None) -> Wording:
        """Return a wording drawn for a batch; the catalogue's own where nothing is random."""
        if random is None or len(self.wordings) == 1:
            return self.wordings[0]
        return self.wordings[int(random.integers(len(self.wordings)))]

    def vary(self, tokens: list[Tokens], random: Random | None) -> list[Tokens]:
        """Leave words out of rows of tokens; nothing where nothing is random."""
        if random is None or self.dropout is None:
            return tokens
        return self.dropout(tokens, int(random.integers(2**31)))


def varied(wording: Wording | VariedWording) -> VariedWording:
    """Return a wording as one that does not vary."""
    return wording if isinstance(wording, VariedWording) else VariedWording((wording,))
