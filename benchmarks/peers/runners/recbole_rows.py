"""RecBole: SASRec with cross-entropy and LightGCN, trained by its own trainer and loaders."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from exchange import Questions, Scores, Split, Task, best_lists, ndcg_at_10, versions
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.interaction import Interaction
from recbole.utils import get_model, get_trainer, init_seed

NAMES = {"sasrec": "SASRec", "lightgcn": "LightGCN"}
SETTINGS: dict[str, dict[str, Any]] = {
    # Its defaults: 2 blocks, 2 heads, width 64, dropout .5, cross-entropy, Adam 1e-3, batches of 2,048.
    "sasrec": {"loss_type": "CE", "train_neg_sample_args": None},
    # Its defaults but for three layers, as published.
    "lightgcn": {"n_layers": 3},
}
SHARED: dict[str, Any] = {
    "use_gpu": False,
    "show_progress": False,
    "USER_ID_FIELD": "user_id",
    "ITEM_ID_FIELD": "item_id",
    "TIME_FIELD": "timestamp",
    "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
    "user_inter_num_interval": None,
    "item_inter_num_interval": None,
    "eval_args": {"split": {"RS": [1, 0, 0]}, "group_by": "user", "order": "TO", "mode": "full"},
    "state": "WARNING",
    "log_wandb": False,
}


def main() -> None:
    task = Task.of_command_line()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # RecBole writes logs and checkpoints beside it
        sys.argv = sys.argv[:1]  # it reads our command line otherwise
        rank(task, Path(folder))


def rank(task: Task, folder: Path) -> None:
    curve = task.curve()
    of_row = SETTINGS[task.row] | ({"MAX_ITEM_LIST_LENGTH": task.length} if task.row == "sasrec" else {})
    write_atomic_file(task.split, folder / "peers" / "peers.inter")
    config = Config(
        model=NAMES[task.row],
        dataset="peers",
        config_dict=of_row
        | SHARED
        | {"data_path": str(folder), "epochs": task.max_epochs, "seed": task.seed},
    )
    init_seed(task.seed, True)
    dataset = create_dataset(config)
    loader = data_preparation(config, dataset)[0]
    model = get_model(config["model"])(config, loader._dataset)
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    score_of = SCORERS[task.row](model, dataset, task.split)
    best: dict[str, torch.Tensor] = {}
    while not curve.stopped_by:
        trainer._train_epoch(loader, len(curve.epochs))
        model.eval()
        model.restore_user_e = model.restore_item_e = None
        if curve.add(ndcg_at_10(task.split.validation, score_of(task.split.validation))):
            best = deepcopy(model.state_dict())
    model.load_state_dict(best)
    model.restore_user_e = model.restore_item_e = None
    fit_seconds = time.perf_counter() - curve.started
    started = time.perf_counter()
    lists = best_lists(task.split.test, score_of(task.split.test), task.split.n_items)
    told = {
        "fit_seconds": fit_seconds,
        "rank_seconds": time.perf_counter() - started,
        "settings": of_row,
        "validation": max(epoch["validation"] for epoch in curve.epochs),
        "stopped_by": curve.stopped_by,
        "curve": curve.epochs,
        "versions": versions("recbole", "torch", "numpy", "scipy"),
    }
    task.answer(lists, told)


def write_atomic_file(split: Split, file: Path) -> None:
    """Write the training part as RecBole reads it; the place in a history is the time."""
    file.parent.mkdir(parents=True)
    users, items = split.train.row_of_item, split.train.items
    place = np.arange(len(items)) - split.train.offsets[:-1][users]
    with file.open("w", encoding="utf-8") as lines:
        lines.write("user_id:token\titem_id:token\ttimestamp:float\n")
        lines.writelines(f"{u}\t{i}\t{t}\n" for u, i, t in zip(users, items, place, strict=True))


def numbers_of(dataset: Any, field: str, n: int) -> np.ndarray:
    """Our numbers → RecBole's; 0, its padding, for what training does not hold."""
    tokens = dataset.field2id_token[field][1:].astype(np.int64)
    numbers = np.zeros(n, dtype=np.int64)
    numbers[tokens] = np.arange(1, len(tokens) + 1)
    return numbers


def sequence_scorer(model: Any, dataset: Any, split: Split) -> Callable[[Questions], Scores]:
    """Scores from the newest items of each history, in RecBole's own layout: padding on the right."""
    numbers = numbers_of(dataset, "item_id", split.n_items)

    def of(asked: Questions) -> Scores:
        def score(rows: np.ndarray) -> np.ndarray:
            known = asked.known.take(rows).newest(model.max_seq_length, -1)
            inputs = np.where(known >= 0, numbers[known], 0)
            order = np.argsort(inputs == 0, axis=1, kind="stable")
            inputs = np.take_along_axis(inputs, order, axis=1)
            lengths = np.maximum((inputs > 0).sum(axis=1), 1)
            batch = {"item_id_list": torch.from_numpy(inputs), "item_length": torch.from_numpy(lengths)}
            with torch.inference_mode():
                return in_our_order(model.full_sort_predict(Interaction(batch)).numpy(), numbers)

        return score

    return of


def graph_scorer(model: Any, dataset: Any, split: Split) -> Callable[[Questions], Scores]:
    """Scores from the user vectors of training; what a user did since cannot enter them."""
    users = numbers_of(dataset, "user_id", split.n_users)
    numbers = numbers_of(dataset, "item_id", split.n_items)

    def of(asked: Questions) -> Scores:
        def score(rows: np.ndarray) -> np.ndarray:
            batch = {"user_id": torch.from_numpy(users[asked.users[rows]])}
            with torch.inference_mode():
                scores = model.full_sort_predict(Interaction(batch)).view(len(rows), -1)
                return in_our_order(scores.numpy(), numbers)

        return score

    return of


def in_our_order(scores: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """RecBole's columns → ours; minus infinity for items that training does not hold."""
    ours = scores[:, numbers]
    ours[:, numbers == 0] = -np.inf
    return ours


SCORERS = {"sasrec": sequence_scorer, "lightgcn": graph_scorer}


if __name__ == "__main__":
    main()
