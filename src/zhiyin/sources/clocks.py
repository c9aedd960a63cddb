"""Times of events that cannot be true."""

from __future__ import annotations

import time

import numpy as np

from zhiyin.domain import NO_TIMESTAMP, LongArray

_SHARE_BELIEVED = 0.999
"""Where more than the rest lies ahead, times are no dates, or the clock of this machine is wrong."""


def not_ahead(timestamp: LongArray, now: float | None = None) -> LongArray:
    """Return times of events, those that lie ahead set to the last moment that may be true.

    One event dated 2099 would make everything else look decades old. The last moment is the clock's, or that
    before which 99.9 % of the events lie, if it is later: then the times are a counter, or of a simulation.

    Args:
        timestamp: (T,) int64 UTC seconds, `NO_TIMESTAMP` where it is missing.
        now: The clock, UTC seconds; that of the machine when not given.

    Returns:
        (T,) int64; the same array where nothing lies ahead.
    """
    last = int(time.time() if now is None else now)
    if not len(timestamp) or timestamp.max() <= last:
        return timestamp
    known = timestamp[timestamp != NO_TIMESTAMP]
    believed = int(np.quantile(known, _SHARE_BELIEVED, method="lower"))
    return np.minimum(timestamp, max(last, believed))
