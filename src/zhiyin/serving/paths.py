"""What stands in addresses: ids may hold any sign, and what may not stand there is said, not passed over."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from starlette.convertors import PathConvertor, register_url_convertor
from starlette.types import Scope

from zhiyin.serving.problems import Refused

_REPLACED = "\N{REPLACEMENT CHARACTER}"
_LONGEST_NAME = 40


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


def refuse_parameters(scope: Scope) -> None:
    """Refuse an address with a question mark: no route reads parameters, and ids may hold such a mark.

    ``DELETE /v1/users/ann?dry_run=true`` would erase, and ``DELETE /v1/users/ann?b`` somebody else.

    Raises:
        Refused: with the name of the first parameter.
    """
    query = scope.get("query_string", b"")
    if not query:
        return
    name = query.replace(b"=", b"&", 1).partition(b"&")[0].decode("ascii", "replace")[:_LONGEST_NAME]
    raise Refused(
        "invalid-request",
        f"The address has parameters, {name!r} to begin with, and no route reads any.",
        possible="What a request asks for stands in its path and in its body.",
        remedy="Leave out what begins with the question mark; one that belongs to an id is written %3F.",
    )
