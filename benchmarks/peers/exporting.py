"""A data folder as the arrays that every runner reads, divided exactly as `zhiyin evaluate` divides it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from zhiyin.data.reading import read_dataset
from zhiyin.data.splits import Split, leave_last_out
from zhiyin.domain import Examples
from zhiyin.training.selection import sample_examples

EXAMPLES_TO_CHOOSE_ON = 10_000
"""Validation users on whom settings and epochs are chosen; our transformer stops on the same ones."""


def export_split(data: Path, file: Path) -> Split:
    """Write leave-last-out of a data folder as one ``.npz``, and return it.

    Arrays: ``n_users``, ``n_items``; ``train_offsets`` (U + 1,) and ``train_items``; for ``validation`` and
    ``test`` the ``_users`` (B,), the histories ``_offsets`` (B + 1,) and ``_items``, the ``_targets`` (B,).
    Users and items are our indices, histories oldest first, ties in file order.
    """
    split = leave_last_out(read_dataset(data))
    arrays = {
        "n_users": np.int64(split.train.n_users),
        "n_items": np.int64(split.train.n_items),
        "train_offsets": split.train.histories.offsets,
        "train_items": split.train.histories.item_index,
    }
    chosen_on = sample_examples(split.validation, EXAMPLES_TO_CHOOSE_ON, seed=0)
    for part, examples in (("validation", chosen_on), ("test", split.test)):
        arrays |= {f"{part}_{name}": array for name, array in _arrays_of(examples).items()}
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(file, **arrays)
    return split


def _arrays_of(examples: Examples) -> dict[str, np.ndarray]:
    queries = examples.queries
    return {
        "users": queries.user_index,
        "offsets": queries.histories.offsets,
        "items": queries.histories.item_index,
        "targets": np.asarray(examples.targets.values),
    }


def sampled_folder(data: Path, every: int, folder: Path) -> Path:
    """Write a data folder with the events of every n-th user, for trying out; the catalogue stays whole."""
    folder.mkdir(parents=True, exist_ok=True)
    file = next(data.glob("interactions.*"))
    read = {".parquet": pl.read_parquet, ".csv": pl.read_csv, ".jsonl": pl.read_ndjson}[file.suffix]
    events = read(file)
    kept = events.select(pl.col("user_id").unique(maintain_order=True)).gather_every(every)
    some = events.join(kept, on="user_id", how="semi", maintain_order="left")
    some.write_parquet(folder / "interactions.parquet")
    for other in data.iterdir():
        target = folder / other.name
        if not other.name.startswith("interactions.") and not target.exists():
            target.symlink_to(other.resolve())
    return folder
