"""Giving back memory that was freed, which the C library else keeps for what may come."""

from __future__ import annotations

import ctypes
import gc
import platform
import threading


def give_back_unused() -> bool:
    """Give the system back what was freed.

    Returns:
        Whether anything was given back; elsewhere than with glibc nothing happens.
    """
    library = glibc()
    return library is not None and bool(library.malloc_trim(0))


def free_all_unused() -> None:
    """Free what only circles of references hold, too, and give it back.

    Between the parts of a training this lowers the peak: a network and its optimizer refer to each other, and
    arrays of one part seldom fit into the holes that another one left. Looking for circles stops the whole
    interpreter for some tenths of a second, so a thread that trains beside others leaves them to Python.
    """
    if threading.current_thread() is threading.main_thread():
        gc.collect()
    give_back_unused()


def glibc() -> ctypes.CDLL | None:
    """Return the C library where it is glibc."""
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
