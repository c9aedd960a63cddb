"""What stands in paths: ids may hold any sign, and what they may not hold is said and not passed over."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from starlette.convertors import PathConvertor, register_url_convertor
from starlette.types import Scope

from zhiyin.serving.problems import Refused

_REPLACED = "\N{REPLACEMENT CHARACTER}"


class AnyText(PathConvertor):
    """All the rest of a path, slashes and line breaks with it.

    A pattern like ``.*`` ends before a last line break, so that ``anna%0A`` would be taken for ``anna``.
    """

    regex = "(?s:.*)"


register_url_convertor("id", AnyText())
USER = "{user_id:id}"
"""The id of a user, at the end of a path."""
ITEM = "{item_id:id}"
"""The id of an item, at the end of a path."""


def refuse_what_is_no_text(scope: Scope) -> None:
    """Refuse a path whose bytes are not UTF-8: servers replace them, and so name somebody else.

    Raises:
        Refused: with the bytes.
    """
    if _REPLACED not in scope["path"] or "raw_path" not in scope:
        return
    try:
        unquote_to_bytes(scope["raw_path"]).decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused(
            "invalid-request",
            f"The path holds bytes that are not UTF-8: {error.object[error.start : error.end].hex(' ')}.",
            remedy="Write ids as UTF-8, each byte beyond ASCII as %XX.",
        ) from None
