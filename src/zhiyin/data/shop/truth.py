"""What is true in the simulated shop: how much a user likes an item, clicks, buys and rates."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from zhiyin.data.shop.departments import BRANDS_PER_DOMAIN, DEPARTMENTS, DOMAINS
from zhiyin.data.shop.properties import FACETS, Properties
from zhiyin.data.shop.users import Tastes
from zhiyin.data.shop.words import ACCENTS, LEVELS, MATERIALS, STYLES, TOPICS
from zhiyin.domain import PAD, BoolArray, FloatArray, IndexArray

_Scores = npt.NDArray[np.float64]
_Places = npt.NDArray[np.int64]

_BLOCK_OF_SCORES = 2_000_000
_MOST_ITEMS_AT_ONCE = 20_000
_SECOND_TOPIC = np.float32(0.5)
_LOYALTY = np.float32(1.2)
_HIDDEN_SHARE = np.float32(0.45)
_SCALE = 2.0
"""Raw likings are divided by it, so that affinity has a spread of about one for an average user."""


def affinity(tastes: Tastes, items: Properties, user_index: IndexArray, item_index: IndexArray) -> FloatArray:
    """Say how much users like items.

    A sum over properties of the user's liking for the item's value, half of it for the second topic, plus
    loyalty to a brand, the item's quality, and hidden taste; minus sensitivity × relative price.

    Args:
        tastes: Of all users.
        items: Of the whole catalogue.
        user_index: (B,) int32.
        item_index: (B, N) int32, no padding.

    Returns:
        (B, N) float32, about -4 to 5, comparable between users.
    """
    rows = user_index[:, None]
    raw = items.quality[item_index] + 0.0
    for name in FACETS:
        raw += getattr(tastes, name)[rows, getattr(items, name)[item_index]]
    second = items.second_topic[item_index]
    raw += np.where(second != PAD, _SECOND_TOPIC * tastes.topic[rows, second], 0.0)
    favourite = tastes.favourite_brand[rows, items.domain[item_index]]
    raw += _LOYALTY * (favourite == items.brand[item_index])
    raw -= tastes.price_sensitivity[rows] * _relative_price(items.price[item_index])
    raw += _HIDDEN_SHARE * np.einsum("bnh,bh->bn", items.hidden[item_index], tastes.hidden[user_index])
    return (raw / np.float32(_SCALE)).astype(np.float32)


def _relative_price(price: FloatArray) -> FloatArray:
    """Return the logarithm of the price over 30 euros."""
    relative: FloatArray = np.log(price / np.float32(30.0))
    return relative


def best_items(
    tastes: Tastes, items: Properties, user_index: IndexArray, n: int, among: IndexArray | None = None
) -> IndexArray:
    """Return the items each user likes best, in blocks so that no users × items matrix ever stands.

    Affinity is a dot product of what a user likes and what an item has, so a block is one matrix product;
    in float64, so that the order does not hang on how a processor rounds.

    Args:
        tastes: Of all users.
        items: Of the whole catalogue.
        user_index: (B,) int32.
        n: How many, at most the number of items.
        among: (M,) int32, the items to choose among; the whole catalogue by default.

    Returns:
        (B, n) int32, best first; equal affinities in the order of the item index.
    """
    pool = np.arange(len(items), dtype=np.int32) if among is None else np.sort(among)
    n = min(n, len(pool))
    best = np.empty((len(user_index), n), dtype=np.int32)
    n_pieces = -(-len(pool) // _MOST_ITEMS_AT_ONCE)
    pieces = [_what_it_has(items, piece) for piece in np.array_split(pool, n_pieces)]
    for start, stop in _blocks(
        len(user_index), max(1, _BLOCK_OF_SCORES // min(len(pool), _MOST_ITEMS_AT_ONCE))
    ):
        likes = _what_they_like(tastes, user_index[start:stop])
        kept, scores = np.empty((stop - start, 0), dtype=np.int64), np.empty((stop - start, 0))
        first = 0
        for has in pieces:
            places = np.broadcast_to(np.arange(first, first + len(has)), (stop - start, len(has)))
            kept, scores = _keep_best(np.hstack([kept, places]), np.hstack([scores, likes @ has.T]), n)
            first += len(has)
        order = np.argsort(-scores, axis=1, kind="stable")
        best[start:stop] = pool[np.take_along_axis(kept, order, axis=1)]
    return best


def _keep_best(places: _Places, scores: _Scores, n: int) -> tuple[_Places, _Scores]:
    """Keep the ``n`` best of each row, in the order in which they stand."""
    if scores.shape[1] <= n:
        return places, scores
    kept = np.sort(np.argpartition(-scores, n - 1, axis=1)[:, :n], axis=1)
    return np.take_along_axis(places, kept, axis=1), np.take_along_axis(scores, kept, axis=1)


def _what_they_like(tastes: Tastes, user_index: IndexArray) -> _Scores:
    """Return (B, K) float64: users as the vectors that `_what_it_has` is multiplied with."""
    n = len(user_index)
    loyalty = np.zeros((n, len(DOMAINS) * BRANDS_PER_DOMAIN))
    np.put_along_axis(loyalty, tastes.favourite_brand[user_index], _LOYALTY, axis=1)
    tables = [getattr(tastes, name)[user_index].astype(np.float64) for name in FACETS]
    sensitivity = -tastes.price_sensitivity[user_index, None].astype(np.float64)
    hidden = _HIDDEN_SHARE * tastes.hidden[user_index].astype(np.float64)
    return np.hstack([*tables, loyalty, sensitivity, np.ones((n, 1)), hidden])


def _what_it_has(items: Properties, item_index: IndexArray) -> _Scores:
    """Return (M, K) float64: items as vectors, a one for each property they have."""
    rows = np.arange(len(item_index))
    tables = []
    for name, words in zip(FACETS, (TOPICS, STYLES, MATERIALS, ACCENTS, LEVELS, DEPARTMENTS), strict=True):
        table = np.zeros((len(rows), len(words)))
        table[rows, getattr(items, name)[item_index]] = 1.0
        tables.append(table)
    second = items.second_topic[item_index]
    has_second = second != PAD
    tables[0][rows[has_second], second[has_second]] += _SECOND_TOPIC
    brand = np.zeros((len(rows), len(DOMAINS) * BRANDS_PER_DOMAIN))
    brand[rows, items.brand[item_index]] = 1.0
    price = _relative_price(items.price[item_index]).astype(np.float64)
    quality = items.quality[item_index].astype(np.float64)
    return np.hstack([*tables, brand, price[:, None], quality[:, None], items.hidden[item_index]])


def _blocks(n: int, size: int) -> Iterator[tuple[int, int]]:
    for start in range(0, n, size):
        yield start, min(start + size, n)


def examination(n_ranks: int) -> FloatArray:
    """Return (n_ranks,) float32: the chance that rank 1, 2, … of a slate is looked at at all.

    Position-based model: 1 / rank^0.6.
    """
    return (1.0 / np.arange(1, n_ranks + 1, dtype=np.float32) ** 0.6).astype(np.float32)


def click_probability(liked: FloatArray) -> FloatArray:
    """Return the chance of a click on items in slates, given affinities.

    Args:
        liked: (B, N) float32 affinities, column ``k`` shown at rank ``k + 1``.

    Returns:
        (B, N) float32: examination(rank) × attraction, attraction = sigmoid(1.6 × affinity - 2).
    """
    return examination(liked.shape[1]) * attraction(liked)


def attraction(liked: FloatArray) -> FloatArray:
    """Return the chance of a click once an item is looked at."""
    return _sigmoid(1.6 * liked - 2.0)


def cart_probability(liked: FloatArray) -> FloatArray:
    """Return the chance that a viewed item goes into the cart."""
    return _sigmoid(1.1 * liked - 3.3)


def purchase_probability(liked: FloatArray) -> FloatArray:
    """Return the chance that an item in the cart is bought."""
    return _sigmoid(0.6 * liked - 0.9)


def rating_of(liked: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Draw ratings 1 to 5, rising with affinity."""
    return np.clip(np.round(1.9 + 0.9 * liked + rng.normal(0, 0.7, liked.shape)), 1, 5).astype(np.float32)


def _sigmoid(x: FloatArray) -> FloatArray:
    return (1.0 / (1.0 + np.exp(-x))).astype(np.float32)


def draw_clicks(liked: FloatArray, rng: np.random.Generator) -> BoolArray:
    """Draw clicks on (B, N) affinities of slates, each item for itself."""
    clicked: BoolArray = rng.random(liked.shape) < click_probability(liked)
    return clicked
