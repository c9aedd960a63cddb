"""Protocols by name."""

from __future__ import annotations

from collections.abc import Callable

from zhiyin.data.dataset import Dataset
from zhiyin.data.splits import Split, leave_last_out
from zhiyin.domain.errors import RequestError, did_you_mean

PROTOCOLS: dict[str, Callable[[Dataset], Split]] = {"leave-last-out": leave_last_out}
"""Name on the command line → how a dataset is divided."""


def split_by(protocol: str, dataset: Dataset) -> Split:
    """Divide a dataset.

    Raises:
        RequestError: when there is no such protocol, or nothing is left to test on.
    """
    if protocol not in PROTOCOLS:
        raise RequestError(
            f"There is no protocol '{protocol}'.{did_you_mean(protocol, PROTOCOLS)}",
            possible=f"The protocols are: {', '.join(PROTOCOLS)}.",
        )
    split = PROTOCOLS[protocol](dataset)
    if len(split.test) == 0:
        raise RequestError(
            f"'{protocol}' leaves nothing to test on: {dataset.n_users} users have "
            f"{dataset.n_interactions} interactions, and none of them has three or more.",
            remedy="Bring a log in which at least some users did three things.",
        )
    return split
