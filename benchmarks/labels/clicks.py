"""Clicks on films (four stars and more): the ranker beside matrix factorisation, DeepFM and a transformer.

The newest tenth of each user's rows is the test, the tenth before it validation. Each row knows everything
before it; rivals are tried with a few settings, and the best on validation is reported. Usage::

    python benchmarks/labels/clicks.py [--data FOLDER] [--only factors deepfm transformer ranker] --out FILE
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from measuring import differences, figures_of, judged, only, write, written
from rivals import DeepFM, Factors, Fitted, HistoryTransformer, fitted, history_run, row_run
from together import OF_FILMS

from data import films, folder_of, text_vectors
from zhiyin.data.dataset import Dataset
from zhiyin.data.labelled import LabelledExamples, LabelledSplit, split_by_time
from zhiyin.ranking.ranker import MultiTaskRanker
from zhiyin.ranking.reading import RankerData

LENGTH = 100
"""Events that the transformer reads."""
MODELS = ("factors", "deepfm", "transformer", "ranker")


def main() -> None:
    """Train what was asked for, judge on the same rows, write down."""
    asked = _arguments()
    rows, dataset = films(folder_of("movielens-1m", asked.data))
    split = split_by_time(rows, validation=0.1, test=0.1)
    found, outcome = {}, written(asked.out, "models")
    for name in asked.only:
        print(name, flush=True)
        told, seconds, settings = _RUNS[name](split, dataset)
        found[name] = judged(only(split.test, ["click"]), "click", told)
        outcome[name] = {"settings": settings, "train_seconds": seconds, **figures_of(found[name])}
        figures = found[name].figures
        print(
            f"{name}: AUC {figures['roc_auc'].value:.4f}, log-loss {figures['log_loss'].value:.4f}",
            flush=True,
        )
        if "ranker" in found:
            pairs = {
                other: differences(found["ranker"], found[other]) for other in found if other != "ranker"
            }
            outcome["ranker"]["minus"] = pairs
        write(asked.out, {"dataset": "movielens-1m", "n_test": len(split.test), "models": outcome})


Told = tuple[np.ndarray, float, dict[str, Any]]


def _factors(split: LabelledSplit, dataset: Dataset) -> Told:
    parts = {name: (_clicks(rows), None) for name, rows in _parts(split)}
    tried = []
    for dimension, decay in ((32, 0.1), (32, 0.3)):
        torch.manual_seed(0)
        module = Factors(dataset.n_users, dataset.n_items, dimension)
        run = row_run(module, parts, weight_decay=decay, learning_rate=3e-3)
        tried.append((fitted(run), {"dimension": dimension, "weight_decay": decay}))
    return _best(tried)


def _deepfm(split: LabelledSplit, dataset: Dataset) -> Told:
    fields, n_values = _fields(dataset)
    parts = {name: (_clicks(rows), fields(rows)) for name, rows in _parts(split)}
    tried = []
    for dimension, decay, dropout in ((16, 0.1, 0.2),):
        torch.manual_seed(0)
        n_fields = parts["train"][1].shape[1]
        module = DeepFM(n_values, n_fields, dimension, hidden=128, dropout=dropout)
        run = row_run(module, parts, weight_decay=decay, learning_rate=3e-3)
        settings = {"dimension": dimension, "weight_decay": decay, "dropout": dropout, "fields": n_fields}
        tried.append((fitted(run), settings))
    return _best(tried)


def _transformer(split: LabelledSplit, dataset: Dataset) -> Told:
    click = (dataset.histories.value >= 4).astype(np.int64)
    tried = []
    for dimension, dropout in ((48, 0.2),):
        torch.manual_seed(0)
        module = HistoryTransformer(dataset.n_items, LENGTH, dimension, n_layers=2, dropout=dropout)
        parts = {name: _clicks(rows) for name, rows in _parts(split)}
        run = history_run(module, parts, click, weight_decay=0.01, learning_rate=2e-3, max_epochs=5)
        tried.append(
            (fitted(run), {"dimension": dimension, "dropout": dropout, "length": LENGTH, "layers": 2})
        )
    return _best(tried)


def _ranker(split: LabelledSplit, dataset: Dataset) -> Told:
    ranker = MultiTaskRanker(**OF_FILMS)
    ranker.fit(RankerData(split.train, split.validation, text_vectors(dataset)))
    assert ranker.trained is not None
    told = ranker.predict(split.test)[:, split.test.tasks.index("click")]
    return told, ranker.trained.facts["training_seconds"], OF_FILMS


_RUNS = {"factors": _factors, "deepfm": _deepfm, "transformer": _transformer, "ranker": _ranker}


def _best(tried: list[tuple[Fitted, dict[str, Any]]]) -> Told:
    losses = [one.log_loss for one, _ in tried]
    best, settings = tried[int(np.argmin(losses))]
    return best.told, best.seconds, {**settings, "validation_log_losses_of_all": losses}


def _parts(split: LabelledSplit) -> Iterator[tuple[str, LabelledExamples]]:
    return iter({"train": split.train, "validation": split.validation, "test": split.test}.items())


def _clicks(rows: LabelledExamples) -> LabelledExamples:
    return only(rows, ["click"])


def _fields(dataset: Dataset) -> tuple[Any, int]:
    """User, item, what is known of the user, year and up to three genres of the film."""
    users = dataset.user_table.select("gender", "age", "occupation")
    genres = pl.col("genres")
    items = dataset.catalogue.table.select(
        pl.col("year").cast(pl.String),
        *(genres.list.get(n, null_on_oob=True).alias(f"g{n}") for n in range(3)),
    )
    columns = [np.arange(dataset.n_users)] + [_numbered(users[name]) for name in users.columns]
    of_items = [np.arange(dataset.n_items)] + [_numbered(items[name]) for name in items.columns]
    sizes = [int(column.max()) + 1 for column in (*columns, *of_items)]
    starts = np.concatenate([[0], np.cumsum(sizes)])

    def fields(rows: LabelledExamples) -> np.ndarray:
        read = [column[rows.user_index] for column in columns] + [
            column[rows.item_index] for column in of_items
        ]
        return np.stack([column + start for column, start in zip(read, starts, strict=False)], axis=1)

    return fields, int(starts[-1])


def _numbered(words: pl.Series) -> np.ndarray:
    return words.fill_null("").rank("dense").to_numpy().astype(np.int64) - 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data")
    parser.add_argument("--only", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
