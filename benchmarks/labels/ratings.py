"""Root mean squared error of ratings in five parts drawn at random, as published rows have it.

Length of training and settings were chosen on rows held back from what the first part learns from. Usage::

    python benchmarks/labels/ratings.py [--data FOLDER] [--tasks rating click] [--without-text]
        [--without-order] --out FILE
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from measuring import write, written

from data import films, folder_of, text_vectors
from zhiyin.data.random_parts import split_at_random
from zhiyin.evaluation.machine import peak_memory_mb
from zhiyin.ranking.ranker import MultiTaskRanker
from zhiyin.ranking.reading import RankerData

N_PARTS = 5
SETTINGS: dict[str, Any] = {"training": {"epochs_without_validation": 5}}


def main() -> None:
    """Train once for each part and write the errors down."""
    asked = _arguments()
    folder = folder_of("movielens-1m", asked.data)
    rows, dataset = films(folder, tuple(asked.tasks), shuffled=asked.without_order)
    vectors = None if asked.without_text else text_vectors(dataset)
    parts: dict[str, Any] = written(asked.out, "parts")
    for tested in range(N_PARTS):
        if str(tested) in parts:
            continue
        split = split_at_random(rows, n_parts=N_PARTS, tested=tested, validation=0.0, seed=0)
        ranker = MultiTaskRanker(**SETTINGS)
        started = time.perf_counter()
        ranker.fit(RankerData(split.train, None, vectors, seed=tested))
        seconds = time.perf_counter() - started
        told = ranker.predict(split.test)[:, 0].astype(np.float64)
        error = told - split.test.labels[:, 0]
        figures = {"rmse": float(np.sqrt(np.mean(error**2))), "mae": float(np.abs(error).mean())}
        parts[str(tested)] = {**figures, "train_seconds": seconds, "peak_memory_mb": peak_memory_mb()}
        print(f"part {tested}: RMSE {figures['rmse']:.4f}, {seconds:.0f} s", flush=True)
        errors = [part["rmse"] for part in parts.values()]
        mean = {"rmse_mean": float(np.mean(errors)), "rmse_deviation": float(np.std(errors))}
        reads = {"tasks": asked.tasks, "text": vectors is not None, "order": not asked.without_order}
        outcome = {"dataset": "movielens-1m", **reads, "settings": SETTINGS, **mean, "parts": parts}
        write(asked.out, outcome)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data")
    parser.add_argument("--tasks", nargs="+", default=["rating", "click"], choices=["rating", "click"])
    parser.add_argument("--without-text", action="store_true")
    parser.add_argument("--without-order", action="store_true", help="shuffle each user's rows first")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
