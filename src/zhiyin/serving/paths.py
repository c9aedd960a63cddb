"""What stands in paths: ids may hold any sign, and what they may not hold is said and not passed over."""

from __future__ import annotations

from starlette.convertors import PathConvertor, register_url_convertor


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
