"""The simulated shop as one object: its dataset, and the truth behind it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from zhiyin.data.dataset import Dataset
from zhiyin.data.shop import truth
from zhiyin.data.shop.behaviour import EVENT_KINDS, Simulation
from zhiyin.data.shop.catalogue import build_catalogue, build_facts
from zhiyin.data.shop.config import ShopConfig
from zhiyin.data.shop.log import context_of, event_columns, histories_of, impression_table, interaction_table
from zhiyin.data.shop.properties import Properties, draw_properties
from zhiyin.data.shop.story import describe_user
from zhiyin.data.shop.users import Tastes, draw_tastes, user_ids, user_table
from zhiyin.data.shop.writing import write_shop
from zhiyin.domain import PAD, BoolArray, FloatArray, IndexArray, Vocabulary
from zhiyin.domain.errors import RequestError

EVENT_WEIGHTS = {"view": 1.0, "cart": 2.0, "purchase": 4.0, "rating": 1.0}
"""What one event is worth; a rating follows a purchase that was counted already."""
POSITIVE_VALUE = 4.0

_DEFAULT = ShopConfig()


@dataclass(frozen=True, eq=False)
class Shop:
    """A simulated shop: nothing in it is real, and everything about it is known.

    Attributes:
        config: What it was made from.
        dataset: What a recommender may see.
        interactions: The events as a table in the order of time.
        items: Latent properties of the items.
        tastes: Latent tastes of the users.
    """

    config: ShopConfig
    dataset: Dataset
    interactions: pl.DataFrame
    items: Properties
    tastes: Tastes

    def affinity(self, user_index: IndexArray, item_index: IndexArray) -> FloatArray:
        """Return how much users truly like items: the expected utility of having them.

        Args:
            user_index: (B,) int32.
            item_index: (B, N) int32, -1 pads.

        Returns:
            (B, N) float32, about -4 to 5; NaN for padding.

        Raises:
            RequestError: for users or items that do not exist.
        """
        self._check(user_index, item_index)
        is_item = item_index != PAD
        known = np.where(is_item, item_index, 0)
        liked = truth.affinity(self.tastes, self.items, user_index, known)
        return np.where(is_item, liked, np.float32(np.nan))

    def best_items(self, user_index: IndexArray, n: int) -> IndexArray:
        """Return the ``n`` items each of (B,) users likes best, as (B, n) int32, best first."""
        self._check(user_index, np.empty((len(user_index), 0), dtype=np.int32))
        return truth.best_items(self.tastes, self.items, user_index, n)

    def click_probability(self, user_index: IndexArray, item_index: IndexArray) -> FloatArray:
        """Return the chance of a click on each place of slates, for items the users have not touched yet.

        In the log nobody clicks what they touched before; whoever replays the log must leave that out.

        Args:
            user_index: (B,) int32.
            item_index: (B, N) int32, column ``k`` at rank ``k + 1``, -1 pads.

        Returns:
            (B, N) float32, 0 for padding: 1 / rank^.6 × sigmoid(1.6 × affinity - 2).
        """
        return np.nan_to_num(truth.click_probability(self.affinity(user_index, item_index)), nan=0.0)

    def expected_clicks(self, user_index: IndexArray, item_index: IndexArray) -> FloatArray:
        """Return (B,) float32: the expected number of clicks on each (B, N) slate."""
        clicks: FloatArray = self.click_probability(user_index, item_index).sum(axis=1, dtype=np.float32)
        return clicks

    def regret(self, user_index: IndexArray, item_index: IndexArray) -> FloatArray:
        """Return (B,) float32: clicks missed, as expected, by not showing each user's best slate."""
        best = self.best_items(user_index, item_index.shape[1])
        return self.expected_clicks(user_index, best) - self.expected_clicks(user_index, item_index)

    def respond(self, user_index: IndexArray, item_index: IndexArray, seed: int) -> BoolArray:
        """Let users look at slates.

        Args:
            user_index: (B,) int32.
            item_index: (B, N) int32, column ``k`` at rank ``k + 1``, -1 pads.
            seed: Of chance; the same slates and seed give the same clicks.

        Returns:
            (B, N) bool, which items were clicked.
        """
        chance = self.click_probability(user_index, item_index)
        clicked: BoolArray = np.random.default_rng(seed).random(chance.shape) < chance
        return clicked

    def describe_user(self, user_index: int) -> str:
        """Say in a sentence what a user truly likes."""
        self._check(np.array([user_index], dtype=np.int32), np.empty((1, 0), dtype=np.int32))
        return describe_user(self.tastes, user_index)

    def write(self, folder: str | Path) -> Path:
        """Write a data folder that `zhiyin.data.reading.read_dataset` reads; returns it.

        Raises:
            DataError: when it cannot be written.
        """
        return write_shop(Path(folder), self.interactions, self.dataset)

    def _check(self, user_index: IndexArray, item_index: IndexArray) -> None:
        for name, index, lowest, n in (
            ("user", user_index, 0, self.dataset.n_users),
            ("item", item_index, PAD, self.dataset.n_items),
        ):
            if index.size and not lowest <= index.min() <= index.max() < n:
                worst = index.min() if index.min() < lowest else index.max()
                raise RequestError(
                    f"The shop has no {name} of index {worst}.",
                    possible=f"Its {name}s are 0 to {n - 1}.",
                )


def simulate_shop(config: ShopConfig = _DEFAULT) -> Shop:
    """Open a simulated shop and let its users come and go; the same settings give the same shop."""
    seeds = np.random.SeedSequence(config.seed).spawn(5)
    for_items, for_texts, for_tastes, for_users, for_days = (np.random.default_rng(seed) for seed in seeds)
    items = draw_properties(config, for_items)
    catalogue = build_catalogue(items, for_texts)
    tastes = draw_tastes(config, items, for_tastes)
    records = Simulation(config, items, tastes, for_days).run()
    events = event_columns(records)
    users = Vocabulary(user_ids(config.n_users))
    dataset = Dataset(
        name="Simulated shop",
        catalogue=catalogue,
        users=users,
        histories=histories_of(events, config.n_users),
        event_kinds=EVENT_KINDS,
        event_weights=np.array([EVENT_WEIGHTS[kind] for kind in EVENT_KINDS], dtype=np.float32),
        positive_value=POSITIVE_VALUE,
        context=context_of(events),
        user_table=user_table(tastes, config, for_users),
        facts=build_facts(items, catalogue),
        impressions=impression_table(records, users, catalogue.items),
    )
    return Shop(config, dataset, interaction_table(events, users, catalogue.items), items, tastes)
