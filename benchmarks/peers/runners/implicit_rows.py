"""implicit: alternating least squares and item-item neighbours, through its own batch call."""

from __future__ import annotations

import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # what implicit asks for: its own threads do the work

import time
from typing import Any

import numpy as np
from exchange import K, Questions, Split, Task, chosen_on_validation, matrix_of, ndcg_of_lists, told_of
from implicit.als import AlternatingLeastSquares
from implicit.cpu.matrix_factorization_base import MatrixFactorizationBase
from implicit.nearest_neighbours import BM25Recommender, CosineRecommender

MODELS = {
    "als": (
        AlternatingLeastSquares,
        [
            {"factors": 100},  # its defaults
            {"factors": 100, "alpha": 20.0},
            {"factors": 256, "alpha": 20.0, "regularization": 0.1},
        ],
    ),
    "cosine": (CosineRecommender, [{"K": 20}, {"K": 100}, {"K": 500}]),
    "bm25": (BM25Recommender, [{"K": 20}, {"K": 100}, {"K": 500}, {"K": 100, "K1": 0.5, "B": 0.5}]),
}
AT_ONCE = 1000
FILTERED = -1e30
"""Scores below are marks of filtered items."""


def main() -> None:
    task = Task.of_command_line()
    model_class, grid = MODELS[task.row]
    seed = {"random_state": task.seed} if task.row == "als" else {}

    def fit(**settings: Any) -> Any:
        model = model_class(**settings, **seed)
        model.fit(task.split.train_matrix(), show_progress=False)
        return model

    def quality(model: Any) -> float:
        return ndcg_of_lists(task.split.validation, ranked(model, task.split, task.split.validation)[0])

    best = chosen_on_validation(grid, fit, quality)
    started = time.perf_counter()
    lists = ranked(best.model, task.split, task.split.test)
    task.answer(lists, told_of(best, time.perf_counter() - started, grid, "implicit", "numpy", "scipy"))


def ranked(model: Any, split: Split, asked: Questions) -> tuple[np.ndarray, np.ndarray]:
    """Ask for all lists. User vectors are computed anew from the histories asked for."""
    histories = matrix_of(asked.known, split.n_items)
    n = min(K, split.n_items)
    again = {"recalculate_user": True} if isinstance(model, MatrixFactorizationBase) else {}
    items = np.full((len(asked), n), -1, dtype=np.int32)
    scores = np.full((len(asked), n), -np.inf, dtype=np.float32)
    for start in range(0, len(asked), AT_ONCE):
        rows = slice(start, min(start + AT_ONCE, len(asked)))
        items[rows], scores[rows] = model.recommend(asked.users[rows], histories[rows], N=n, **again)
    nothing = (scores < FILTERED) | (scores == 0) | (items < 0)
    return np.where(nothing, -1, items), np.where(nothing, np.float32(-np.inf), scores)


if __name__ == "__main__":
    main()
