"""What every runner reads and writes: the split, the curve of a training, the lists.

It runs in the environments of the peers, so it needs numpy and nothing else.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

K = 50
"""Length of the lists."""
PATIENCE = 10
"""Epochs without a better validation figure after which a training ends; what RecBole documents."""
CHUNK = 512
"""Queries scored at once where a runner scores itself."""

Scores = Callable[[np.ndarray], np.ndarray]
"""Rows of questions (B,) → scores (B, I) float32, the runner's own copy."""


@dataclass(frozen=True)
class Ragged:
    """Rows of item indices: row ``b`` is ``items[offsets[b]:offsets[b + 1]]``."""

    offsets: np.ndarray
    items: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """(B,): items of each row."""
        return np.diff(self.offsets)

    @property
    def row_of_item(self) -> np.ndarray:
        """(T,): the row each item belongs to."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def take(self, rows: np.ndarray) -> Ragged:
        """Return these rows in this order."""
        lengths = self.lengths[rows]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        shift = np.repeat(self.offsets[:-1][rows] - offsets[:-1], lengths)
        return Ragged(offsets, self.items[np.arange(offsets[-1]) + shift])

    def only(self, kept: np.ndarray) -> Ragged:
        """Keep the items marked in (T,) bool; rows may become empty."""
        lengths = np.bincount(self.row_of_item[kept], minlength=len(self))
        return Ragged(np.concatenate([[0], np.cumsum(lengths)]), self.items[kept])

    def newest(self, length: int, pad: int) -> np.ndarray:
        """Return the newest items as (B, length), padded on the left."""
        padded = np.full((len(self), length), pad, dtype=np.int64)
        place = length - (np.repeat(self.offsets[1:], self.lengths) - np.arange(len(self.items)))
        fits = place >= 0
        padded[self.row_of_item[fits], place[fits]] = self.items[fits]
        return padded


@dataclass(frozen=True)
class Questions:
    """B users, what is known of each, and the one item that came next."""

    users: np.ndarray
    known: Ragged
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.users)

    def take(self, rows: np.ndarray) -> Questions:
        """Return these questions in this order."""
        return Questions(self.users[rows], self.known.take(rows), self.targets[rows])


@dataclass(frozen=True)
class Split:
    """Leave-last-out as arrays; users and items are numbers from 0.

    Attributes:
        n_users: Users.
        n_items: Items of the whole catalogue.
        train: What each user did before the two items held back, oldest first.
        validation: Where settings and epochs are chosen: at most 10,000 users.
        test: Everybody who is asked for; histories hold the validation item.
    """

    n_users: int
    n_items: int
    train: Ragged
    validation: Questions
    test: Questions

    @classmethod
    def read(cls, file: Path) -> Split:
        """Read what the benchmark exported."""
        with np.load(file) as held:
            parts = [
                Questions(
                    held[f"{part}_users"],
                    Ragged(held[f"{part}_offsets"], held[f"{part}_items"]),
                    held[f"{part}_targets"],
                )
                for part in ("validation", "test")
            ]
            train = Ragged(held["train_offsets"], held["train_items"])
            return cls(int(held["n_users"]), int(held["n_items"]), train, *parts)

    def train_matrix(self) -> Any:
        """Return who met what as a (U, I) float32 CSR matrix of ones; needs scipy."""
        return matrix_of(self.train, self.n_items)


def matrix_of(rows: Ragged, n_items: int) -> Any:
    """Return rows as a (B, I) float32 CSR matrix of ones; an item met twice counts once."""
    from scipy import sparse

    ones = np.ones(len(rows.items), dtype=np.float32)
    matrix = sparse.csr_matrix((ones, rows.items, rows.offsets), shape=(len(rows), n_items))
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix


def chunks(n: int, size: int = CHUNK) -> Iterator[np.ndarray]:
    """Yield the rows 0 … n - 1 in runs."""
    for start in range(0, n, size):
        yield np.arange(start, min(start + size, n))


def masked(scores: np.ndarray, known: Ragged) -> np.ndarray:
    """Write minus infinity over the items of the histories, in place."""
    scores[known.row_of_item, known.items] = -np.inf
    return scores


def ndcg_at_10(questions: Questions, score: Scores) -> float:
    """Mean NDCG@10 of dense scores over the whole catalogue; items of the history masked, ties averaged."""
    total = 0.0
    for rows in chunks(len(questions)):
        asked = questions.take(rows)
        scores = masked(score(rows), asked.known)
        of_target = scores[np.arange(len(rows)), asked.targets][:, None]
        ranks = (scores > of_target).sum(axis=1) + ((scores == of_target).sum(axis=1) + 1) / 2
        hit = (ranks <= 10) & np.isfinite(of_target[:, 0])
        total += float(np.where(hit, 1 / np.log2(ranks + 1), 0.0).sum())
    return total / max(len(questions), 1)


def ndcg_of_lists(questions: Questions, lists: np.ndarray) -> float:
    """Mean NDCG@10 of (B, N) lists."""
    hit = lists[:, :10] == questions.targets[:, None]
    return float((hit / np.log2(np.arange(2, hit.shape[1] + 2))).sum(axis=1).mean())


def best_lists(questions: Questions, score: Scores, n_items: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the `K` best items and scores of dense scores, histories masked; -1 where nothing is left."""
    k = min(K, n_items)
    found, values = [], []
    for rows in chunks(len(questions)):
        scores = masked(score(rows), questions.known.take(rows))
        best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        value = np.take_along_axis(scores, best, axis=1)
        order = np.argsort(-value, axis=1, kind="stable")
        value = np.take_along_axis(value, order, axis=1)
        found.append(np.where(np.isneginf(value), -1, np.take_along_axis(best, order, axis=1)))
        values.append(value)
    return np.concatenate(found).astype(np.int32), np.concatenate(values).astype(np.float32)


@dataclass
class Curve:
    """What a training tells epoch by epoch, and when it is enough.

    Attributes:
        minutes: After which it ends.
        max_epochs: After which it ends.
        epochs: ``{"epoch", "seconds", "validation"}``; seconds since the clock was started, the validation
            itself included.
    """

    minutes: float
    max_epochs: int
    started: float = field(default_factory=time.perf_counter)
    epochs: list[dict[str, float]] = field(default_factory=list)
    stopped_by: str = ""

    def add(self, validation: float) -> bool:
        """Note one epoch; returns whether it is the best so far."""
        is_best = not self.epochs or validation > max(epoch["validation"] for epoch in self.epochs)
        seconds = time.perf_counter() - self.started
        number = len(self.epochs) + 1
        self.epochs.append({"epoch": number, "seconds": seconds, "validation": validation})
        best = int(np.argmax([epoch["validation"] for epoch in self.epochs]))
        if number - 1 - best >= PATIENCE:
            self.stopped_by = "patience"
        elif number >= self.max_epochs:
            self.stopped_by = "max_epochs"
        elif seconds >= self.minutes * 60:
            self.stopped_by = "minutes"
        print(f"epoch {number}: {seconds:.0f} s, validation NDCG@10 {validation:.4f}", flush=True)
        return is_best


@dataclass(frozen=True)
class Task:
    """What a runner is asked for.

    Attributes:
        row: Name of the model.
        split: The data.
        out: Folder for ``lists.npz`` and ``told.json``.
        minutes: Cap on the fit.
        max_epochs: Cap on the epochs.
        seed: Of every random choice.
        length: Newest items of a history that the peers' sequence models read.
        data: The data folder itself, for our own rows.
    """

    row: str
    split: Split
    out: Path
    minutes: float
    max_epochs: int
    seed: int
    length: int
    data: Path

    @classmethod
    def of_command_line(cls) -> Task:
        """Read the arguments that the benchmark gives."""
        parser = argparse.ArgumentParser()
        parser.add_argument("row")
        parser.add_argument("--split", type=Path, required=True)
        parser.add_argument("--out", type=Path, required=True)
        parser.add_argument("--minutes", type=float, required=True)
        parser.add_argument("--max-epochs", type=int, required=True)
        parser.add_argument("--seed", type=int, required=True)
        parser.add_argument("--length", type=int, required=True)
        parser.add_argument("--data", type=Path, required=True)
        asked = parser.parse_args()
        return cls(**vars(asked) | {"split": Split.read(asked.split)})

    def curve(self) -> Curve:
        """Start the clock of a training."""
        return Curve(self.minutes, self.max_epochs)

    def answer(self, lists: tuple[np.ndarray, np.ndarray], told: dict[str, Any]) -> None:
        """Write items (B, N) int32 and scores (B, N) float32, best first, and what was measured."""
        np.savez(self.out / "lists.npz", item_index=lists[0], score=lists[1])
        (self.out / "told.json").write_text(json.dumps(told, indent=2))


def versions(*packages: str) -> dict[str, str]:
    """Return the installed versions."""
    return {package: metadata.version(package) for package in packages}


@dataclass
class Chosen:
    """The best of a few settings on validation, and what fitting that one took."""

    settings: dict[str, Any] = field(default_factory=dict)
    validation: float = -1.0
    fit_seconds: float = 0.0
    search_seconds: float = 0.0
    model: Any = None


def chosen_on_validation(
    grid: list[dict[str, Any]], fit: Callable[..., Any], quality: Callable[[Any], float]
) -> Chosen:
    """Fit every setting of a small grid and keep the best on validation; only its own fit counts as fit."""
    best = Chosen()
    started = time.perf_counter()
    for settings in grid:
        before = time.perf_counter()
        model = fit(**settings)
        seconds = time.perf_counter() - before
        validation = quality(model)
        print(f"{settings}: {seconds:.1f} s, validation NDCG@10 {validation:.4f}", flush=True)
        if validation > best.validation:
            best = Chosen(settings, validation, seconds, 0.0, model)
        del model
    best.search_seconds = time.perf_counter() - started
    return best


def told_of(best: Chosen, rank_seconds: float, grid: list[dict[str, Any]], *packages: str) -> dict[str, Any]:
    """Say what a row without epochs took."""
    return {
        "fit_seconds": best.fit_seconds,
        "search_seconds": best.search_seconds,
        "rank_seconds": rank_seconds,
        "settings": {**best.settings, "chosen from": len(grid)},
        "validation": best.validation,
        "curve": [],
        "versions": versions(*packages),
    }
