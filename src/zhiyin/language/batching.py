"""Which texts an encoder reads together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from zhiyin.domain import LongArray

TOKENS_PER_BATCH = 2048
"""Larger batches gain nothing on a CPU and leave its caches."""
_TOKENS_WORTH_A_BATCH = 1024
_LEAST_FILLED = 0.9


def batches_by_length(lengths: LongArray, tokens_per_batch: int = TOKENS_PER_BATCH) -> list[LongArray]:
    """Divide texts into batches of nearly equal length, the longest first.

    A batch holds at most ``tokens_per_batch`` tokens, padding included (one text alone may be longer). Texts
    shorter than nine tenths of its longest wait for the next batch, unless that would leave a batch too
    small to be worth the call.

    Args:
        lengths: (n,) int64, tokens of each text, at least 1.
        tokens_per_batch: The budget.

    Returns:
        Arrays of row numbers; each row in exactly one of them.
    """
    order = np.argsort(-lengths, kind="stable")
    falling = -lengths[order]
    batches = []
    start = 0
    while start < len(order):
        longest = -int(falling[start])
        n_affordable = max(1, tokens_per_batch // longest)
        n_worthwhile = min(n_affordable, max(1, _TOKENS_WORTH_A_BATCH // longest))
        n_alike = int(np.searchsorted(falling, -_LEAST_FILLED * longest, side="right")) - start
        stop = start + max(n_worthwhile, min(n_affordable, n_alike))
        batches.append(order[start:stop])
        start = stop
    return batches


def padded_tokens(
    tokens: Sequence[Sequence[int]], padding: int, *, on_left: bool = False
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return (n, longest) int64 token ids, and 1 where there is a token, 0 where padding.

    Args:
        tokens: n texts, each at least one token.
        padding: Token that fills up.
        on_left: Whether it stands before the text.
    """
    lengths = np.array([len(row) for row in tokens], dtype=np.int64)
    longest = int(lengths.max())
    column = np.arange(longest)
    is_token = column >= longest - lengths[:, None] if on_left else column < lengths[:, None]
    token_ids = np.full(is_token.shape, padding, dtype=np.int64)
    token_ids[is_token] = np.concatenate([np.asarray(row, dtype=np.int64) for row in tokens])
    return token_ids, is_token.astype(np.int64)
