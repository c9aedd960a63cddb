"""What it costs each source to take in events at once, one by one and in portions.

Usage::  python benchmarks/service/absorbing.py [--data FOLDER] [--only amazon-beauty ...]
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np

from zhiyin.contracts import CandidateSource, Steps, TrainingData
from zhiyin.data.dataset import Dataset
from zhiyin.data.reading import read_checked
from zhiyin.sources.item_graph.source import ItemGraph
from zhiyin.sources.item_neighbours import ItemNeighbours
from zhiyin.sources.popularity import Popularity

DATA = Path(os.environ.get("ZHIYIN_DATA", Path(__file__).parents[3] / "shared" / "data"))
N_EVENTS, PORTIONS = 20_000, (1, 32, 1_000)


def divided(dataset: Dataset) -> tuple[Dataset, np.ndarray]:
    """The last event of many users is new, everything else is old."""
    histories = dataset.histories
    last = histories.offsets[1:][histories.lengths > 1] - 1
    chosen = np.random.default_rng(0).permutation(last)[:N_EVENTS]
    keep = np.ones(histories.n_events, dtype=np.bool_)
    keep[chosen] = False
    return dataset.with_events(keep), chosen


def seconds(source: CandidateSource, dataset: Dataset, positions: np.ndarray, portion: int) -> float:
    """Seconds an event, making the steps included."""
    n = min(len(positions), 2_000 if portion == 1 else len(positions))
    parts = [positions[start : start + portion] for start in range(0, n, portion)]
    touched = [dataset.histories.row_of_event[part] for part in parts]
    rows = [dataset.histories.take(users) for users in touched]
    started = time.perf_counter()
    for histories in rows:
        source.absorb(Steps.of_histories(histories, histories.offsets[1:] - 1))
    return (time.perf_counter() - started) / n


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--only", nargs="*", default=["amazon-beauty"])
    options = parser.parse_args()
    print("| data | source | one by one | in portions of 32 | of 1,000 |\n| --- | --- | --- | --- | --- |")
    for name in options.only:
        dataset, _ = read_checked(str(options.data / name))
        old, positions = divided(dataset)
        for source in (Popularity(), ItemGraph(choose_on_validation=False), ItemNeighbours()):
            source.fit(TrainingData(old, language=None))
            cells = [f"{seconds(source, dataset, positions, portion) * 1e6:.1f} µs" for portion in PORTIONS]
            print(f"| {name} | {source.name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
