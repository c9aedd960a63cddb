"""Which bucket a user is in: the same in every process and after every restart."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from itertools import accumulate

N_BUCKETS = 10_000
"""Users are told apart this finely: a share is a multiple of 0.01 %."""
LAYER = "zhiyin layer"
"""Salt of the buckets that experiments divide among them."""


class Buckets:
    """Sends user ids into buckets, evenly, and independently of every other salt.

    Args:
        salt: A text; the same salt and user give the same bucket everywhere.
    """

    def __init__(self, salt: str) -> None:
        self._salted = blake2b(len(salt).to_bytes(4, "big") + salt.encode(), digest_size=8)

    def of(self, user_id: str) -> int:
        """Return the bucket of a user, 0 to `N_BUCKETS` - 1; about a microsecond."""
        digest = self._salted.copy()
        digest.update(user_id.encode("utf-8", "surrogatepass"))
        # 2^64 buckets of chance into 10,000: the unevenness is below 1e-15.
        return int.from_bytes(digest.digest(), "big") % N_BUCKETS


class ArmRanges:
    """Divides the buckets of one experiment among its arms, in one range each.

    A change of shares moves the borders of ranges, so that only users between an old and a new border change
    their arm.

    Args:
        shares: Arm → share, adding up to 1, in the order of the definition.
    """

    def __init__(self, shares: Mapping[str, float]) -> None:
        self.arms = tuple(shares)
        ends = [round(end * N_BUCKETS) for end in accumulate(shares.values())]
        self._ends = ends[:-1]

    def place(self, bucket: int) -> int:
        """Return which of `arms` a bucket belongs to."""
        return bisect_right(self._ends, bucket)


def free_buckets(taken: Iterable[tuple[int, int]], n_wanted: int) -> tuple[tuple[int, int], ...] | None:
    """Find buckets that no running experiment holds.

    Args:
        taken: Ranges (from, to) that are held.
        n_wanted: How many buckets are wanted.

    Returns:
        The first free ranges, lowest first; None when there are not enough.
    """
    found: list[tuple[int, int]] = []
    begin = 0
    for start, stop in [*sorted(taken), (N_BUCKETS, N_BUCKETS)]:
        size = min(start - begin, n_wanted)
        if size > 0:
            found.append((begin, begin + size))
            n_wanted -= size
        begin = max(begin, stop)
    return tuple(found) if n_wanted <= 0 else None


def n_free(taken: Iterable[tuple[int, int]]) -> int:
    """Count the buckets that no running experiment holds."""
    free, begin = 0, 0
    for start, stop in [*sorted(taken), (N_BUCKETS, N_BUCKETS)]:
        free += max(start - begin, 0)
        begin = max(begin, stop)
    return free
