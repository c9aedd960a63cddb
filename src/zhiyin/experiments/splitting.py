"""Protocols by name."""

from __future__ import annotations

from collections.abc import Callable

from zhiyin.data.dataset import Dataset
from zhiyin.data.splits import Split, by_time, by_user, cold_items, cold_users, leave_last_out
from zhiyin.domain.errors import RequestError, did_you_mean

LEAVE_LAST_OUT = "leave-last-out"
COLD_ITEMS = "cold-items"
COLD_USERS = "cold-users"

_OF_LAST_ITEMS = {LEAVE_LAST_OUT: leave_last_out, COLD_ITEMS: cold_items}
"""Those whose targets are the last items of each user, repeats among them when asked for."""
_OTHERS: dict[str, Callable[[Dataset], Split]] = {
    "by-time": by_time,
    "by-user": by_user,
    COLD_USERS: cold_users,
}
PROTOCOLS = (*_OF_LAST_ITEMS, *_OTHERS)
"""Names on the command line."""


def refuse_unknown_protocol(protocol: str) -> None:
    """Raise when there is no such protocol; before long work begins.

    Raises:
        RequestError: with what there is.
    """
    if protocol not in PROTOCOLS:
        raise RequestError(
            f"There is no protocol '{protocol}'.{did_you_mean(protocol, PROTOCOLS)}",
            possible=f"The protocols are: {', '.join(PROTOCOLS)}.",
        )


def split_by(protocol: str, dataset: Dataset, *, repeat: bool = False) -> Split:
    """Divide a dataset.

    Args:
        protocol: One of `PROTOCOLS`.
        dataset: Everything.
        repeat: Whether items that a user already has count as targets; leave-last-out and cold-items only,
            the other protocols take every event.

    Raises:
        RequestError: when there is no such protocol, or nothing is left to test on.
    """
    refuse_unknown_protocol(protocol)
    split = divided(protocol, dataset, repeat=repeat)
    if len(split.test) == 0:
        raise RequestError(
            f"'{protocol}' leaves nothing to test on in '{dataset.name}': {dataset.n_users} users, "
            f"{dataset.n_interactions} interactions.",
            remedy="It takes users who met at least three different items. Bring a longer log; `zhiyin train`"
            " learns from what there is.",
        )
    return split


def divided(protocol: str, dataset: Dataset, *, repeat: bool = False) -> Split:
    """Divide a dataset as `split_by` does, even where that leaves nothing to test on."""
    if protocol in _OF_LAST_ITEMS:
        return _OF_LAST_ITEMS[protocol](dataset, repeat=repeat)
    return _OTHERS[protocol](dataset)
