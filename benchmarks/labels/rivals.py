"""Three well-known models of clicks, small, trained and stopped in the same way as the ranker.

Matrix factorisation with logistic loss; DeepFM (Guo et al., 2017) over user, item, user attributes, and
words of the item; and a transformer over the history in the manner of SASRec (Kang and McAuley, 2018) that
reads what was clicked and what was not, and foretells the click on the item that is asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from zhiyin.data.labelled import LabelledExamples

Batch = dict[str, Tensor]
ROWS_AT_ONCE = 8192


@dataclass(frozen=True)
class Fields:
    """Columns of numbers for each row: (N, F) int64, counted through all fields, and how many there are."""

    rows: np.ndarray
    n: int


class Factors(nn.Module):
    """``b + b_u + b_i + p_u · q_i``."""

    def __init__(self, n_users: int, n_items: int, dimension: int) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(n_users, dimension + 1), nn.Embedding(n_items, dimension + 1)
        self.bias = nn.Parameter(torch.zeros(()))
        for table in (self.users, self.items):
            nn.init.normal_(table.weight, std=0.05)

    def forward(self, batch: Batch) -> Tensor:
        """Return (N,) logits."""
        user, item = self.users(batch["user"]), self.items(batch["item"])
        return self.bias + user[:, -1] + item[:, -1] + (user[:, :-1] * item[:, :-1]).sum(dim=1)


class DeepFM(nn.Module):
    """First order, all pairs, and a deep part over the same vectors."""

    def __init__(self, n_values: int, n_fields: int, dimension: int, *, hidden: int, dropout: float) -> None:
        super().__init__()
        self.vectors, self.first = nn.Embedding(n_values, dimension), nn.Embedding(n_values, 1)
        nn.init.normal_(self.vectors.weight, std=0.05)
        nn.init.zeros_(self.first.weight)
        self.bias = nn.Parameter(torch.zeros(()))
        layers: list[nn.Module] = []
        width = n_fields * dimension
        for _ in range(2):
            layers += [nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout)]
            width = hidden
        self.deep = nn.Sequential(*layers, nn.Linear(width, 1))

    def forward(self, batch: Batch) -> Tensor:
        """Return (N,) logits."""
        vectors = self.vectors(batch["fields"])
        pairs = 0.5 * (vectors.sum(dim=1).square() - vectors.square().sum(dim=1)).sum(dim=1)
        first = self.first(batch["fields"]).sum(dim=(1, 2))
        return self.bias + first + pairs + self.deep(vectors.flatten(1)).squeeze(1)


class HistoryTransformer(nn.Module):
    """Causal transformer over items and clicks; the state before a row is compared with its item."""

    def __init__(self, n_items: int, length: int, dimension: int, *, n_layers: int, dropout: float) -> None:
        super().__init__()
        self.length = length
        self.items = nn.Embedding(n_items + 1, dimension, padding_idx=n_items)
        self.clicks, self.places = nn.Embedding(2, dimension), nn.Embedding(length + 1, dimension)
        self.bias = nn.Embedding(n_items + 1, 1)
        nn.init.zeros_(self.bias.weight)
        for table in (self.items, self.clicks, self.places):
            nn.init.normal_(table.weight, std=0.05)
        block = nn.TransformerEncoderLayer(
            dimension, 2, dimension * 2, dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, n_layers, enable_nested_tensor=False)
        self.norm, self.user_bias = nn.LayerNorm(dimension), nn.Linear(dimension, 1)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(length + 1))

    def forward(self, batch: Batch) -> Tensor:
        """Return (S, L) logits: place l is told by what stands before it."""
        items, clicks = batch["items"], batch["clicks"]
        # A first place that stands for nothing yet shifts everything by one.
        read = functional.pad(self.items(items) + self.clicks(clicks), (0, 0, 1, 0))[:, :-1]
        n = items.shape[1]
        hidden = self.blocks(read + self.places.weight[:n], mask=self.mask[:n, :n], is_causal=True)
        hidden = self.norm(hidden)
        told = (hidden * self.items(items)).sum(dim=-1)
        return told + self.bias(items).squeeze(-1) + self.user_bias(hidden).squeeze(-1)


@dataclass(frozen=True)
class Run:
    """What is trained, on which batches, judged how.

    Attributes:
        module: Gives logits.
        loss: Batch → loss.
        batches: Epoch → batches.
        told: Chances of the rows of validation or test: "validation" or "test" → (N,).
        truth: (N,) labels of the validation rows.
        weight_decay: Of AdamW.
        learning_rate: Of AdamW.
        max_epochs: At most; it stops when the log-loss of validation did not fall twice in a row.
    """

    module: nn.Module
    loss: Callable[[Batch], Tensor]
    batches: Callable[[int], Any]
    told: Callable[[str], np.ndarray]
    truth: np.ndarray
    weight_decay: float
    learning_rate: float = 1e-3
    max_epochs: int = 12


@dataclass(frozen=True)
class Fitted:
    """What came of a run.

    Attributes:
        log_loss: The best on validation.
        told: (N,) chances of the test rows then.
        seconds: Of all epochs.
        n_epochs: After which validation was best.
    """

    log_loss: float
    told: np.ndarray
    seconds: float
    n_epochs: int


def fitted(run: Run) -> Fitted:
    """Train until validation no longer gets better."""
    optimizer, started = _optimizer(run), time.perf_counter()
    best, n_worse = Fitted(float("inf"), np.empty(0), 0.0, 0), 0
    for epoch in range(run.max_epochs):
        _epoch(run, optimizer, epoch)
        with torch.inference_mode():
            lost = _log_loss(run.truth, run.told("validation"))
            if lost < best.log_loss:
                best, n_worse = Fitted(lost, run.told("test"), 0.0, epoch + 1), 0
            else:
                n_worse += 1
        print(f"  epoch {epoch + 1}: log-loss {lost:.4f}, {time.perf_counter() - started:.0f} s", flush=True)
        if n_worse == 2:
            break
    return replace(best, seconds=time.perf_counter() - started)


def trained_for(run: Run, n_epochs: int) -> np.ndarray:
    """Train for so many epochs without looking at validation; return the (N,) chances of the test rows."""
    optimizer = _optimizer(run)
    for epoch in range(n_epochs):
        _epoch(run, optimizer, epoch)
    with torch.inference_mode():
        return run.told("test")


def _optimizer(run: Run) -> torch.optim.Optimizer:
    return torch.optim.AdamW(run.module.parameters(), lr=run.learning_rate, weight_decay=run.weight_decay)


def _epoch(run: Run, optimizer: torch.optim.Optimizer, epoch: int) -> None:
    run.module.train()
    for batch in run.batches(epoch):
        loss = run.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(run.module.parameters(), 1.0)
        optimizer.step()
    run.module.eval()


def _log_loss(truth: np.ndarray, told: np.ndarray) -> float:
    chance = np.clip(told, 1e-6, 1 - 1e-6)
    return float(-np.mean(truth * np.log(chance) + (1 - truth) * np.log(1 - chance)))


def row_run(
    module: nn.Module,
    parts: dict[str, tuple[LabelledExamples, np.ndarray | None]],
    *,
    rows_of_step: int = 2048,
    **settings: Any,
) -> Run:
    """Make a run of a model that reads one row at a time, so many of them a step."""
    random = np.random.default_rng(0)
    tensors = {name: _tensors(rows, fields) for name, (rows, fields) in parts.items()}

    def take(name: str, rows: np.ndarray) -> Batch:
        return {key: value[torch.from_numpy(rows)] for key, value in tensors[name].items()}

    def batches(_: int) -> Any:
        order = random.permutation(len(tensors["train"]["label"]))
        starts = range(0, len(order), rows_of_step)
        return (take("train", order[at : at + rows_of_step]) for at in starts)

    def loss(batch: Batch) -> Tensor:
        return functional.binary_cross_entropy_with_logits(module(batch), batch["label"])

    def told(name: str) -> np.ndarray:
        n = len(tensors[name]["label"])
        starts = range(0, n, ROWS_AT_ONCE)
        chances = [
            torch.sigmoid(module(take(name, np.arange(at, min(at + ROWS_AT_ONCE, n))))).numpy()
            for at in starts
        ]
        return np.concatenate(chances)

    return Run(module, loss, batches, told, parts["validation"][0].labels[:, 0], **settings)


def _tensors(rows: LabelledExamples, fields: np.ndarray | None) -> Batch:
    tensors = {
        "user": torch.from_numpy(rows.user_index.astype(np.int64)),
        "item": torch.from_numpy(rows.item_index.astype(np.int64)),
        "label": torch.from_numpy(rows.labels[:, 0]),
    }
    return tensors if fields is None else {**tensors, "fields": torch.from_numpy(fields)}


def history_run(
    module: HistoryTransformer, parts: dict[str, LabelledExamples], click: np.ndarray, **settings: Any
) -> Run:
    """Make a run of the transformer: windows of the log, of whose events some are rows to learn from.

    Args:
        module: The transformer.
        parts: Rows of one event each, named train, validation and test.
        click: (T,) label of every event; those after a row are never read for it.
        settings: Of `Run`.
    """
    events, length = parts["train"].events, module.length
    part_of = np.zeros(events.n_events, dtype=np.int8)
    place = {}
    for number, (name, rows) in enumerate(parts.items(), start=1):
        place[name] = events.offsets[:-1][rows.user_index] + rows.n_known
        part_of[place[name]] = number
    windows = _windows(events.offsets, length)
    random = np.random.default_rng(0)
    last_learned = np.maximum.reduceat(
        np.where(part_of == 1, np.arange(len(part_of)), -1), events.offsets[:-1]
    )
    learned = windows[windows[:, 0] <= np.repeat(last_learned, _n_windows(events.offsets, length))]

    def batch_of(these: np.ndarray) -> Batch:
        at = these[:, :1] + np.arange(length)
        is_there = at < these[:, 1:2]
        at = np.minimum(at, len(part_of) - 1)
        arrays = {
            "items": np.where(is_there, events.item_index[at], module.items.padding_idx),
            "clicks": np.where(is_there, click[at], 0).astype(np.int64),
            "part": np.where(is_there & (at >= these[:, 2:3]), part_of[at], 0).astype(np.int64),
            "at": at,
        }
        return {name: torch.from_numpy(array.astype(np.int64)) for name, array in arrays.items()}

    def batches(_: int) -> Any:
        order = random.permutation(len(learned))
        return (batch_of(learned[order[at : at + 32]]) for at in range(0, len(order), 32))

    def loss(batch: Batch) -> Tensor:
        is_learned = batch["part"] == 1
        logits = module(batch)[is_learned]
        return functional.binary_cross_entropy_with_logits(logits, batch["clicks"][is_learned].float())

    def told(name: str) -> np.ndarray:
        chances = np.full(len(part_of), np.nan, dtype=np.float32)
        number = list(parts).index(name) + 1
        ends_after = np.minimum(windows[:, 0] + length, windows[:, 1])
        counted = np.concatenate([[0], np.cumsum(part_of == number)])
        asked = windows[counted[ends_after] > counted[windows[:, 2]]]
        for start in range(0, len(asked), 128):
            batch = batch_of(asked[start : start + 128])
            is_asked = (batch["part"] == number).numpy()
            chances[batch["at"].numpy()[is_asked]] = torch.sigmoid(module(batch)).numpy()[is_asked]
        answered: np.ndarray = chances[place[name]]
        return answered

    return Run(module, loss, batches, told, parts["validation"].labels[:, 0], **settings)


def _n_windows(offsets: np.ndarray, length: int) -> np.ndarray:
    step = length // 2
    return np.maximum(1, -(-(np.diff(offsets) - length) // step) + 1)


def _windows(offsets: np.ndarray, length: int) -> np.ndarray:
    """Return (W, 3): start, end of the user's events, first event that this window answers for.

    Windows overlap by half: each event is answered where it has most history.
    """
    n_windows, step = _n_windows(offsets, length), length // 2
    nth = np.concatenate([np.arange(n) for n in n_windows])
    first, end = np.repeat(offsets[:-1], n_windows), np.repeat(offsets[1:], n_windows)
    start = first + nth * step
    return np.stack([start, end, np.where(nth == 0, start, start + length - step)], axis=1)
