"""The form of pseudonyms, by which a log or a bundle tells that its users are named so."""

from __future__ import annotations

import re
from collections.abc import Collection

_FORM = re.compile(r"p_[0-9a-f]{32}")


def looks_like_one(user_id: str) -> bool:
    """Whether an id has the form of a pseudonym."""
    return _FORM.fullmatch(user_id) is not None


def are_pseudonyms(user_ids: Collection[str]) -> bool:
    """Whether all ids, of which there is one at least, have the form of a pseudonym.

    One alone proves nothing, because a shop may call somebody so; all of them do.
    """
    return len(user_ids) > 0 and all(map(looks_like_one, user_ids))
