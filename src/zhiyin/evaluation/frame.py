"""What the pages that tell of measurements share: the frame, sections, tiles, tables and lists of facts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import resources

from zhiyin.evaluation.markup import Html, fill, fill_each

_SECTION = '<section><h2>$title</h2><p class="note">$note</p>$body</section>'
_CARD = '<div class="card"><h3>$title</h3><p class="note">$note</p>$body</div>'
_TABLE = '<div class="scroll"><table><thead><tr>$heads</tr></thead><tbody>$rows</tbody></table></div>'
_TILE = (
    '<div class="tile"><div class="tile-name">$name</div><div class="tile-value">$value</div>'
    '<div class="tile-note">$note</div></div>'
)


def template(name: str) -> str:
    """Return one file of the folder ``templates``."""
    return resources.files("zhiyin.evaluation").joinpath("templates", name).read_text(encoding="utf-8")


def page(
    title: str, *, report: str, facts: Iterable[str], tiles: Html, sections: Iterable[Html], style: str = ""
) -> Html:
    """Put a page together that loads nothing from anywhere.

    Args:
        title: Its headline.
        report: What kind of report it is.
        facts: What stands below the headline; empty ones are left out.
        tiles: What is seen first.
        sections: One below the other.
        style: Rules beyond those all pages have.
    """
    return fill(
        template("report.html"),
        lang="en",
        style=Html(template("report.css") + style),
        title=title,
        report=report,
        facts=" · ".join(fact for fact in facts if fact),
        tiles=tiles,
        sections=Html("".join(sections)),
    )


def section(title: str, note: str, body: Html) -> Html:
    """Return a section; nothing where its body is empty."""
    return fill(_SECTION, title=title, note=note, body=body) if body else Html("")


def card(title: str, note: str, body: Html) -> Html:
    """Return a framed part of a section; nothing where its body is empty."""
    return fill(_CARD, title=title, note=note, body=body) if body else Html("")


def grid(cards: Sequence[Html]) -> Html:
    """Put cards beside each other, where there is room for it."""
    shown = [card for card in cards if card]
    return fill('<div class="grid">$cards</div>', cards=Html("".join(shown))) if shown else Html("")


def tile_row(tiles: Sequence[tuple[str, str, str]]) -> Html:
    """Put figures in large letters: (name, value, note) each."""
    rows: list[dict[str, object]] = [
        dict(zip(("name", "value", "note"), tile, strict=True)) for tile in tiles
    ]
    return fill_each(_TILE, rows)


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> Html:
    """Return a table whose first column names the rows; it scrolls sideways where the page is narrow."""
    head = fill_each("<th>$name</th>", [{"name": name} for name in heads])
    body = [
        fill('<th scope="row">$first</th>', first=first)
        + fill_each("<td>$cell</td>", [{"cell": cell} for cell in rest])
        for first, *rest in rows
    ]
    return fill(_TABLE, heads=head, rows=fill_each("<tr>$row</tr>", [{"row": Html(row)} for row in body]))


def fact_list(facts: Mapping[str, str]) -> Html:
    """Return names beside their values; nothing where there are none."""
    rows = fill_each(
        "<dt>$name</dt><dd>$value</dd>", [{"name": name, "value": value} for name, value in facts.items()]
    )
    return fill("<dl>$rows</dl>", rows=rows) if facts else Html("")


def folded(title: str, body: Html) -> Html:
    """Return a part that opens when it is asked for; nothing where its body is empty."""
    if not body:
        return Html("")
    return fill("<details><summary>$title</summary>$body</details>", title=title, body=body)
