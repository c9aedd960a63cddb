"""Several tasks learned at once against each learned alone, on the same rows, users resampled.

All runs have the same settings and seed, and stop by their own validation rows. Usage::

    python benchmarks/labels/together.py films|videos [--data FOLDER] --out FILE
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from measuring import differences, figures_of, judged, only, write, written

from data import FEEDBACK_CONTEXT, films, folder_of, text_vectors, videos
from zhiyin.data.labelled import LabelledSplit, split_by_time
from zhiyin.domain import FloatArray
from zhiyin.ranking.fitting import RankerData
from zhiyin.ranking.ranker import MultiTaskRanker

OF_FILMS: dict[str, Any] = {"training": {"max_epochs": 5}}
ALONE: dict[str, Any] = {"balance": "scaled", "n_experts": 1}
"""With one task, the scale of its loss only says how strong shrinkage is, and there is nothing to mix."""
OF_VIDEOS: dict[str, Any] = {
    "context": FEEDBACK_CONTEXT,
    "n_experts": 6,
    "balance": "root",
    "dropout": 0.2,
    "training": {"tokens_per_batch": 512, "max_epochs": 3},
}


def main() -> None:
    """Train together and alone, compare, write down."""
    asked = _arguments()
    vectors, settings = None, OF_VIDEOS
    if asked.what == "films":
        rows, dataset = films(folder_of("movielens-1m", asked.data))
        split, vectors, settings = (
            split_by_time(rows, validation=0.1, test=0.1),
            text_vectors(dataset),
            OF_FILMS,
        )
    else:
        split = videos(folder_of("kuairand-pure", asked.data))
    tasks = split.train.tasks
    kept = asked.out.with_suffix(".npz")
    outcome: dict[str, Any] = {"settings": settings, "tasks": written(asked.out, "tasks")}
    if outcome["tasks"] and kept.exists():  # an earlier run was ended before its last task
        together = np.load(kept)["together"]
        outcome |= {name: written(asked.out, name) for name in ("balance", "together_seconds")}
    else:
        together, facts = _told(settings, split, tasks, vectors)
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(kept, together=together)
        outcome |= {"balance": facts["task_weights"], "together_seconds": facts["training_seconds"]}
    for place, task in enumerate(tasks):
        if task in outcome["tasks"]:
            continue
        alone, of_alone = _told({**settings, **ALONE}, split, (task,), vectors)
        first, second = judged(split.test, task, together[:, place]), judged(split.test, task, alone[:, 0])
        difference = differences(first, second)
        outcome["tasks"][task] = {
            "together": figures_of(first),
            "alone": figures_of(second),
            "together_minus_alone": difference,
            "alone_seconds": of_alone["training_seconds"],
        }
        for name, found in difference.items():
            if name != "by_history":
                print(f"{task} {name}: {found['first']:.4f} against {found['second']:.4f}, ", end="")
                print(f"{found['value']:+.4f} [{found['low']:+.4f}, {found['high']:+.4f}]", flush=True)
        write(asked.out, {"dataset": asked.what, "n_test": len(split.test), **outcome})


def _told(
    settings: dict[str, Any], split: LabelledSplit, tasks: tuple[str, ...], vectors: FloatArray | None
) -> tuple[np.ndarray, dict[str, Any]]:
    ranker = MultiTaskRanker(**settings)
    ranker.fit(RankerData(only(split.train, tasks), only(split.validation, tasks), vectors))
    assert ranker.trained is not None
    return ranker.predict(only(split.test, tasks)), ranker.trained.facts


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["films", "videos"])
    parser.add_argument("--data")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
