"""A tiny shop in which a word of a title, or a word together with the history, decides what people do."""

from __future__ import annotations

from typing import Literal

import numpy as np
import polars as pl

from zhiyin.data.dataset import Dataset
from zhiyin.domain import Catalogue, Histories, Vocabulary
from zhiyin.domain.arrays import offsets_of

COLOURS = ("red", "blue", "green", "white")
THINGS = ("lamp", "chair", "table", "cup", "book", "clock", "shelf", "mirror")
COLOURS_ZH = ("红", "蓝", "绿", "白")
THINGS_ZH = ("灯", "椅", "桌", "杯", "书", "钟", "架", "镜")
_ZH = (*COLOURS_ZH, *(f"##{thing}" for thing in THINGS_ZH))
WORDS = (*COLOURS, *THINGS, *_ZH, "liked", "not", ":", ";", ".", ",", "hour", "device", "phone", "desk")
"""Pieces that a tokenizer must know to read the shop."""
N_ITEMS = len(COLOURS) * len(THINGS)

Rule = Literal["word", "rating", "match", "follow"]


def word_shop(
    rule: Rule, *, n_users: int = 40, n_events: int = 12, seed: int = 0, chinese: bool = False
) -> Dataset:
    """Return a shop whose every answer follows from words.

    Item ``c * 8 + t`` is called by its colour c and its thing t.

    Args:
        rule: ``word``: an event has the value 1 where the item is red or blue, else 0. ``rating``: the value
            is 1 plus the number of the colour, and noise of .25. ``match``: every user holds one colour dear,
            takes items of it, and of what is shown (the impressions) clicks what has it; no item is clicked
            more often than another. ``follow``: after an item comes one of the next colour, any thing.
        n_users: Users.
        n_events: Events of each.
        seed: Of all draws.
        chinese: Whether titles are Chinese.
    """
    random = np.random.default_rng(seed)
    shape = (n_users, n_events)
    thing = random.integers(len(THINGS), size=shape)
    colour = random.integers(len(COLOURS), size=shape)
    if rule == "follow":
        colour = (colour[:, :1] + np.arange(n_events)) % len(COLOURS)
    if rule == "match":
        colour = np.broadcast_to(np.arange(n_users)[:, None] % len(COLOURS), shape)
    value = np.full(shape, np.nan)
    if rule == "word":
        value = (colour < len(COLOURS) // 2).astype(float)
    if rule == "rating":
        value = 1.0 + colour + 0.25 * random.normal(size=shape)
    users = Vocabulary([f"u{user}" for user in range(n_users)])
    return Dataset(
        f"word shop ({rule})",
        _catalogue(chinese=chinese),
        users,
        Histories(
            offsets_of(np.full(n_users, n_events)),
            (colour * len(THINGS) + thing).reshape(-1).astype(np.int32),
            np.zeros(n_users * n_events, dtype=np.int16),
            np.tile(np.arange(n_events, dtype=np.int64) * 3600, n_users),
            value.reshape(-1).astype(np.float32),
        ),
        positive_value=1.0 if rule == "word" else None,
        user_table=pl.DataFrame({"user_id": users.ids, "device": _devices(n_users)}),
        impressions=_shown(n_users, n_events, random) if rule == "match" else None,
    )


def _catalogue(*, chinese: bool) -> Catalogue:
    colours, things, between = (COLOURS_ZH, THINGS_ZH, "") if chinese else (COLOURS, THINGS, " ")
    titles = [f"{colour}{between}{thing}" for colour in colours for thing in things]
    ids = [f"i{number}" for number in range(N_ITEMS)]
    return Catalogue.from_table(pl.DataFrame({"item_id": ids, "title": titles}))


def _devices(n_users: int) -> list[str]:
    return ["phone" if user % 2 else "desk" for user in range(n_users)]


def _shown(n_users: int, n_events: int, random: np.random.Generator) -> pl.DataFrame:
    """Show everybody as many items as they took, at the same hours but half an hour later."""
    user = np.repeat(np.arange(n_users), n_events)
    own = user % len(COLOURS)
    other = (own + random.integers(1, len(COLOURS), size=len(user))) % len(COLOURS)
    is_own = random.random(len(user)) < 0.5
    colour = np.where(is_own, own, other)
    item = colour * len(THINGS) + random.integers(len(THINGS), size=len(user))
    return pl.DataFrame(
        {
            "user_id": [f"u{one}" for one in user],
            "item_id": [f"i{one}" for one in item],
            "timestamp": np.tile(np.arange(n_events) * 3600 + 1800, n_users),
            "clicked": is_own,
        }
    )
