"""How much time lies between an event and the next: what follows at once is not what follows after a year."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

from zhiyin.domain import NO_TIMESTAMP, Histories, LongArray

N_GAPS = 64
"""Kinds of gaps: two for each doubling of the seconds, up to some 50 years, and one that is not known."""
UNKNOWN_GAP = N_GAPS - 1
HIDDEN_SHARE = 0.1
"""Part of the gaps that training does not see, so that a request without times is no surprise."""

GapArray = npt.NDArray[np.int8]


def gap_kinds(before: LongArray, after: LongArray) -> GapArray:
    """Return (n,) int8 from 0 to `UNKNOWN_GAP`: the floor of ``2 log2(1 + seconds)``.

    Args:
        before: (n,) int64 UTC seconds, or `NO_TIMESTAMP`.
        after: (n,) int64; what lies before ``before`` counts as the same moment.
    """
    is_known = (before != NO_TIMESTAMP) & (after != NO_TIMESTAMP)
    seconds = np.where(is_known, np.maximum(after - before, 0), 0).astype(np.float64)
    kinds = np.minimum(2.0 * np.log2(1.0 + seconds), UNKNOWN_GAP - 1)
    return np.where(is_known, kinds, UNKNOWN_GAP).astype(np.int8)


def gaps_of_events(histories: Histories) -> GapArray:
    """Return (T,) int8: from each event to the next of its history; unknown after the newest."""
    after = np.append(histories.timestamp[1:], NO_TIMESTAMP)
    after[histories.offsets[1:][histories.lengths > 0] - 1] = NO_TIMESTAMP
    return gap_kinds(histories.timestamp, after)


def gaps_until(histories: Histories, requested: LongArray) -> GapArray:
    """Return (T,) int8: from each event to the next of its history, and from the newest to the request.

    Args:
        histories: B, none of them empty.
        requested: (B,) int64 UTC seconds; `NO_TIMESTAMP` means now.
    """
    after = np.append(histories.timestamp[1:], NO_TIMESTAMP)
    after[histories.offsets[1:] - 1] = np.where(requested == NO_TIMESTAMP, int(time.time()), requested)
    return gap_kinds(histories.timestamp, after)


def some_hidden(gaps: GapArray, random: np.random.Generator) -> GapArray:
    """Return the gaps with a random tenth of them unknown."""
    hidden: GapArray = np.where(random.random(len(gaps)) < HIDDEN_SHARE, np.int8(UNKNOWN_GAP), gaps)
    return hidden
