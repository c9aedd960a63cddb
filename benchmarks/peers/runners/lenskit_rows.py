"""LensKit: item neighbours, implicit ALS and EASE, through its top-N pipeline."""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
import pandas as pd
from exchange import (
    K,
    Questions,
    Split,
    Task,
    best_lists,
    chosen_on_validation,
    matrix_of,
    ndcg_at_10,
    ndcg_of_lists,
    told_of,
)
from lenskit.als import ImplicitMFScorer
from lenskit.batch import recommend
from lenskit.data import ItemList, RecQuery, from_interactions_df
from lenskit.knn import ItemKNNScorer
from lenskit.knn.ease import EASEScorer
from lenskit.pipeline import Pipeline, topn_pipeline
from lenskit.training import TrainingOptions

MODELS: dict[str, tuple[Any, list[dict[str, Any]]]] = {
    "itemknn": (
        ItemKNNScorer,
        [
            {"feedback": "implicit", "max_nbrs": 20},  # its default number
            {"feedback": "implicit", "max_nbrs": 20, "save_nbrs": 50},
        ],
    ),
    "als": (
        ImplicitMFScorer,
        [
            {},  # its defaults: 50 numbers, 10 epochs, weight 40
            {"embedding_size": 128, "epochs": 15, "weight": 20.0},
        ],
    ),
    "ease": (EASEScorer, [{"regularization": 100.0}, {"regularization": 500.0}]),
}
N_TO_CHOOSE = 2000
"""Validation users on whom settings are compared: LensKit answers one after the other."""
N_TO_TIME = 200
"""Queries on which its own call for EASE is timed."""


def main() -> None:
    warnings.filterwarnings("ignore")
    task = Task.of_command_line()
    scorer_class, grid = MODELS[task.row]
    few = task.split.validation.take(np.arange(min(N_TO_CHOOSE, len(task.split.validation))))

    def fit(**settings: Any) -> Pipeline:
        split = task.split
        table = pd.DataFrame({"user_id": split.train.row_of_item, "item_id": split.train.items})
        pipeline = topn_pipeline(scorer_class(**settings), n=K)
        pipeline.train(from_interactions_df(table), TrainingOptions(rng=task.seed))
        return pipeline

    def quality(pipeline: Pipeline) -> float:
        if task.row == "ease":
            return ndcg_at_10(few, ease_scores(pipeline, task.split, few))
        return ndcg_of_lists(few, ranked(pipeline, few, min(K, task.split.n_items))[0])

    best = chosen_on_validation(grid, fit, quality)
    asked, n = task.split.test, min(K, task.split.n_items)
    started = time.perf_counter()
    if task.row == "ease":
        lists = best_lists(asked, ease_scores(best.model, task.split, asked), task.split.n_items)
    else:
        lists = ranked(best.model, asked, n)
    told = told_of(best, time.perf_counter() - started, grid, "lenskit", "torch", "numpy", "scipy")
    if task.row == "ease":
        # Its pipeline multiplies the whole matrix for every single query, so the lists are made in blocks.
        timed = asked.take(np.arange(min(N_TO_TIME, len(asked))))
        started = time.perf_counter()
        ranked(best.model, timed, n)
        seconds = (time.perf_counter() - started) / len(timed) * len(asked)
        told["settings"]["ranked by"] = f"our blocks; its own call would take about {seconds:.0f} s"
    task.answer(lists, told)


def ranked(pipeline: Pipeline, asked: Questions, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Ask LensKit's batch call, in its default number of processes, for all lists."""
    items_of = pipeline.component("scorer").items.ids()
    held = asked.known.only(np.isin(asked.known.items, items_of))  # it refuses items that training lacks
    offsets, known = held.offsets, held.items
    queries = [
        RecQuery(user_id=int(user), history_items=ItemList(item_ids=known[offsets[row] : offsets[row + 1]]))
        for row, user in enumerate(asked.users)
    ]
    items = np.full((len(asked), n), -1, dtype=np.int32)
    scores = np.full((len(asked), n), -np.inf, dtype=np.float32)
    row_of_user = {int(user): row for row, user in enumerate(asked.users)}
    for key, listed in recommend(pipeline, queries, n=n):
        row, score = row_of_user[int(key.user_id)], listed.scores()
        has_opinion = ~np.isnan(score)
        items[row, : has_opinion.sum()] = listed.ids()[has_opinion]
        scores[row, : has_opinion.sum()] = score[has_opinion]
    return items, scores


def ease_scores(pipeline: Pipeline, split: Split, asked: Questions) -> Any:
    """Scores of its trained EASE for blocks of users: the same product, for many rows at once."""
    scorer = pipeline.component("scorer")
    known = scorer.items.ids().astype(np.int64)
    histories = matrix_of(asked.known, split.n_items)[:, known]

    def score(rows: np.ndarray) -> np.ndarray:
        scores = np.full((len(rows), split.n_items), -np.inf, dtype=np.float32)
        scores[:, known] = histories[rows] @ scorer.weights
        return scores

    return score


if __name__ == "__main__":
    main()
