"""What slates bring when they are put in the order of their worth, in a shop whose truth is known.

    python benchmarks/labels/worth.py --seed 0 --seed 1 --seed 2

The simulated shop knows how likely each user clicks, puts into the cart and buys. The ranker learns from the
log what is bought in the end; slates of ten for every test user are then judged by that truth. Rows:
the merged scores as they are; price × chance without a ranker, to see what the ranker adds; the order of
bought × chance; that of bought × price × chance.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from zhiyin.contracts import CHANCE
from zhiyin.data.shop.config import ShopConfig
from zhiyin.data.shop.shop import Shop, simulate_shop
from zhiyin.data.shop.truth import cart_probability, purchase_probability
from zhiyin.data.splits import Split, leave_last_out
from zhiyin.domain import PAD, Candidates, IndexArray
from zhiyin.experiments.ranker_figures import ranker_figures
from zhiyin.experiments.training import fit_pipeline
from zhiyin.pipeline.recipes import recipe

BOUGHT = {"ranker.tasks.bought.column": "event", "ranker.tasks.bought.yes_words": '["purchase"]'}
ORDERS: dict[str, dict[str, Any]] = {
    "merged score": {},
    "price x chance": {},
    "bought x chance": {"ranker.tasks.bought.worth": 1},
    "bought x price x chance": {"ranker.tasks.bought.worth": 1, "ranker.tasks.bought.times": "price"},
}
_PLACES, _CANDIDATES = 10, 100


def main() -> None:
    """Print one row for each order and seed, then means with their spread over users."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", action="append", type=int)
    parser.add_argument("--recipe", default="fast")
    parser.add_argument("--users", type=int, default=3000)
    parser.add_argument("--items", type=int, default=3000)
    given = parser.parse_args()
    print("| seed | order | clicks | purchases | takings | minus merged score | R@10 | ranking s |")
    print("| --- | --- | ---: | ---: | ---: | --- | ---: | ---: |")
    for seed in given.seed or [0]:
        shop = simulate_shop(ShopConfig(seed=seed, n_users=given.users, n_items=given.items))
        _compare(shop, given.recipe, seed)


def _compare(shop: Shop, name: str, seed: int) -> None:
    split = leave_last_out(shop.dataset)
    floor = None
    for order, settings in ORDERS.items():
        pipeline = fit_pipeline(recipe(name, {**BOUGHT, **settings}), split, seed=seed).pipeline
        started = time.perf_counter()
        if order == "price x chance":
            slates = _by_price(shop, pipeline.recommend(split.test.queries, _CANDIDATES))
        else:
            slates = pipeline.recommend(split.test.queries, _PLACES).item_index
        seconds = time.perf_counter() - started
        brought = _brought(shop, split, slates)
        floor = brought["takings"] if floor is None else floor
        hits = (slates == np.asarray(split.test.targets.values)[:, None]).any(axis=1).mean()
        told = " | ".join(f"{brought[what].mean():.4f}" for what in ("clicks", "purchases", "takings"))
        gain = _interval(brought["takings"] - floor)
        print(f"| {seed} | {order} | {told} | {gain} | {hits:.4f} | {seconds:.2f} |", flush=True)
    figures = ranker_figures(pipeline)[0].figures
    print(f"bought: AUC {figures['roc_auc'].value:.4f}, log-loss {figures['log_loss'].value:.4f}", flush=True)


def _by_price(shop: Shop, candidates: Candidates) -> IndexArray:
    price = np.append(shop.dataset.catalogue.table["price"].to_numpy(), 0.0)[candidates.item_index]
    worth = np.where(candidates.is_item, candidates.column(CHANCE) * price, -np.inf)
    order = np.argsort(-worth, axis=1, kind="stable")[:, :_PLACES]
    return np.take_along_axis(candidates.item_index, order, axis=1)


def _brought(shop: Shop, split: Split, slates: IndexArray) -> dict[str, np.ndarray]:
    """Return what each user is truly expected to click, buy and pay."""
    users = split.test.queries.user_index
    liked = shop.affinity(users, slates)
    price = np.append(shop.dataset.catalogue.table["price"].to_numpy(), 0.0)[slates]
    clicks = shop.click_probability(users, slates)
    purchases = np.nan_to_num(clicks * cart_probability(liked) * purchase_probability(liked))
    purchases = np.where(slates == PAD, 0.0, purchases)
    return {
        "clicks": clicks.sum(axis=1),
        "purchases": purchases.sum(axis=1),
        "takings": (purchases * price).sum(axis=1),
    }


def _interval(gains: np.ndarray) -> str:
    half = 1.96 * gains.std() / np.sqrt(len(gains))
    return f"{gains.mean():+.4f} [{gains.mean() - half:+.4f}, {gains.mean() + half:+.4f}]"


if __name__ == "__main__":
    main()
