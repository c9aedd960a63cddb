"""Keeping a process small that loads a model beside another one, again and again.

The C library gives threads memory areas of their own. What a bundle is made of is allocated by several
threads and stays for long, what lies between is freed, and with an area for each thread those holes are
seldom filled: a service that exchanged bundles every minute grew by 20 MiB a minute though no object was left
over. Few areas, and giving back what is unused after an exchange, keep it level.
"""

from __future__ import annotations

import threading

from zhiyin.domain.memory import give_back_unused, glibc

_M_ARENA_MAX = -8
"""Number of the setting in ``malloc.h`` of glibc."""
_N_AREAS = 2
_SECONDS_BETWEEN = 60.0


def keep_memory_together() -> bool:
    """Let all threads of the process share one memory area; call it before many threads run.

    Returns:
        Whether this platform can do that; elsewhere nothing happens.
    """
    library = glibc()
    return library is not None and bool(library.mallopt(_M_ARENA_MAX, _N_AREAS))


def give_back_regularly(stopping: threading.Event) -> None:
    """Give the system back each minute what was freed, until told to stop."""
    while not stopping.wait(_SECONDS_BETWEEN):
        give_back_unused()
