"""Models of identities on the rows that `benchmarks/language/methods.py` judges, from all training rows.

    python benchmarks/labels/identities.py ifdb OUT                # after methods.py ifdb OUT
    python benchmarks/labels/identities.py dkn-bing-news OUT --only factors ranker
    python benchmarks/labels/identities.py movielens-1m-new-users OUT

Matrix factorisation (of which dimension 0 is means of users and items), DeepFM over users, items and what is
known of items, a transformer over the history, and `MultiTaskRanker`, which reads identities and texts (and
once without them, to see what they add).
Settings are chosen on validation; then each but the ranker learns from training and validation rows as long
as was best, because texts of a history show the validation rows too. All test rows of a user know what the
first of them knows. Predictions go into OUT/predictions, where `compared.py` reads them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from rivals import DeepFM, Factors, HistoryTransformer, Run, fitted, history_run, row_run, trained_for

from data import text_vectors
from zhiyin.data.dataset import Dataset
from zhiyin.data.labelled import (
    LabelledExamples,
    LabelledSplit,
    LabelRule,
    labelled_examples,
    split_by_column,
)
from zhiyin.data.reading import read_dataset
from zhiyin.ranking.ranker import MultiTaskRanker
from zhiyin.ranking.reading import RankerData

LENGTH = 50
"""Events that the transformer reads."""
N_WORDS, FEWEST_OF_WORD = 6, 3
"""Words of a list (tags, words of a title) that are fields, and how many items must share a word."""
UNREAD = "ranker-without-texts"


@dataclass(frozen=True)
class Pace:
    """How models are trained on many rows, or on few.

    Attributes:
        rows_of_step: Rows of a step, of models that read single rows.
        most_epochs: Passes at most, of those, of the transformer and of the ranker.
        ranker: Settings of the ranker's training.
    """

    rows_of_step: int = 256
    most_epochs: tuple[int, int, int] = (30, 20, 12)
    ranker: Mapping[str, Any] = field(default_factory=lambda: {"tokens_per_batch": 512, "averaging": 0.99})


FEW_ROWS, MANY_ROWS = Pace(), Pace(2048, (10, 5, 5), {})
"""For some ten thousand rows, and for hundreds of thousands."""
PACES = {"ifdb": FEW_ROWS, "dkn-bing-news": FEW_ROWS, "movielens-1m-new-users": MANY_ROWS}
MODELS = ("factors", "deepfm", "transformer", "ranker", UNREAD)


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows as published for this measurement, and what is known of items.

    Attributes:
        dataset: Users, items, events.
        whole: All rows.
        split: The same, divided.
        known: Columns of items, beside their identifiers.
        pace: How models are trained on so many rows.
    """

    dataset: Dataset
    whole: LabelledExamples
    split: LabelledSplit
    known: pl.DataFrame
    pace: Pace

    def parts(self, *, refit: bool) -> dict[str, LabelledExamples]:
        """Return rows to learn from, to choose by and to report, the first two together where refitted."""
        is_test = (self.whole.context["split"] == "test").to_numpy()
        learned = self.whole.take(np.flatnonzero(~is_test)) if refit else self.split.train
        return {"train": learned, "validation": self.split.validation, "test": self.split.test}


def main() -> None:
    """Train what was asked for and keep what it foretells."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("dataset", choices=sorted(PACES))
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="+", default=list(MODELS), choices=MODELS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    dataset = read_dataset(asked.out / asked.dataset)
    whole = labelled_examples(dataset, {"click": LabelRule("value", yes_from=1)})
    known = pl.read_parquet(asked.out / f"{asked.dataset}-fields.parquet")
    rows = Rows(dataset, whole, split_by_column(whole, "split"), known, PACES[asked.dataset])
    for name in asked.only:
        print(name, flush=True)
        wall, processor = time.perf_counter(), time.process_time()
        is_ranker = name in ("ranker", UNREAD)
        told = _ranker(rows, reads=name != UNREAD) if is_ranker else _chosen(rows, _tries(name, rows))
        print(f"  {time.perf_counter() - wall:.0f} s, processor {time.process_time() - processor:.0f} s")
        test = rows.split.test
        (asked.out / "predictions").mkdir(parents=True, exist_ok=True)
        np.savez_compressed(
            asked.out / "predictions" / f"{asked.dataset}-{name}.npz",
            told=told,
            label=test.labels[:, 0],
            user=test.user_index,
            item=test.item_index,
            n_known=_first_known(test),
        )


RunOf = Callable[[dict[str, LabelledExamples]], Run]
Try = tuple[dict[str, Any], RunOf]


def _chosen(rows: Rows, tries: Iterator[Try]) -> np.ndarray:
    tried = []
    for settings, run_of in tries:
        torch.manual_seed(0)
        found = fitted(run_of(rows.parts(refit=False)))
        print(f"  {settings}: {found.log_loss:.4f} after {found.n_epochs} epochs", flush=True)
        tried.append((found.log_loss, found.n_epochs, settings, run_of))
    _, n_epochs, settings, run_of = min(tried, key=lambda one: one[0])
    print(f"  kept: {settings}, {n_epochs} epochs", flush=True)
    torch.manual_seed(0)
    run = run_of(rows.parts(refit=True))
    told = trained_for(run, n_epochs)
    return _told_at_once(run, rows) if isinstance(run.module, HistoryTransformer) else told


def _told_at_once(run: Run, rows: Rows) -> np.ndarray:
    """Foretell test rows with the transformer, which reads all that stands before: a row a user each time."""
    assert isinstance(run.module, HistoryTransformer)
    test, events = rows.split.test, rows.dataset.histories
    place = events.offsets[:-1][test.user_index] + test.n_known
    first = _first_known(test)
    told = np.full(len(test), np.nan, dtype=np.float32)
    click = events.value >= 1
    for later in range(int((test.n_known - first).max()) + 1):
        asked = np.flatnonzero(test.n_known - first == later)
        is_kept = np.ones(events.n_events, dtype=np.bool_)
        is_kept[np.delete(place, asked)] = False
        part = replace(test.take(asked), events=events.where(is_kept), n_known=first[asked])
        parts = {"train": part, "validation": part, "test": part}
        with torch.inference_mode():
            told[asked] = history_run(
                run.module, parts, click[is_kept].astype(np.int64), weight_decay=0.0
            ).told("test")
    return told


def _first_known(test: LabelledExamples) -> np.ndarray:
    """(N,) int64, what is known at the first test row of each row's user."""
    first = np.full(int(test.user_index.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, test.user_index, test.n_known)
    return first[test.user_index]


def _tries(name: str, rows: Rows) -> Iterator[Try]:
    n_users, n_items = rows.dataset.n_users, rows.dataset.n_items
    of_rows, of_transformer, _ = rows.pace.most_epochs
    stepping = {"rows_of_step": rows.pace.rows_of_step, "learning_rate": 3e-3, "max_epochs": of_rows}
    if name == "factors":
        for dimension, decay in ((0, 0.03), (0, 0.1), (16, 0.03), (16, 0.1), (16, 0.3)):

            def factors(parts: dict[str, LabelledExamples], n: int = dimension, pull: float = decay) -> Run:
                read = {part: (found, None) for part, found in parts.items()}
                return row_run(Factors(n_users, n_items, n), read, weight_decay=pull, **stepping)

            yield {"dimension": dimension, "weight_decay": decay}, factors
    elif name == "deepfm":
        columns, n_values = _fields(rows)
        for rate, dropout in ((3e-3, 0.3), (3e-3, 0.5), (5e-4, 0.5)):

            def deepfm(parts: dict[str, LabelledExamples], rate: float = rate, off: float = dropout) -> Run:
                read = {part: (found, columns(found)) for part, found in parts.items()}
                module = DeepFM(n_values, read["train"][1].shape[1], 16, hidden=64, dropout=off)
                return row_run(module, read, weight_decay=0.1, **{**stepping, "learning_rate": rate})

            yield {"dimension": 16, "learning_rate": rate, "dropout": dropout}, deepfm
    else:
        click = (rows.dataset.histories.value >= 1).astype(np.int64)
        for dropout in (0.2, 0.5, 0.7):

            def transformer(parts: dict[str, LabelledExamples], off: float = dropout) -> Run:
                module = HistoryTransformer(n_items, LENGTH, 32, n_layers=2, dropout=off)
                stepping = {"learning_rate": 2e-3, "max_epochs": of_transformer}
                return history_run(module, parts, click, weight_decay=0.1, **stepping)

            yield {"dimension": 32, "dropout": dropout, "length": LENGTH}, transformer


def _ranker(rows: Rows, *, reads: bool) -> np.ndarray:
    vectors, tried = text_vectors(rows.dataset) if reads else None, []
    for hidden, shrinkage in ((0.0, 0.05), (0.3, 0.05), (0.3, 0.3)):
        ranker = MultiTaskRanker(
            identity_dropout=hidden,
            shrinkage=shrinkage,
            dropout=0.2,
            training={"max_epochs": rows.pace.most_epochs[2], **rows.pace.ranker},
        )
        ranker.fit(RankerData(rows.split.train, rows.split.validation, vectors))
        labels, told = rows.split.validation.labels[:, 0], ranker.predict(rows.split.validation)[:, 0]
        lost = float(-np.mean(np.log(np.clip(np.where(labels == 1, told, 1 - told), 1e-6, 1.0))))
        print(f"  identities hidden {hidden}, shrinkage {shrinkage}: {lost:.4f}", flush=True)
        tried.append((lost, ranker))
    test = replace(rows.split.test, n_known=_first_known(rows.split.test))
    return min(tried, key=lambda one: one[0])[1].predict(test)[:, 0]


def _fields(rows: Rows) -> tuple[Callable[[LabelledExamples], np.ndarray], int]:
    """User, item, and what is known of the item: its words, and the first words of what lists several."""
    ids = pl.DataFrame({"item_id": list(rows.dataset.catalogue.items.ids)})
    known = ids.join(rows.known, on="item_id", how="left", maintain_order="left")
    read = (name for name in ("author", "genre", "system_clean", "year") if name in known.columns)
    of_names = (_numbered([known[name].cast(pl.String).fill_null("").to_list()])[0] for name in read)
    columns = [np.arange(rows.dataset.n_items), *of_names]
    words = _words_of_items(known)
    of_place = [words.list.get(place, null_on_oob=True).fill_null("").to_list() for place in range(N_WORDS)]
    shared = _numbered(of_place)
    sizes = [rows.dataset.n_users, *(int(column.max()) + 1 for column in columns)]
    starts = np.cumsum([0, *sizes])
    n_shared = max(int(column.max()) for column in shared) + 1
    # The same word is the same value at whichever place it stands.
    of_items = np.stack(
        [*(column + start for column, start in zip(columns, starts[1:], strict=False)),
         *(column + starts[-1] for column in shared)], axis=1,
    )  # fmt: skip

    def fields(examples: LabelledExamples) -> np.ndarray:
        users = examples.user_index.astype(np.int64)[:, None]
        return np.concatenate([users, of_items[examples.item_index]], axis=1)

    return fields, int(starts[-1]) + n_shared


def _words_of_items(known: pl.DataFrame) -> pl.Series:
    """Return (I,) lists of words: genres or tags where there are some, else the title's."""
    if "genres" in known.columns:
        return known["genres"]
    if "tags_clean" in known.columns:
        return known["tags_clean"].fill_null("").str.split(", ")
    return known["title"].fill_null("").str.split(" ")


def _numbered(columns: list[list[str]]) -> list[np.ndarray]:
    """Number the words of several columns alike; rare ones and none at all are 0."""
    counts = pl.Series([word for column in columns for word in column]).value_counts()
    words = counts.filter(pl.col("count") >= FEWEST_OF_WORD)[""].sort().to_list()
    number = {word: place for place, word in enumerate([word for word in words if word], start=1)}
    return [np.array([number.get(word, 0) for word in column], dtype=np.int64) for column in columns]


if __name__ == "__main__":
    main()
