"""A tiny shop that anybody can hold in the head: half of its items are tea, and so are half of its users."""

from __future__ import annotations

import numpy as np
import polars as pl

from zhiyin.data.dataset import Dataset
from zhiyin.domain import Catalogue, Histories, Vocabulary

N_ITEMS = 30
N_USERS = 40


def tea_shop() -> Dataset:
    """Return the shop.

    Items ``i0`` to ``i29``: coffee where the number is even, tea where it is odd; the price is the number.
    Users ``u0`` to ``u39``: coffee drinkers where the number is even. Each has viewed six of the fifteen
    items of their taste, so that what they lack of it is the right answer.
    """
    numbers = np.arange(N_ITEMS)
    is_tea = numbers % 2 == 1
    table = pl.DataFrame(
        {
            "item_id": [f"i{number}" for number in numbers],
            "title": [f"{'Tea' if tea else 'Coffee'} number {n}" for n, tea in enumerate(is_tea)],
            "categories": [["Drinks", "Tea" if tea else "Coffee"] for tea in is_tea],
            "brand": [f"brand {number % 3}" for number in numbers],
            "price": numbers.astype(np.float64),
        }
    )
    rng = np.random.default_rng(0)
    taken = [rng.permutation(np.arange(user % 2, N_ITEMS, 2))[:6] for user in range(N_USERS)]
    return Dataset(
        "tea shop",
        Catalogue.from_table(table),
        Vocabulary([f"u{user}" for user in range(N_USERS)]),
        Histories.of_items(taken),
        event_kinds=("view", "purchase"),
        event_weights=np.ones(2, dtype=np.float32),
    )
