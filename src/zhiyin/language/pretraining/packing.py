"""Documents laid end to end in blocks of equal length, so that no step is spent on padding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

TokenArray = npt.NDArray[np.int64]


def packed(
    documents: Sequence[Sequence[int]],
    length: int,
    *,
    first: int | None,
    after: int,
) -> TokenArray:
    """Return (N, L) int64 blocks of documents, each document followed by one separator.

    A document that does not fit goes on in the next block (Liu et al., "RoBERTa", 2019, FULL-SENTENCES);
    the rest of the last block is filled from the beginning again, so that every token is read.

    Args:
        documents: Token ids without special tokens.
        length: L.
        first: Token that begins every block, such as ``[CLS]``; None where there is none.
        after: Token behind every document.
    """
    stream = np.concatenate([np.append(np.asarray(part, dtype=np.int64), after) for part in documents])
    inside = length - (first is not None)
    n_blocks = -(-len(stream) // inside)
    blocks = np.resize(stream, (n_blocks, inside))
    if first is None:
        return blocks
    return np.concatenate([np.full((n_blocks, 1), first, dtype=np.int64), blocks], axis=1)
