"""From properties to texts: the grammar in which the simulated shop describes its items in two languages."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from zhiyin.data.shop.departments import BRANDS, DEPARTMENTS
from zhiyin.data.shop.properties import Properties
from zhiyin.data.shop.words import ACCENTS, IMAGES, LEVELS, MATERIALS, STYLES, TOPICS, Word
from zhiyin.domain import PAD

ENGLISH, CHINESE = "en", "zh"

_BOOK_TITLES = {
    ENGLISH: (
        "The {image} and the {other_image}",
        "The {image} of {accent}",
        "A {image} for {topic}",
        "{topic}: a {style} {noun}",
        "The {style} book of {topic}",
    ),
    CHINESE: (
        "{image}与{other_image}",
        "{accent}的{image}",
        "{topic}的{image}",
        "{topic}：{style}的{noun}",
        "{style}的{topic}之书",
    ),
}
_SERIES = {
    ENGLISH: " (The {image} series, volume {volume})",
    CHINESE: "（{image}系列，第{volume}册）",
}
_BOOK_TEXTS = {
    ENGLISH: (
        "A {style} {noun} about {topics}, set in {accent}. This {material} is {level}. Published by {brand}.",
        "{topics} and {accent}: a {noun} that is {style} from the first page to the last. "
        "{brand} brings it as {material}; {level}.",
        "What does {accent} know of {topics}? A {style} answer in a {noun} that readers call {level}. "
        "Comes as {material}, from {brand}.",
    ),
    CHINESE: (
        "一本关于{topics}的{style}{noun}，以{accent}为背景。{material}，{level}。{brand}出版。",
        "{topics}，还有{accent}：从头到尾都很{style}的{noun}。{brand}推出，{material}，{level}。",
        "{accent}与{topics}有什么故事？这部{style}的{noun}给出答案，{level}。{material}，来自{brand}。",
    ),
}
_GOODS_TITLES = {
    ENGLISH: (
        "{style} {noun} made of {material}",
        "{brand} {noun}, {material}, {accent}",
        "{style} {material} {noun} for {topic}",
        "{noun} for {topic} in {accent}",
    ),
    CHINESE: (
        "{style}{material}{noun}",
        "{brand} {accent}{material}{noun}",
        "{topic}用{style}{material}{noun}",
        "{accent}{topic}{noun}",
    ),
}
_GOODS_TEXTS = {
    ENGLISH: (
        "A {style} {noun} made of {material}, in {accent}. For {topics}. By {brand}, {level}.",
        "Made with {topics} in mind: this {noun} of {material} has a {style} look and comes in {accent}. "
        "{brand} calls it {level}.",
        "For everybody who loves {topics}. {material}, {accent}, {style}: a {noun} by {brand}, {level}.",
    ),
    CHINESE: (
        "{style}{noun}，{material}制成，{accent}。适合{topics}。{brand}出品，{level}。",
        "为{topics}而设计：这款{material}{noun}是{style}的样子，{accent}。{brand}，{level}。",
        "献给热爱{topics}的人。{material}、{accent}、{style}：{brand}的{noun}，{level}。",
    ),
}
_AND = {ENGLISH: " and ", CHINESE: "和"}
_Templates = tuple[Mapping[str, tuple[str, ...]], Mapping[str, tuple[str, ...]]]
_PROPERTIES: dict[str, tuple[Word, ...]] = {
    "topic": TOPICS,
    "second_topic": TOPICS,
    "style": STYLES,
    "material": MATERIALS,
    "accent": ACCENTS,
    "level": LEVELS,
}


def compose_texts(items: Properties, rng: np.random.Generator) -> pl.DataFrame:
    """Write the texts of all items.

    A title names some properties of its item, a description all of them, each by one of its names. The
    English and the Chinese text of an item name the same properties, not always by matching names.

    Returns:
        (I,) rows with the String columns ``title``, ``description``, ``title_zh``, ``description_zh``.
    """
    shared = _Images(items, rng)
    texts = {}
    for language, suffix in ((ENGLISH, ""), (CHINESE, "_zh")):
        words = _words(items, shared, language, rng)
        titles = _written(words, items, (_BOOK_TITLES, _GOODS_TITLES), shared.title_template, language)
        volume = _fill(_SERIES[language], words)
        titles = pl.select(
            pl.when(pl.Series(items.series != PAD)).then(titles + volume).otherwise(titles)
        ).to_series()
        texts[f"title{suffix}"] = _polished(titles)
        pattern = rng.integers(0, 3, len(items))
        body = _written(words, items, (_BOOK_TEXTS, _GOODS_TEXTS), pattern, language)
        texts[f"description{suffix}"] = _polished(body)
    return pl.DataFrame(texts)


def _polished(texts: pl.Series) -> pl.Series:
    """Write "an" before vowels and a capital at the beginning of each sentence's text."""
    texts = texts.str.replace_all(r"\b([Aa]) ([aeiouAEIOU])", "${1}n ${2}")
    return texts.str.slice(0, 1).str.to_uppercase() + texts.str.slice(1)


class _Images:
    """What both languages share: the images of a title, the same through a series, and its template."""

    def __init__(self, items: Properties, rng: np.random.Generator) -> None:
        n = len(items)
        self.image = rng.integers(0, len(IMAGES), n)
        self.other = (self.image + rng.integers(1, len(IMAGES), n)) % len(IMAGES)
        self.title_template = rng.integers(0, 20, n)
        self.series_image = self.image.copy()
        bound = np.flatnonzero(items.series != PAD)
        if len(bound):
            of_series = rng.integers(0, len(IMAGES), int(items.series.max()) + 1)
            self.series_image[bound] = of_series[items.series[bound]]


def _words(items: Properties, images: _Images, language: str, rng: np.random.Generator) -> pl.DataFrame:
    """Choose one name for each property of each item; one String column a property."""
    columns = {
        name: _named(words, getattr(items, name), language, rng) for name, words in _PROPERTIES.items()
    }
    side = 0 if language == ENGLISH else 1
    brands = pl.Series([pair[side] for domain in BRANDS for pair in domain])
    columns["brand"] = brands[items.brand]
    nouns = [d.nouns if language == ENGLISH else d.nouns_zh for d in DEPARTMENTS]
    flat = pl.Series([noun for pair in nouns for noun in pair])
    starts = np.cumsum([0] + [len(pair) for pair in nouns[:-1]])
    n_nouns = np.array([len(pair) for pair in nouns])[items.department]
    columns["noun"] = flat[starts[items.department] + (rng.random(len(items)) * n_nouns).astype(np.int64)]
    names = pl.Series([word.english[0] if language == ENGLISH else word.chinese[0] for word in IMAGES])
    bound = items.series != PAD
    columns["image"] = names[np.where(bound, images.series_image, images.image)]
    columns["other_image"] = names[images.other]
    columns["volume"] = pl.Series(items.volume).cast(pl.String)
    words = pl.DataFrame(columns)
    both = pl.col("topic") + _AND[language] + pl.col("second_topic")
    only_one = pl.Series(items.second_topic == PAD)
    return words.with_columns(topics=pl.when(only_one).then(pl.col("topic")).otherwise(both))


def _named(words: tuple[Word, ...], places: np.ndarray, language: str, rng: np.random.Generator) -> pl.Series:
    """Take one of three names of each value at random; the first value's where there is none."""
    names = [word.english if language == ENGLISH else word.chinese for word in words]
    flat = pl.Series([name for triple in names for name in triple])
    return flat.gather(3 * np.maximum(places, 0) + rng.integers(0, 3, len(places)))


def _written(
    words: pl.DataFrame,
    items: Properties,
    templates: _Templates,
    choice: np.ndarray,
    language: str,
) -> pl.Series:
    """Fill one of the templates for books, or for goods, for each item: ``choice`` modulo their number."""
    is_book = items.domain == 0
    parts, rows = [], []
    for of_books, by_language in ((True, templates[0]), (False, templates[1])):
        patterns = by_language[language]
        for place, pattern in enumerate(patterns):
            chosen = np.flatnonzero((is_book == of_books) & (choice % len(patterns) == place))
            parts.append(_fill(pattern, words[chosen]))
            rows.append(chosen)
    order = np.argsort(np.concatenate(rows), kind="stable")
    return pl.concat(parts)[order]


def _fill(pattern: str, words: pl.DataFrame) -> pl.Series:
    """Put the words into ``{name}`` places of a pattern."""
    names = [piece.split("}")[0] for piece in pattern.split("{")[1:]]
    blanks = pattern
    for name in names:
        blanks = blanks.replace("{" + name + "}", "{}")
    return words.select(pl.format(blanks, *names)).to_series().alias("text")
