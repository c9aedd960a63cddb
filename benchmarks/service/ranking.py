"""What one slate costs inside the process: milliseconds of `Pipeline.recommend` at several batch sizes.

    python benchmarks/service/ranking.py BUNDLE [--batches 1,8,32,64] [--rounds 60] [--threads 1]

Asks for known users, drawn at random, with the histories the bundle remembers. The table holds milliseconds
of processor time a query (median over the rounds), the fastest tenth (what a busy machine would need if it
were idle), wall time, and the part of each stage in its fastest tenth: every source's reading and ranking
(`ask`, `best`), its scores for the candidates of all (`at`), and what joins them. Time between the stages is
`other`.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zhiyin.domain import Queries
from zhiyin.pipeline import gather
from zhiyin.pipeline.bundle import load_bundle
from zhiyin.pipeline.pipeline import Pipeline

N_PLACES = 10


class Stages:
    """Milliseconds by stage, of the calls that were wrapped."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)

    def timed(self, stage: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return the call, its processor time added to a stage."""

        def wrapped(*arguments: Any, **named: Any) -> Any:
            start = time.thread_time()
            try:
                return call(*arguments, **named)
            finally:
                self.spent[stage] += 1000 * (time.thread_time() - start)

        return wrapped

    def watch(self, pipeline: Pipeline) -> None:
        """Time every source and what joins them."""
        for source in pipeline.sources:
            source.ask = self._asking(source.name, source.ask)
        pipeline.merge.apply = self.timed("merge", pipeline.merge.apply)
        gather._each_once = self.timed("union", gather._each_once)

    def _asking(self, name: str, ask: Callable[..., Any]) -> Callable[..., Any]:
        timed = self.timed(f"{name} ask", ask)

        def wrapped(queries: Queries) -> Any:
            return _Watched(timed(queries), name, self)

        return wrapped


class _Watched:
    def __init__(self, opinion: Any, name: str, stages: Stages) -> None:
        self.best = stages.timed(f"{name} best", opinion.best)
        self.at = stages.timed(f"{name} at", opinion.at)


def batches(pipeline: Pipeline, size: int, n: int) -> list[Queries]:
    """Draw ``n`` batches of known users."""
    random = np.random.default_rng(size)
    drawn = []
    for _ in range(n):
        rows = random.integers(0, len(pipeline.histories), size)
        histories = pipeline.histories.take(rows)
        drawn.append(Queries(rows.astype(np.int32), histories, Queries.of_histories(histories).timestamp))
    return drawn


def measured(pipeline: Pipeline, asked: list[Queries]) -> tuple[float, float, float]:
    """Return milliseconds a batch: median and fastest tenth of processor time, median of wall time."""
    for queries in asked[:3]:
        pipeline.recommend(queries, N_PLACES)
    processor, wall = [], []
    for queries in asked:
        start = time.thread_time(), time.perf_counter()
        pipeline.recommend(queries, N_PLACES)
        processor.append(1000 * (time.thread_time() - start[0]))
        wall.append(1000 * (time.perf_counter() - start[1]))
    return float(np.median(processor)), float(np.quantile(processor, 0.1)), float(np.median(wall))


def by_stage(pipeline: Pipeline, stages: Stages, asked: list[Queries]) -> dict[str, float]:
    """Return the fastest tenth of the milliseconds of each stage of a batch."""
    rounds = []
    for queries in asked:
        stages.spent.clear()
        start = time.thread_time()
        pipeline.recommend(queries, N_PLACES)
        whole = 1000 * (time.thread_time() - start)
        rounds.append({**stages.spent, "other": whole - sum(stages.spent.values())})
    return {stage: float(np.quantile([spent[stage] for spent in rounds], 0.1)) for stage in rounds[-1]}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--batches", default="1,8,32,64")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    start = time.perf_counter()
    pipeline = load_bundle(options.bundle)
    print(
        f"{options.bundle}: {len(pipeline.catalogue_or_raise()):,} items, {len(pipeline.users):,} users, "
        f"loaded in {time.perf_counter() - start:.1f} s, {options.threads} thread(s)"
    )
    sizes = [int(size) for size in options.batches.split(",")]
    asked = {size: batches(pipeline, size, options.rounds) for size in sizes}
    print(f"\n{'B':>4} {'ms/query':>9} {'fastest':>8} {'wall':>8} {'ms/batch':>9}")
    for size in sizes:
        median, fastest, wall = measured(pipeline, asked[size])
        print(f"{size:>4} {median / size:>9.3f} {fastest / size:>8.3f} {wall / size:>8.3f} {median:>9.2f}")
    stages = Stages()
    stages.watch(pipeline)
    columns = {size: by_stage(pipeline, stages, asked[size]) for size in sizes}
    print(f"\n{'milliseconds a batch':<28}" + "".join(f"{f'B={size}':>9}" for size in sizes))
    for stage in columns[sizes[0]]:
        print(f"  {stage:<26}" + "".join(f"{columns[size].get(stage, 0.0):>9.3f}" for size in sizes))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\npeak memory {peak:,.0f} MB")


if __name__ == "__main__":
    main()
