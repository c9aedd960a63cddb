"""Do slates in the order of their worth hold less that users dislike?

    python benchmarks/labels/liked.py movielens-1m --recipe fast --seed 0 --seed 1 --seed 2

Leave-last-out: the last item of every user was rated. R@10 of the targets that were liked (a rating of 4 or
more) and of those that were not, with the merged scores as they are and with ``ranker.tasks.liked.worth=1``.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np

from zhiyin.data.dataset import Dataset
from zhiyin.data.reading import read_dataset
from zhiyin.data.splits import Split, leave_last_out
from zhiyin.experiments.ranker_figures import ranker_figures
from zhiyin.experiments.training import fit_pipeline
from zhiyin.pipeline.recipes import recipe

LIKED_FROM = 4.0
_PLACES = 10
_RESAMPLES = 1000


def main() -> None:
    """Print one row for each seed and order."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ZHIYIN_DATA", "../shared/data")))
    parser.add_argument("--recipe", default="fast")
    parser.add_argument("--seed", action="append", type=int)
    given = parser.parse_args()
    dataset = read_dataset(given.data / given.dataset)
    split = leave_last_out(dataset)
    is_liked = _target_values(dataset, split) >= LIKED_FROM
    print(f"{len(is_liked):,} users, of whom {is_liked.mean():.1%} liked their last item")
    print("| seed | order | R@10 | liked | not liked | minus, liked | minus, not liked | fit s | ranking s |")
    print("| --- | --- | ---: | ---: | ---: | --- | --- | ---: | ---: |")
    for seed in given.seed or [0]:
        _compare(split, is_liked, given.recipe, seed)


def _compare(split: Split, is_liked: np.ndarray, name: str, seed: int) -> None:
    before = None
    settings = {"ranker.tasks.liked.column": "value", "ranker.tasks.liked.yes_from": LIKED_FROM}
    for order, worth in (("merged score", 0.0), ("liked x chance", 1.0)):
        config = recipe(name, {**settings, "ranker.tasks.liked.worth": worth})
        trained = fit_pipeline(config, split, seed=seed)
        started = time.perf_counter()
        slates = trained.pipeline.recommend(split.test.queries, _PLACES).item_index
        seconds = time.perf_counter() - started
        hit = (slates == np.asarray(split.test.targets.values)[:, None]).any(axis=1)
        before = hit if before is None else before
        found = " | ".join(f"{hits.mean():.4f}" for hits in (hit, hit[is_liked], hit[~is_liked]))
        gains = " | ".join(_difference(hit[some], before[some]) for some in (is_liked, ~is_liked))
        costs = f"{trained.fit_seconds:.0f} | {seconds:.2f}"
        print(f"| {seed} | {order} | {found} | {gains} | {costs} |", flush=True)
    figures = ranker_figures(trained.pipeline)[0].figures
    print(
        "liked: " + ", ".join(f"{name} {figures[name].value:.4f}" for name in ("roc_auc", "log_loss", "gauc"))
    )


def _target_values(dataset: Dataset, split: Split) -> np.ndarray:
    """Return (B,) what each test user thought of the target."""
    events, n_items = dataset.histories, dataset.n_items
    pairs, first = np.unique(events.row_of_event * n_items + events.item_index, return_index=True)
    asked = split.test.queries.user_index.astype(np.int64) * n_items + np.asarray(split.test.targets.values)
    return events.value[first[np.searchsorted(pairs, asked)]]


def _difference(hit: np.ndarray, before: np.ndarray) -> str:
    gains = hit.astype(np.float64) - before
    drawn = np.random.default_rng(0).choice(gains, size=(_RESAMPLES, len(gains))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{gains.mean():+.4f} [{low:+.4f}, {high:+.4f}]"


if __name__ == "__main__":
    main()
