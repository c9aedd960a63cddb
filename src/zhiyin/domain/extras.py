"""Packages that are imported when they are needed: not everybody has them, and some are large."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from zhiyin.domain.errors import MissingExtra


@contextmanager
def from_extra(extra: str) -> Iterator[None]:
    """Around an import: say how to install what is missing.

    Args:
        extra: Of this package, to which what is imported belongs.

    Raises:
        MissingExtra: when a package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtra((error.name or extra).partition(".")[0], extra) from None
