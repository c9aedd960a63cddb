"""HTML that cannot be broken by a title: everything is escaped unless it was made here."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from string import Template


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def fill(template: str, **values: object) -> Html:
    """Put values into a template with ``$name`` places; all but `Html` are escaped.

    Raises:
        KeyError: when a place has no value.
    """
    made = {name: value if isinstance(value, Html) else escape(str(value)) for name, value in values.items()}
    return Html(Template(template).substitute(made))


def breakable(name: str) -> Html:
    """Let a long name such as ``sequence_transformer`` break after its underscores."""
    return Html(escape(name).replace("_", "_<wbr>"))


def fill_each(template: str, rows: Iterable[dict[str, object]]) -> Html:
    """`fill` one template for each row of values, one after the other."""
    return Html("".join(fill(template, **row) for row in rows))
