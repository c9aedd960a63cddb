"""Packages that are imported when they are needed: not everybody has them, and some are large."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from zhiyin.domain.errors import MissingExtra


@contextmanager
def from_extra(extra: str, package: str = "") -> Iterator[None]:
    """Around an import: say how to install what is missing, or too old to have what is asked of it.

    Args:
        extra: Of this package, to which what is imported belongs.
        package: Named where the error does not say which one is missing.

    Raises:
        MissingExtra: when a package is not installed, or lacks something.
    """
    try:
        yield
    except ImportError as error:
        name = (error.name or package or extra).partition(".")[0]
        if name == "zhiyin":  # a mistake of our own, which no installation mends
            raise
        is_there = not isinstance(error, ModuleNotFoundError)
        why = f"cannot be used as it is ({error})" if is_there else "is not installed"
        raise MissingExtra(name, extra, why) from error
