"""Several processes that train one model together, started by ``torchrun``: the first speaks and writes."""

from __future__ import annotations

import os

from zhiyin.domain.errors import RequestError


def n_processes() -> int:
    """Return how many processes train together; 1 for one that was started by itself."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first_process() -> bool:
    """Whether this process speaks and writes for all."""
    return n_processes() == 1 or int(os.environ.get("RANK", "0")) == 0


def refuse_several_processes(what: str) -> None:
    """Raise where several processes would do the same work and write into the same files.

    Args:
        what: Such as ``zhiyin tune``.

    Raises:
        RequestError: when there is more than one process.
    """
    if n_processes() > 1:
        raise RequestError(
            f"{what} cannot be shared by {n_processes()} processes.", remedy="Start it without torchrun."
        )
