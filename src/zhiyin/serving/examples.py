"""Examples of requests; where they speak of the catalogue that is being served, they work as they stand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from zhiyin.domain import Catalogue


@dataclass(frozen=True)
class Example:
    """One request.

    Attributes:
        summary: What it shows.
        path: With ids filled in.
        body: The JSON body.
    """

    summary: str
    path: str
    body: Mapping[str, Any]


Examples = Mapping[tuple[str, str], Mapping[str, Example]]
"""(method, route) → name → example."""


MADE_UP = Catalogue.from_table(pl.DataFrame({"item_id": ["item-1", "item-2", "item-3"]}))
"""What examples speak of where nothing may be shown of what is served."""


def examples_for(catalogue: Catalogue = MADE_UP, user: str = "user-1") -> Examples:
    """Make examples of the first items of a catalogue; the user is made up unless one is named."""
    items = catalogue.items.ids.head(3).to_list() or ["item-1"]
    some_filter = _filter(catalogue.table)
    return {
        ("POST", "/v1/events"): {
            "one": Example(
                "One event", "/v1/events", {"user_id": user, "item_id": items[0], "event": "view"}
            ),
            "many": Example(
                "Several events, safe to send again",
                "/v1/events",
                {
                    "events": [
                        {
                            "user_id": "new-user",
                            "item_id": item,
                            "event": "purchase",
                            "timestamp": "2024-05-01T12:00:00Z",
                            "value": 19.9,
                            "context": {"device": "phone"},
                            "event_id": f"order-17-{place}",
                        }
                        for place, item in enumerate(items)
                    ]
                },
            ),
        },
        ("PUT", "/v1/items/{item_id}"): {
            "item": Example(
                "A new item",
                "/v1/items/new-item",
                {"title": "Green tea, spring harvest", "price": 12.5, "categories": ["Drinks", "Tea"]},
            )
        },
        ("PUT", "/v1/users/{user_id}"): {
            "user": Example("Attributes of a user", "/v1/users/new-user", {"age": 34, "city": "Hangzhou"})
        },
        ("PUT", "/v1/experiments/{name}"): {
            "diversity": Example(
                "Half of the users get more variety",
                "/v1/experiments/more-variety",
                {
                    "arms": {"as-before": {"share": 0.5}, "varied": {"share": 0.5, "diversity": 0.3}},
                    "control": "as-before",
                    "metric": "ctr",
                },
            )
        },
        ("POST", "/v1/receipts/verify"): {
            "receipt": Example(
                "Is this receipt ours, and unchanged?",
                "/v1/receipts/verify",
                {"receipt": {"receipt_id": "as DELETE /v1/users returned it"}, "user_id": user},
            )
        },
        ("POST", "/v1/recommend"): {
            "user": Example(
                "For a user, with reasons", "/v1/recommend", {"user_id": user, "n": 5, "explain": True}
            ),
            "visitor": Example(
                "For a visitor, by what they looked at", "/v1/recommend", {"history": items, "n": 5}
            ),
            "rules": Example(
                "With a filter, a boost and more variety",
                "/v1/recommend",
                {
                    "user_id": user,
                    "n": 5,
                    "filter": some_filter,
                    "boost": [{"filter": {"item_id": {"in": items}}, "by": 0.5}],
                    "diversity": 0.3,
                    "context": {"device": "phone"},
                },
            ),
        },
        ("POST", "/v1/similar"): {
            "item": Example("Items that go with one", "/v1/similar", {"item_id": items[0], "n": 5})
        },
        ("POST", "/v1/search"): {
            "text": Example("By free text", "/v1/search", {"text": _words(catalogue.table), "n": 5}),
            "user": Example(
                "In an order for a user",
                "/v1/search",
                {"text": _words(catalogue.table), "n": 5, "user_id": user},
            ),
        },
    }


def curl(method: str, example: Example, base_url: str, *, with_key: bool = False) -> str:
    """Return a line to paste into a shell; with a key, it is the one in the variable KEY."""
    body = json.dumps(example.body, ensure_ascii=False).replace("'", "'\\''")
    url = base_url.rstrip("/") + example.path
    verb = "" if method == "POST" else f" -X {method}"
    key = ' -H "Authorization: Bearer $KEY"' if with_key else ""
    return f"curl -s{verb} '{url}'{key} -H 'Content-Type: application/json' -d '{body}'"


def _filter(table: pl.DataFrame) -> dict[str, Any]:
    """Half of the items by a number where there is one, else those of one category, else all."""
    for name, dtype in table.schema.items():
        middle = table[name].median() if dtype.is_numeric() else None
        if isinstance(middle, (int, float)):
            return {name: {"at_most": round(float(middle), 2)}}
    if isinstance(table.schema.get("categories"), pl.List):
        named = table["categories"].explode().drop_nulls()
        if len(named):
            return {"categories": {"contains": named[0].split(">")[-1].strip()}}
    return {"item_id": {"known": True}}


def _words(table: pl.DataFrame) -> str:
    """The first words of a title, as somebody would search for them."""
    titles = table["title"].drop_nulls() if "title" in table.columns else pl.Series([], dtype=pl.String)
    words = " ".join(titles[0].replace(",", " ").split()[:3]) if len(titles) else ""
    return words or "something nice"
