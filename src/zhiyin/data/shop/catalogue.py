"""The visible side of the catalogue: the table of items, and facts about them."""

from __future__ import annotations

import numpy as np
import polars as pl

from zhiyin.data.shop.config import DAY, START
from zhiyin.data.shop.departments import BRANDS, DEPARTMENTS, DOMAINS, ID_PREFIXES
from zhiyin.data.shop.grammar import compose_texts
from zhiyin.data.shop.properties import Properties
from zhiyin.data.shop.words import ACCENTS, IMAGES, MATERIALS, STYLES, TOPICS, Word
from zhiyin.domain import PAD, Catalogue


def item_ids(items: Properties) -> pl.Series:
    """Return ids such as ``book-00421``, counted within each domain."""
    width = max(5, len(str(len(items))))
    first = np.searchsorted(items.domain, np.arange(len(DOMAINS)))
    number = pl.Series(np.arange(len(items)) - first[items.domain] + 1).cast(pl.String).str.zfill(width)
    return (pl.Series(ID_PREFIXES)[items.domain] + "-" + number).alias("item_id")


def build_catalogue(items: Properties, rng: np.random.Generator) -> Catalogue:
    """Write the table of items: the known columns, Chinese texts, material, colour or setting, arrival."""
    texts = compose_texts(items, rng)
    is_book = pl.Series(items.domain == 0)
    accent = _keys(ACCENTS, items.accent)
    table = pl.DataFrame(
        {
            "item_id": item_ids(items),
            "title": texts["title"],
            "description": texts["description"],
            "categories": pl.Series([[department.path] for department in DEPARTMENTS])[items.department],
            "brand": pl.Series([pair[0] for domain in BRANDS for pair in domain])[items.brand],
            "price": pl.Series(items.price.astype(np.float64)).round(2),
            "domain": pl.Series(DOMAINS)[items.domain],
            "title_zh": texts["title_zh"],
            "description_zh": texts["description_zh"],
            "material": _keys(MATERIALS, items.material),
            "colour": pl.select(pl.when(~is_book).then(accent)).to_series(),
            "setting": pl.select(pl.when(is_book).then(accent)).to_series(),
            "available_since": _dates(items),
        }
    )
    return Catalogue.from_table(table)


def _dates(items: Properties) -> pl.Series:
    days = pl.Series(START + items.arrival.astype(np.int64) * DAY)
    return pl.from_epoch(days, time_unit="s").cast(pl.Date)


def _keys(words: tuple[Word, ...], places: np.ndarray) -> pl.Series:
    return pl.Series([word.key for word in words])[places]


def build_facts(items: Properties, catalogue: Catalogue) -> pl.DataFrame:
    """Return the facts (head, relation, tail), sorted by relation and item; tails are words or item ids."""
    ids = catalogue.items.ids
    every = np.arange(len(items))
    series = _series_names(items)
    second = np.flatnonzero(items.second_topic != PAD)
    bound = np.flatnonzero(items.series != PAD)
    follows = np.flatnonzero(items.next_volume != PAD)
    heads, places = np.nonzero(items.complements != PAD)
    parts = [
        ("made_by", every, catalogue.table["brand"]),
        ("belongs_to", bound, series[bound]),
        ("made_of", every, catalogue.table["material"]),
        ("about", every, _keys(TOPICS, items.topic)),
        ("about", second, _keys(TOPICS, items.second_topic[second])),
        ("in_style", every, _keys(STYLES, items.style)),
        ("goes_with", heads, ids[items.complements[heads, places]]),
        ("followed_by", follows, ids[items.next_volume[follows]]),
    ]
    return pl.concat(
        pl.DataFrame({"head": ids[rows], "relation": pl.repeat(name, len(rows), eager=True), "tail": tails})
        for name, rows, tails in parts
    )


def _series_names(items: Properties) -> pl.Series:
    names = pl.Series([word.key for word in IMAGES])
    number = np.maximum(items.series, 0)
    return "The " + names[number % len(IMAGES)] + " series " + pl.Series(number + 1).cast(pl.String)
