"""What the garbage collector passes over in a service.

Otherwise it looks through a whole catalogue and all packages again and again, in the middle of requests.
"""

from __future__ import annotations

import gc
import sys

_COLLECT_AFTER = (50_000, 20, 50)
"""Objects made since the last look, and how many looks at the young before one at the older ones."""
_MODULES_WORTH_A_LOOK = 100
"""So many new modules are a large package, such as torch with the first bundle that needs it."""

_n_modules = 0


def spare_the_collector() -> None:
    """Let the garbage collector pass over everything that is loaded by now and stays."""
    global _n_modules  # noqa: PLW0603 - there is one collector, and one set of modules, in a process
    _n_modules = len(sys.modules)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)


def spare_what_came_later() -> None:
    """Do so again where a large package has come since; it takes some tenths of a second."""
    if 0 < _n_modules < len(sys.modules) - _MODULES_WORTH_A_LOOK:
        spare_the_collector()
