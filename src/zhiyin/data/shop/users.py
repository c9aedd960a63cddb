"""Users of the simulated shop: tastes that can be said in words, habits, and what a shop would know."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from zhiyin.data.shop.config import DAY, START, ShopConfig
from zhiyin.data.shop.departments import BRANDS_PER_DOMAIN, DEPARTMENTS, DOMAINS
from zhiyin.data.shop.properties import N_HIDDEN, Properties
from zhiyin.data.shop.words import ACCENTS, LEVELS, MATERIALS, STYLES, TOPICS
from zhiyin.domain import FloatArray, IndexArray

COUNTRIES = ("DE", "FR", "CN", "US", "SE", "SG")
DEVICES = ("phone", "desktop", "tablet")


@dataclass(frozen=True, eq=False)
class Tastes:
    """What U users like; each table float32, one column for each value of a property.

    Attributes:
        topic: (U, 25); ``style`` (U, 16), ``material`` (U, 20), ``accent`` (U, 16), ``level`` (U, 3),
            ``department`` (U, 37), ``domain`` (U, 3) likewise.
        favourite_brand: (U, 3) int32, one brand for each domain.
        price_sensitivity: (U,) float32, 0 (does not look at prices) to about 2.
        hidden: (U, `N_HIDDEN`) float32, the part of taste that no word says.
        visits_per_day: (U,) float32, the rate of visits.
        peak_hour: (U,) float32, usual hour of a visit, UTC.
        device: (U,) int32, the usual device, place in `DEVICES`.
    """

    topic: FloatArray
    style: FloatArray
    material: FloatArray
    accent: FloatArray
    level: FloatArray
    department: FloatArray
    domain: FloatArray
    favourite_brand: IndexArray
    price_sensitivity: FloatArray
    hidden: FloatArray
    visits_per_day: FloatArray
    peak_hour: FloatArray
    device: IndexArray

    def __len__(self) -> int:
        return len(self.topic)


def draw_tastes(config: ShopConfig, items: Properties, rng: np.random.Generator) -> Tastes:
    """Invent the users: a few strong likings each, and a little of everything."""
    n = config.n_users
    domain = rng.dirichlet(np.full(len(DOMAINS), 0.8), n)
    in_domain = domain[:, [department.domain for department in DEPARTMENTS]]
    popular_brands = np.bincount(items.brand, minlength=len(DOMAINS) * BRANDS_PER_DOMAIN) + 1.0
    shares = popular_brands.reshape(len(DOMAINS), BRANDS_PER_DOMAIN)
    brands = [rng.choice(BRANDS_PER_DOMAIN, n, p=share / share.sum()) for share in shares]
    activity = rng.lognormal(-0.32, 0.8, n) * config.visits_per_user / config.n_days
    return Tastes(
        topic=_likings(rng, n, len(TOPICS), n_liked=3, strength=2.6),
        style=_likings(rng, n, len(STYLES), n_liked=3, strength=1.5),
        material=_likings(rng, n, len(MATERIALS), n_liked=4, strength=1.2),
        accent=_likings(rng, n, len(ACCENTS), n_liked=3, strength=0.9),
        level=_likings(rng, n, len(LEVELS), n_liked=1, strength=0.8),
        department=_likings(rng, n, len(DEPARTMENTS), n_liked=5, strength=2.0)
        + (1.2 * np.log(in_domain + 0.03)).astype(np.float32),
        domain=domain.astype(np.float32),
        favourite_brand=(np.stack(brands, axis=1) + np.arange(len(DOMAINS)) * BRANDS_PER_DOMAIN).astype(
            np.int32
        ),
        price_sensitivity=rng.gamma(1.6, 0.35, n).astype(np.float32),
        hidden=rng.normal(0, 1.0, (n, N_HIDDEN)).astype(np.float32),
        visits_per_day=np.minimum(activity, 0.9).astype(np.float32),
        peak_hour=rng.choice([8.0, 12.5, 20.0], n, p=[0.2, 0.25, 0.55]).astype(np.float32),
        device=rng.choice(len(DEVICES), n, p=[0.6, 0.32, 0.08]).astype(np.int32),
    )


def _likings(
    rng: np.random.Generator, n_users: int, n_values: int, *, n_liked: int, strength: float
) -> FloatArray:
    """Return (n_users, n_values) float32: ``n_liked`` values liked, one disliked, little about the rest."""
    table = rng.normal(0, 0.2, (n_users, n_values))
    order = np.argsort(rng.random((n_users, n_values)), axis=1)
    fading = strength * np.linspace(1.0, 0.6, n_liked)
    liked = fading * rng.lognormal(0, 0.15, (n_users, n_liked))
    np.put_along_axis(table, order[:, :n_liked], liked, axis=1)
    np.put_along_axis(table, order[:, -1:], -0.7 * strength, axis=1)
    return table.astype(np.float32)


def user_ids(n_users: int) -> pl.Series:
    """Return ids such as ``user-0007``."""
    width = max(4, len(str(n_users - 1)))
    return pl.Series("user_id", [f"user-{number:0{width}d}" for number in range(n_users)], dtype=pl.String)


def user_table(tastes: Tastes, config: ShopConfig, rng: np.random.Generator) -> pl.DataFrame:
    """Return what the shop knows about its users: attributes that hint at taste without giving it away.

    ``interests`` is what six in ten named when they signed up: two topics they like; null for the rest.
    """
    n = len(tastes)
    country = rng.choice(len(COUNTRIES), n, p=[0.3, 0.15, 0.25, 0.15, 0.1, 0.05])
    speaks_chinese = (country == COUNTRIES.index("CN")) | (
        (country == COUNTRIES.index("SG")) & (rng.random(n) < 0.6)
    )
    best = np.argsort(-tastes.topic, axis=1)[:, :2]
    keys = pl.Series([word.key for word in TOPICS])
    joined = rng.integers(-720, config.n_days // 2, n)
    table = pl.DataFrame(
        {
            "user_id": user_ids(n),
            "country": pl.Series(COUNTRIES)[country],
            "language": pl.Series(("en", "zh"))[speaks_chinese.astype(np.int64)],
            "age_group": pl.Series(("18-29", "30-44", "45-59", "60+"))[_age_groups(tastes, rng)],
            "interests": pl.select(
                pl.concat_str([keys[best[:, 0]], keys[best[:, 1]]], separator=", ")
            ).to_series(),
            "joined": pl.from_epoch(pl.Series(START + joined * DAY), time_unit="s").cast(pl.Date),
        }
    )
    named = pl.Series(rng.random(n) < 0.6)
    return table.with_columns(pl.when(named).then(pl.col("interests")).otherwise(None).alias("interests"))


def _age_groups(tastes: Tastes, rng: np.random.Generator) -> np.ndarray:
    """Older users care a little less about prices; the hint is weak on purpose."""
    position = rng.normal(1.3, 0.9, len(tastes)) - 0.5 * (tastes.price_sensitivity - 0.5)
    return np.clip(np.round(position), 0, 3).astype(np.int64)
