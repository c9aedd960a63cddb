"""Sentences that say why an item stands in a slate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from zhiyin.domain import PAD, Catalogue

_BECAUSE = {
    "item_graph": "goes with “{title}”",
    "item_neighbours": "people who have “{title}” also have it",
    "bpr": "close to “{title}” in what people take",
    "lightgcn": "close to “{title}” in what people take",
    "semantic": "described much like “{title}”",
}
_WITHOUT_ITEM = {
    "popularity": "popular with everybody",
    "trend": "asked for by many just now",
    "language": "its description suits you",
    "sequence": "fits the path of your last choices",
    "semantic": "described much like what you chose",
    "item_graph": "goes with what you chose",
    "item_neighbours": "people with your taste have it",
    "bpr": "close to what you chose in what people take",
    "lightgcn": "close to what you chose in what people take",
}
_LONGEST_TITLE = 60
_SHARE_WORTH_SAYING = 0.15


@dataclass(frozen=True)
class Evidence:
    """What speaks for one item.

    Attributes:
        parts: Source name → what it added to the score.
        because: Source name → item index of the history that it points to, -1 for none.
    """

    parts: Mapping[str, float]
    because: Mapping[str, int]


def reasons_for(evidence: Evidence, catalogue: Catalogue) -> tuple[str, ...]:
    """Say why, the weightiest source first; a source that adds next to nothing is not mentioned."""
    positive = {name: part for name, part in evidence.parts.items() if part > 0}
    total = sum(positive.values())
    ordered = sorted(positive, key=lambda name: -positive[name])
    worth_saying = [name for name in ordered if positive[name] >= _SHARE_WORTH_SAYING * total]
    sentences = [_sentence(name, evidence.because.get(name, PAD), catalogue) for name in worth_saying]
    return tuple(dict.fromkeys(sentences))


def title_of(catalogue: Catalogue, item_index: int) -> str:
    """Return the title of an item, cut to a readable length; its id where it has none."""
    has_titles = "title" in catalogue.table.columns
    title: str = (catalogue.table["title"][item_index] if has_titles else "") or catalogue.items.id(
        item_index
    )
    return title if len(title) <= _LONGEST_TITLE else title[: _LONGEST_TITLE - 1].rstrip() + "…"


def _sentence(source: str, because: int, catalogue: Catalogue) -> str:
    if because != PAD and source in _BECAUSE:
        return _BECAUSE[source].format(title=title_of(catalogue, because))
    return _WITHOUT_ITEM.get(source, f"proposed by {source}")
