"""Our recipes, and the sequence transformer alone, under the same clock as the peers."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from exchange import K, Task, versions

from zhiyin.contracts import SCORE
from zhiyin.data.reading import read_dataset
from zhiyin.data.splits import leave_last_out
from zhiyin.domain import Examples
from zhiyin.experiments.training import Trained, fit_pipeline
from zhiyin.pipeline.recipes import recipe
from zhiyin.pipeline.settings import PipelineConfig

ALONE: dict[str, PipelineConfig] = {
    "sequence": PipelineConfig(recipe="sequence", sources={"sequence": {}}),
    "sequence-ids": PipelineConfig(recipe="sequence-ids", sources={"sequence": {"use_text": False}}),
}
AT_ONCE = 512


def main() -> None:
    task = Task.of_command_line()
    split = leave_last_out(read_dataset(task.data))
    config = limited(ALONE.get(task.row) or recipe(task.row), task)
    trained = fit_pipeline(config, split, seed=task.seed)
    started = time.perf_counter()
    n = min(K, split.train.n_items)
    lists, scores = ranked(trained, split.test, n)
    rank_seconds = time.perf_counter() - started
    task.answer(
        (lists, scores),
        {
            "fit_seconds": trained.fit_seconds,
            "rank_seconds": rank_seconds,
            "settings": {"sources": ", ".join(config.sources)},
            "curve": curve_of(trained),
            "versions": versions("zhiyin", "torch", "numpy", "scipy"),
        },
    )


def ranked(trained: Trained, asked: Examples, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Ask for all lists."""
    lists = np.empty((len(asked), n), dtype=np.int32)
    scores = np.empty((len(asked), n), dtype=np.float32)
    for number, part in enumerate(asked.chunks(AT_ONCE)):
        rows = slice(number * AT_ONCE, number * AT_ONCE + len(part))
        told = trained.pipeline.recommend(part.queries, n).padded(n)
        lists[rows], scores[rows] = told.item_index, told.column(SCORE)
    return lists, scores


def limited(config: PipelineConfig, task: Task) -> PipelineConfig:
    """Give the transformer the same caps as the peers."""
    if "sequence" not in config.sources:
        return config
    plain = config.model_dump()
    training = plain["sources"]["sequence"].setdefault("training", {})
    training |= {"max_minutes": task.minutes}
    if task.max_epochs < training.get("max_epochs", 60):
        training["max_epochs"] = task.max_epochs
    return PipelineConfig.parse(plain, where="pipeline")


def curve_of(trained: Trained) -> list[dict[str, Any]]:
    """Return the epochs of the transformer alone; the rest of the fit counts as spent before the first.

    Its clock starts when the loop does. Encoding of texts comes before, fitting of the merge after; both are
    put before, which makes every figure of ours too late rather than too early.
    """
    if len(trained.pipeline.sources) > 1:
        return []
    epochs = trained.pipeline.sources[0].state().facts.get("learning_curve", {}).get("epochs", [])
    outside = trained.fit_seconds - epochs[-1]["seconds"] if epochs else 0.0
    return [
        {"epoch": epoch["epoch"], "seconds": epoch["seconds"] + outside, "validation": epoch["validation"]}
        for epoch in epochs
    ]


if __name__ == "__main__":
    main()
