"""Giving back memory that was freed, which the C library else keeps for what may come."""

from __future__ import annotations

import ctypes
import platform


def give_back_unused() -> bool:
    """Give the system back what was freed.

    Between parts of a training this lowers the peak: arrays of one part seldom fit into the holes that
    another one left.

    Returns:
        Whether anything was given back; elsewhere than with glibc nothing happens.
    """
    library = glibc()
    return library is not None and bool(library.malloc_trim(0))


def glibc() -> ctypes.CDLL | None:
    """Return the C library where it is glibc."""
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
