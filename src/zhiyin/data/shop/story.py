"""A user of the simulated shop in a sentence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zhiyin.data.shop.departments import BRANDS, BRANDS_PER_DOMAIN, DEPARTMENTS, DOMAINS
from zhiyin.data.shop.users import Tastes
from zhiyin.data.shop.words import (
    ACCENTS,
    BOOK_ACCENTS,
    BOOK_STYLES,
    GOODS_ACCENTS,
    GOODS_STYLES,
    LEVELS,
    MATERIALS,
    STYLES,
    TOPICS,
    Word,
)

_WATCHES_PRICE = 0.8
_IGNORES_PRICE = 0.25


def describe_user(tastes: Tastes, user_index: int) -> str:
    """Return such as ``Likes tea, bread and travel; rustic; oak, copper; … ; watches the price.``"""
    main = int(np.argmax(tastes.domain[user_index]))
    best = np.argsort(-tastes.department[user_index], kind="stable")[:3]
    departments = [DEPARTMENTS[int(place)].category.lower() for place in best]
    brand = BRANDS[main][int(tastes.favourite_brand[user_index, main]) - main * BRANDS_PER_DOMAIN][0]
    is_books = main == 0
    styles = BOOK_STYLES if is_books else GOODS_STYLES
    accents = BOOK_ACCENTS if is_books else GOODS_ACCENTS
    materials = sorted(
        {m for department in DEPARTMENTS if department.domain == main for m in department.materials}
    )
    topics = _keys(TOPICS, range(len(TOPICS)), tastes.topic[user_index], 3)
    levels = range(len(LEVELS))
    parts = [
        f"Likes {topics[0]}, {topics[1]} and {topics[2]}",
        ", ".join(_keys(STYLES, styles, tastes.style[user_index], 2)),
        ", ".join(_keys(MATERIALS, materials, tastes.material[user_index], 2)),
        ", ".join(_keys(ACCENTS, accents, tastes.accent[user_index], 2)),
        _keys(LEVELS, levels, tastes.level[user_index], 1)[0],
        f"mostly {DOMAINS[main]}; above all {', '.join(departments)}",
        f"trusts {brand}",
    ]
    sensitivity = tastes.price_sensitivity[user_index]
    if sensitivity > _WATCHES_PRICE:
        parts.append("watches the price")
    elif sensitivity < _IGNORES_PRICE:
        parts.append("does not look at the price")
    return "; ".join(parts) + "."


def _keys(words: tuple[Word, ...], allowed: Sequence[int], likings: np.ndarray, n: int) -> list[str]:
    """Return the keys of the ``n`` most liked among the allowed places of a list of words."""
    places = np.asarray(allowed)
    best = places[np.argsort(-likings[places], kind="stable")[:n]]
    return [words[int(place)].key for place in best]
