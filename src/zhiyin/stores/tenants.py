"""How a tenant may be named."""

from __future__ import annotations

import re

from zhiyin.domain.errors import RequestError

_TENANT = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")


def refuse_unfit_tenant(name: str) -> None:
    """Refuse a name that no tenant can have.

    Raises:
        RequestError: when it is one.
    """
    if not _TENANT.fullmatch(name):
        raise RequestError(
            f"The tenant {name!r} cannot be.",
            possible="A tenant is 1 to 63 of a-z, 0-9, '-', '_' and '.', and begins with a letter or digit.",
        )
