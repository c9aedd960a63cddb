"""Several tasks learned at once against each learned alone, on the same rows, users resampled.

All runs have the same settings and seed, and stop by the same validation rows. With ``--groups validated``
each task is answered by the network that foretells it best for validation users that stopped no training;
networks that were learned alone on the way are those it is compared with. Usage::

    python benchmarks/labels/together.py films|videos [--groups validated] [--data FOLDER] --out FILE

A run that was ended goes on from the checkpoints beside FILE; delete them when it is done.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from measuring import differences, figures_of, judged, only, write, written

from data import FEEDBACK_CONTEXT, films, folder_of, text_vectors, videos
from zhiyin.data.labelled import LabelledExamples, split_by_time
from zhiyin.ranking.fitting import fit_ranker
from zhiyin.ranking.groups import alone_config, halves_by_user
from zhiyin.ranking.ranker import MultiTaskRanker
from zhiyin.ranking.reading import RankerData
from zhiyin.ranking.settings import RankerConfig

OF_FILMS: dict[str, Any] = {"training": {"max_epochs": 5}}
OF_VIDEOS: dict[str, Any] = {
    "context": FEEDBACK_CONTEXT,
    "n_experts": 6,
    "balance": {"name": "root"},
    "dropout": 0.2,
    "training": {"tokens_per_batch": 512, "max_epochs": 3},
}


NAME = MultiTaskRanker.name


def main() -> None:
    """Train together and alone, compare, write down."""
    asked = _arguments()
    vectors, settings = None, OF_VIDEOS
    if asked.what == "films":
        rows, dataset = films(folder_of("movielens-1m", asked.data))
        split = split_by_time(rows, validation=0.1, test=0.1)
        vectors, settings = text_vectors(dataset), OF_FILMS
    else:
        split = videos(folder_of("kuairand-pure", asked.data))
    config = RankerConfig(**settings, groups=asked.groups)
    kept = asked.out.with_suffix(".checkpoints")
    data = RankerData(split.train, split.validation, vectors, checkpoints=kept)
    ranker = fit_ranker(config, data, NAME)
    together = ranker.answer(ranker.reader.rows(split.test))
    if asked.groups == "validated":
        data = replace(data, validation=halves_by_user(split.validation)[0])
    outcome: dict[str, Any] = {"settings": {**settings, "groups": asked.groups}, "facts": ranker.facts}
    outcome["tasks"] = written(asked.out, "tasks")
    for place, task in enumerate(split.train.tasks):
        if task not in outcome["tasks"]:
            alone, seconds = _alone(config, data, split.test, place)
            outcome["tasks"][task] = {
                **_compared(split.test, task, together[:, place], alone),
                "alone_seconds": seconds,
            }
            write(asked.out, {"dataset": asked.what, "n_test": len(split.test), **outcome})


def _alone(
    config: RankerConfig, data: RankerData, test: LabelledExamples, place: int
) -> tuple[np.ndarray, float]:
    """Learn one task, or take it from the checkpoint of choosing groups; return what it says of the test."""
    assert data.validation is not None
    tasks = data.train.tasks[place : place + 1]
    of_task = replace(data, train=only(data.train, tasks), validation=only(data.validation, tasks))
    ranker = fit_ranker(alone_config(config), of_task, f"{NAME}-alone-{place}")
    told = ranker.answer(ranker.reader.rows(only(test, tasks)))
    return told[:, 0], ranker.facts["training_seconds"]


def _compared(test: LabelledExamples, task: str, together: np.ndarray, alone: np.ndarray) -> dict[str, Any]:
    first = judged(test, task, together)
    second = first if np.array_equal(together, alone) else judged(test, task, alone)
    difference = differences(first, second)
    for name, found in difference.items():
        if name != "by_history":
            print(f"{task} {name}: {found['first']:.4f} against {found['second']:.4f}, ", end="")
            print(f"{found['value']:+.4f} [{found['low']:+.4f}, {found['high']:+.4f}]", flush=True)
    return {"together": figures_of(first), "alone": figures_of(second), "together_minus_alone": difference}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["films", "videos"])
    parser.add_argument("--groups", choices=["one", "validated"], default="one")
    parser.add_argument("--data")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
