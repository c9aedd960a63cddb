"""The latent side of the catalogue: which properties each item has, when it arrives, what goes with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zhiyin.data.shop.config import ShopConfig
from zhiyin.data.shop.departments import (
    AISLES,
    BRANDS_PER_DOMAIN,
    DEPARTMENTS,
    DOMAINS,
    complement_departments,
)
from zhiyin.data.shop.words import BOOK_ACCENTS, BOOK_STYLES, GOODS_ACCENTS, GOODS_STYLES, LEVELS, STYLES
from zhiyin.domain import PAD, FloatArray, IndexArray

FACETS = ("topic", "style", "material", "accent", "level", "department")
"""Properties a taste is about; each an index array of `Properties` of the same name."""

N_HIDDEN = 4
"""Length of the part of taste that no word says: behaviour knows it, texts do not."""

N_COMPLEMENTS = 3
N_SIMILAR = 12
_N_COMPARED = 48


@dataclass(frozen=True, eq=False)
class Properties:
    """I items, sorted by domain; every array has I rows.

    Attributes:
        domain: (I,) int32, place in `DOMAINS`.
        department: (I,) int32, place in `DEPARTMENTS`.
        topic: (I,) int32, place in `TOPICS`; ``second_topic`` too, -1 where there is none.
        style: (I,) int32; ``material``, ``accent``, ``level``, ``brand`` (over all domains) likewise.
        series: (I,) int32, number of the series of books, -1 for none; ``volume`` counts from 1, else 0.
        next_volume: (I,) int32 item index of the following volume, -1 for none.
        price: (I,) float32, euros.
        quality: (I,) float32, about -1 to 1: what everybody likes about it.
        fame: (I,) float32, about -2 to 2: how easily it is found.
        hidden: (I, `N_HIDDEN`) float32.
        arrival: (I,) int32, day it enters the shop; 0 for those of opening day, up to n_days for tomorrow's.
        complements: (I, 3) int32 item indices of what goes with it, -1 pads.
        similar: (I, 12) int32 item indices of the same department with the most shared properties, -1 pads.
    """

    domain: IndexArray
    department: IndexArray
    topic: IndexArray
    second_topic: IndexArray
    style: IndexArray
    material: IndexArray
    accent: IndexArray
    level: IndexArray
    brand: IndexArray
    series: IndexArray
    volume: IndexArray
    next_volume: IndexArray
    price: FloatArray
    quality: FloatArray
    fame: FloatArray
    hidden: FloatArray
    arrival: IndexArray
    complements: IndexArray
    similar: IndexArray

    def __len__(self) -> int:
        return len(self.domain)


AISLE_OF_DEPARTMENT: IndexArray = np.array(
    [AISLES.index((department.domain, department.aisle)) for department in DEPARTMENTS], dtype=np.int32
)


def draw_properties(config: ShopConfig, rng: np.random.Generator) -> Properties:
    """Invent the catalogue."""
    drawn = _draw_facets(config.n_items, rng)
    series, volume, next_volume = _bind_series(drawn, rng)
    quality = (0.45 * (drawn["level"] - 1) + rng.normal(0, 0.35, config.n_items)).astype(np.float32)
    brand_hidden = rng.normal(0, 0.6, (len(DOMAINS) * BRANDS_PER_DOMAIN, N_HIDDEN))
    hidden = brand_hidden[drawn["brand"]] + rng.normal(0, 0.8, (config.n_items, N_HIDDEN))
    return Properties(
        **drawn,
        series=series,
        volume=volume,
        next_volume=next_volume,
        price=_draw_prices(drawn, rng),
        quality=quality,
        fame=rng.normal(0, 0.8, config.n_items).astype(np.float32),
        hidden=hidden.astype(np.float32),
        arrival=_draw_arrivals(config, series, volume, rng),
        complements=_draw_complements(drawn, rng),
        similar=_find_similar(drawn, rng),
    )


def _draw_facets(n_items: int, rng: np.random.Generator) -> dict[str, IndexArray]:
    appeal = rng.gamma(4.0, size=len(DEPARTMENTS))
    department = np.sort(rng.choice(len(DEPARTMENTS), n_items, p=appeal / appeal.sum())).astype(np.int32)
    domain = np.array([d.domain for d in DEPARTMENTS], dtype=np.int32)[department]
    n_brands = len(DOMAINS) * BRANDS_PER_DOMAIN
    is_book = domain == 0
    brand_place = (BRANDS_PER_DOMAIN * rng.beta(1.0, 1.6, n_items)).astype(np.int32)
    brand = (domain * BRANDS_PER_DOMAIN + np.minimum(brand_place, BRANDS_PER_DOMAIN - 1)).astype(np.int32)
    half = len(STYLES) // 2
    brand_style = rng.integers(0, half, n_brands) + np.where(np.arange(n_brands) < BRANDS_PER_DOMAIN, half, 0)
    any_style = np.where(is_book, rng.choice(BOOK_STYLES, n_items), rng.choice(GOODS_STYLES, n_items))
    style = np.where(rng.random(n_items) < 0.45, brand_style[brand], any_style)
    accent = np.where(is_book, rng.choice(BOOK_ACCENTS, n_items), rng.choice(GOODS_ACCENTS, n_items))
    brand_level = rng.integers(0, len(LEVELS), n_brands)
    any_level = rng.integers(0, len(LEVELS), n_items)
    level = np.where(rng.random(n_items) < 0.6, brand_level[brand], any_level)
    topic, second_topic, material = _draw_by_department(department, rng)
    return {
        "domain": domain,
        "department": department,
        "topic": topic,
        "second_topic": second_topic,
        "style": style.astype(np.int32),
        "material": material,
        "accent": accent.astype(np.int32),
        "level": level.astype(np.int32),
        "brand": brand,
    }


def _draw_by_department(
    department: IndexArray, rng: np.random.Generator
) -> tuple[IndexArray, IndexArray, IndexArray]:
    """Draw topic, second topic and material out of what a department allows."""
    topic, second, material = (np.full(len(department), PAD, dtype=np.int32) for _ in range(3))
    for place, facts in enumerate(DEPARTMENTS):
        rows = np.flatnonzero(department == place)
        first_place = rng.integers(0, len(facts.topics), len(rows))
        step = rng.integers(1, len(facts.topics), len(rows))
        topic[rows] = np.take(facts.topics, first_place)
        has_second = rng.random(len(rows)) < 0.4
        other = np.take(facts.topics, (first_place + step) % len(facts.topics))
        second[rows] = np.where(has_second, other, PAD)
        material[rows] = rng.choice(facts.materials, len(rows))
    return topic, second, material


def _bind_series(
    drawn: dict[str, IndexArray], rng: np.random.Generator
) -> tuple[IndexArray, IndexArray, IndexArray]:
    """Bind about half of the books into series of three to five volumes that share their properties.

    Changes ``drawn`` in place: later volumes take over the properties of the first.
    """
    n_items = len(drawn["domain"])
    series, volume, next_volume = (np.full(n_items, PAD, dtype=np.int32) for _ in range(3))
    volume[:] = 0
    fiction = AISLE_OF_DEPARTMENT[drawn["department"]] == 0
    bound = np.flatnonzero((drawn["domain"] == 0) & (rng.random(n_items) < np.where(fiction, 0.6, 0.35)))
    bound = bound[np.argsort(drawn["department"][bound] + rng.random(len(bound)) * 0.9)]
    lengths = rng.integers(3, 6, len(bound) // 3 + 1)
    ends = np.cumsum(lengths)
    number = np.searchsorted(ends, np.arange(len(bound)), side="right").astype(np.int32)
    starts = ends - lengths
    first = bound[starts[number]]
    same = drawn["department"][first] == drawn["department"][bound]
    bound, number, first = bound[same], number[same], first[same]
    new_series = np.r_[True, number[1:] != number[:-1]] if len(number) else np.zeros(0, dtype=bool)
    series[bound] = number
    volume[bound] = np.arange(len(bound)) - np.flatnonzero(new_series)[np.cumsum(new_series) - 1] + 1
    follows = np.flatnonzero(~new_series)
    next_volume[bound[follows - 1]] = bound[follows]
    for name in ("topic", "second_topic", "style", "material", "accent", "level", "brand"):
        drawn[name][bound] = drawn[name][first]
    return series, volume, next_volume


def _draw_prices(drawn: dict[str, IndexArray], rng: np.random.Generator) -> FloatArray:
    """Return (I,) float32 prices in euros that end in ,90: usual price by level, with noise."""
    usual = np.array([department.price for department in DEPARTMENTS])[drawn["department"]]
    by_level = np.array([0.65, 1.0, 1.7])[drawn["level"]]
    price = usual * by_level * rng.lognormal(0.0, 0.22, len(usual))
    rounded: FloatArray = (np.maximum(np.round(price), 2) - 0.1).astype(np.float32)
    return rounded


def _draw_arrivals(
    config: ShopConfig, series: IndexArray, volume: IndexArray, rng: np.random.Generator
) -> IndexArray:
    """Return (I,) int32 days; the volumes of a series never arrive before the first of them."""
    n_new = round(config.share_new_items * config.n_items)
    arrival = np.zeros(config.n_items, dtype=np.int32)
    new = rng.choice(config.n_items, n_new, replace=False)
    arrival[new] = rng.integers(1, config.n_days + 1, n_new)
    n_tomorrow = min(n_new, max(1, config.n_items // 200))
    arrival[new[:n_tomorrow]] = config.n_days
    arrival[(series != PAD) & (volume == 1)] = 0
    return arrival


def _draw_complements(drawn: dict[str, IndexArray], rng: np.random.Generator) -> IndexArray:
    """Return (I, 3) int32: what shares most with each item in the departments that go with its own."""
    complements = np.full((len(drawn["domain"]), N_COMPLEMENTS), PAD, dtype=np.int32)
    for place in range(len(DEPARTMENTS)):
        rows = np.flatnonzero(drawn["department"] == place)
        pool = np.flatnonzero(np.isin(drawn["department"], complement_departments(place)))
        best = _best_matches(rows, rng.permutation(pool), N_COMPLEMENTS, drawn, rng)
        complements[rows, : best.shape[1]] = best
    return complements


def _find_similar(drawn: dict[str, IndexArray], rng: np.random.Generator) -> IndexArray:
    """Return (I, 12) int32: for each item, others of its department that share most with it."""
    similar = np.full((len(drawn["domain"]), N_SIMILAR), PAD, dtype=np.int32)
    for place in range(len(DEPARTMENTS)):
        rows = rng.permutation(np.flatnonzero(drawn["department"] == place))
        best = _best_matches(rows, rows, N_SIMILAR, drawn, rng)
        similar[rows, : best.shape[1]] = best
    return similar


def _best_matches(
    rows: np.ndarray, pool: np.ndarray, n: int, drawn: dict[str, IndexArray], rng: np.random.Generator
) -> IndexArray:
    """Compare each row with a run of the pool, so that cost stays linear, and return its ``n`` best matches.

    Returns:
        (rows, at most ``n``) int32; when ``rows`` is the pool itself, no item is its own match.
    """
    n_compared = min(_N_COMPARED, len(pool) - 1)
    n = min(n, n_compared)
    if n <= 0 or len(rows) == 0:
        return np.empty((len(rows), 0), dtype=np.int32)
    places = (np.arange(len(rows))[:, None] + np.arange(1, n_compared + 1)) % len(pool)
    compared = pool[places]
    weights = {"topic": 2.0, "style": 1.0, "material": 1.0, "accent": 0.5, "level": 0.6, "brand": 1.0}
    score = rng.random(compared.shape)
    for name, weight in weights.items():
        score += weight * (drawn[name][compared] == drawn[name][rows][:, None])
    order = np.argsort(-score, axis=1, kind="stable")[:, :n]
    return np.take_along_axis(compared, order, axis=1).astype(np.int32)
