"""The cleaning rules: what may be wrong with single rows, and what can be done about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """One thing that may be wrong with rows.

    Attributes:
        meaning: Completes "rows whose …".
        actions: Name of an action → what the report says was done; the first is the default. ``error``
            stops instead of cleaning.
    """

    meaning: str
    actions: Mapping[str, str]

    @property
    def default(self) -> str:
        """The action unless ``dataset.toml`` names another."""
        return next(iter(self.actions))


_DROP = "these rows were dropped"
_STOP = ""

RULES: Mapping[str, Rule] = {
    "unreadable_row": Rule("line cannot be taken apart", {"drop": _DROP, "error": _STOP}),
    "missing_id": Rule("user, item or fact is not named", {"drop": _DROP, "error": _STOP}),
    "untidy_name": Rule(
        "id or event has blanks around it, or an event differs only in case",
        {"normalise": "blanks were removed, and events written in small letters", "keep": "kept as it is"},
    ),
    "missing_timestamp": Rule(
        "time is missing or cannot be read",
        {"keep": "kept in their place in the file, without a time", "drop": _DROP, "error": _STOP},
    ),
    "implausible_timestamp": Rule(
        "time is before 1990 or after 2100",
        {"keep": "kept as they are", "drop": _DROP, "error": _STOP},
    ),
    "future_timestamp": Rule(
        "time has not come yet",
        {"keep": "kept as they are", "clip": "set to the present", "drop": _DROP, "error": _STOP},
    ),
    "missing_event": Rule(
        "event is not named", {"fill": "named 'interaction'", "drop": _DROP, "error": _STOP}
    ),
    "unreadable_value": Rule(
        "value is not a finite number",
        {"fill": "the value was taken as missing", "drop": _DROP, "error": _STOP},
    ),
    "value_out_of_range": Rule(
        "value is outside [values] minimum and maximum",
        {"clip": "set to the nearest value allowed", "drop": _DROP, "error": _STOP},
    ),
    "duplicate_event": Rule(
        "user, item, event, time and value stand in the file already",
        {"keep": "kept, each counts", "drop": "all but the first were dropped", "error": _STOP},
    ),
    "unknown_item": Rule(
        "item is not in the items file",
        {"add": "the items were added to the catalogue, without a text", "drop": _DROP, "error": _STOP},
    ),
    "duplicate_row": Rule(
        "item or user is described already",
        {"first": "the first row of each was kept", "last": "the last row of each was kept", "error": _STOP},
    ),
    "html_in_text": Rule(
        "title, description, brand or domain holds HTML",
        {
            "normalise": "entities and tags were turned into plain text",
            "keep": "kept as it is",
            "error": _STOP,
        },
    ),
    "unreadable_price": Rule(
        "price is not a number of at least 0",
        {"fill": "the price was taken as missing", "error": _STOP},
    ),
}

LARGEST_DROPPED_SHARE = 0.1
"""Above this share of dropped rows it is the file that is wrong, not a few rows; an error then."""
