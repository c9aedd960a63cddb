"""RecTools: SASRec, its own best (LiGR blocks, sampled softmax) and EASE."""

from __future__ import annotations

import time
import warnings
from copy import deepcopy
from typing import Any

import numpy as np
import pandas as pd
import torch
from exchange import (
    Curve,
    K,
    Questions,
    Ragged,
    Split,
    Task,
    chosen_on_validation,
    ndcg_at_10,
    ndcg_of_lists,
    told_of,
    versions,
)
from pytorch_lightning import Callback, Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset, Interactions
from rectools.models import EASEModel
from rectools.models.nn.transformers.ligr import LiGRLayers
from rectools.models.nn.transformers.sasrec import SASRecModel

# Width, heads and dropout are those of the field for data of this size. At RecTools' own width of 256 an
# epoch costs several times more, so that fewer epochs fit under the cap.
SHARED: dict[str, Any] = {
    "n_blocks": 2,
    "n_heads": 2,
    "n_factors": 64,
    "dropout_rate": 0.2,
    "lr": 1e-3,
    "batch_size": 128,
}
MODELS: dict[str, dict[str, Any]] = {
    "sasrec": {**SHARED, "loss": "softmax"},  # cross-entropy over the catalogue, its default
    # What its authors call eSASRec.
    "esasrec": {
        **SHARED,
        "loss": "sampled_softmax",
        "n_negatives": 256,
        "transformer_layers_type": LiGRLayers,
        "use_key_padding_mask": True,
    },
}
EASE_GRID = [{"regularization": value} for value in (100.0, 500.0)]
PACKAGES = ("rectools", "torch", "pytorch-lightning", "numpy")
START = pd.Timestamp("2020-01-01")


def main() -> None:
    warnings.filterwarnings("ignore")
    task = Task.of_command_line()
    seed_everything(task.seed, verbose=False)
    if task.row == "ease":
        rank_with_ease(task)
    else:
        rank_with_transformer(task, MODELS[task.row] | {"session_max_len": task.length})


def rank_with_transformer(task: Task, settings: dict[str, Any]) -> None:
    curve = task.curve()
    model = SASRecModel(
        **settings,
        epochs=task.max_epochs,
        deterministic=False,
        get_trainer_func=trainer_of,
        get_trainer_func_kwargs={"max_epochs": task.max_epochs},
    )
    chooser = Chooser(model, task.split, curve)
    model._trainer.callbacks.append(chooser)
    model.fit(dataset_of(np.arange(task.split.n_users), task.split.train))
    best_model = model.lightning_model.torch_model
    best_model.load_state_dict(chooser.best)
    fit_seconds = time.perf_counter() - curve.started
    started = time.perf_counter()
    lists = ranked(model, task.split, task.split.test)
    rank_seconds = time.perf_counter() - started
    told = {
        "fit_seconds": fit_seconds,
        "rank_seconds": rank_seconds,
        "settings": {name: getattr(value, "__name__", value) for name, value in settings.items()},
        "validation": max(epoch["validation"] for epoch in curve.epochs),
        "stopped_by": curve.stopped_by,
        "curve": curve.epochs,
        "versions": versions(*PACKAGES),
    }
    task.answer(lists, told)


def trainer_of(max_epochs: int) -> Trainer:
    """Return a Lightning trainer that the callback ends."""
    return Trainer(
        max_epochs=max_epochs,
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[],
    )


class Chooser(Callback):
    """Measures validation NDCG@10 after each epoch, keeps the best weights, ends the training."""

    def __init__(self, model: SASRecModel, split: Split, curve: Curve) -> None:
        self.model, self.split, self.curve = model, split, curve
        self.best: dict[str, torch.Tensor] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Chooser:
        return self  # RecTools copies its trainer before each fit

    def on_train_epoch_end(self, trainer: Trainer, module: Any) -> None:
        """Validate, in the mode for answering, and go back to the one for training."""
        was_training = module.training
        validation = quality_of(self.model, module, self.split)
        module.train(was_training)
        if self.curve.add(validation):
            self.best = deepcopy(module.torch_model.state_dict())
        trainer.should_stop = bool(self.curve.stopped_by)


def quality_of(model: SASRecModel, module: Any, split: Split) -> float:
    """Validation NDCG@10 from the network's own vectors of sessions and items."""
    asked = split.validation
    network = module.torch_model.eval()
    known = model.data_preparator.get_known_item_ids().astype(np.int64)
    internal = np.zeros(split.n_items, dtype=np.int64)
    internal[known] = model.data_preparator.get_known_items_sorted_internal_ids()
    sessions = Ragged(asked.known.offsets, internal[asked.known.items])
    # Items that nobody met in training are left out, as RecTools does when it recommends.
    inputs = sessions.only(sessions.items > 0).newest(model.session_max_len, 0)
    with torch.inference_mode():
        vectors = network.item_model.get_all_embeddings()
        known_vectors = network.similarity_module.item_tower_forward(vectors)[internal[known]]

        def score(rows: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                hidden = network.encode_sessions({"x": torch.from_numpy(inputs[rows])}, vectors)[:, -1]
                hidden = network.similarity_module.session_tower_forward(hidden)
                scores = np.full((len(rows), split.n_items), -np.inf, dtype=np.float32)
                scores[:, known] = (hidden @ known_vectors.T).numpy()
                return scores

        return ndcg_at_10(asked, score)


def rank_with_ease(task: Task) -> None:
    def fit(**settings: Any) -> EASEModel:
        model = EASEModel(**settings)
        return model.fit(dataset_of(np.arange(task.split.n_users), task.split.train))

    def quality(model: EASEModel) -> float:
        return ndcg_of_lists(task.split.validation, ranked(model, task.split, task.split.validation)[0])

    best = chosen_on_validation(EASE_GRID, fit, quality)
    started = time.perf_counter()
    lists = ranked(best.model, task.split, task.split.test)
    told = told_of(best, time.perf_counter() - started, EASE_GRID, *PACKAGES)
    task.answer(lists, told)


def table_of(users: np.ndarray, histories: Ragged) -> pd.DataFrame:
    """Put rows into the columns of RecTools; the place in a history is the time."""
    place = np.arange(len(histories.items)) - histories.offsets[:-1][histories.row_of_item]
    return pd.DataFrame(
        {
            Columns.User: users[histories.row_of_item],
            Columns.Item: histories.items.astype(np.int64),
            Columns.Weight: 1.0,
            Columns.Datetime: START + pd.to_timedelta(place, unit="s"),
        }
    )


def dataset_of(users: np.ndarray, histories: Ragged) -> Dataset:
    """Put rows into a RecTools dataset."""
    return Dataset.construct(table_of(users, histories))


def ranked(model: Any, split: Split, asked: Questions) -> tuple[np.ndarray, np.ndarray]:
    """Ask RecTools for all lists; its table becomes (B, N) arrays."""
    dataset = dataset_of(asked.users, asked.known)
    if isinstance(model, EASEModel):  # its matrix knows the numbers of training
        dataset = with_train_items(split, asked)
    n = min(K, split.n_items)
    told = model.recommend(
        users=asked.users, dataset=dataset, k=n, filter_viewed=True, on_unsupported_targets="ignore"
    )
    row_of_user = np.full(split.n_users, -1, dtype=np.int64)
    row_of_user[asked.users] = np.arange(len(asked))
    rows, places = row_of_user[told[Columns.User].to_numpy()], told[Columns.Rank].to_numpy() - 1
    items = np.full((len(asked), n), -1, dtype=np.int32)
    scores = np.full((len(asked), n), -np.inf, dtype=np.float32)
    items[rows, places] = told[Columns.Item].to_numpy()
    scores[rows, places] = told[Columns.Score].to_numpy()
    return items, scores


def with_train_items(split: Split, asked: Questions) -> Dataset:
    """Return the histories asked for under the item numbers of the training dataset."""
    known = dataset_of(np.arange(split.n_users), split.train)
    table = table_of(asked.users, asked.known)
    table = table[table[Columns.Item].isin(known.item_id_map.external_ids)]
    return Dataset(
        known.user_id_map,
        known.item_id_map,
        Interactions.from_raw(table, known.user_id_map, known.item_id_map),
    )


if __name__ == "__main__":
    main()
