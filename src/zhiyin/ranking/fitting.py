"""Training a ranker: from labelled rows and text vectors to `TrainedRanker`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from zhiyin.data.labelled import LabelledExamples
from zhiyin.domain import FloatArray, LongArray, Progress, Silent
from zhiyin.domain.errors import ConfigError, ShapeMismatch, TrainingError, did_you_mean
from zhiyin.language.whitening import Whitening
from zhiyin.ranking.batches import Batch, Rows
from zhiyin.ranking.context import ContextReader
from zhiyin.ranking.labels import LabelScale
from zhiyin.ranking.learner import RankerLearner
from zhiyin.ranking.network import RankerNetwork, Shape
from zhiyin.ranking.runs import Runs
from zhiyin.ranking.settings import RankerConfig
from zhiyin.ranking.signals import Signals
from zhiyin.ranking.trained import Reader, TrainedRanker, raw_answers, read_texts
from zhiyin.training.checkpoints import fingerprint
from zhiyin.training.devices import device_facts, open_fabric
from zhiyin.training.loop import train
from zhiyin.training.plan import TrainingPlan

LENGTH_OF_TRAINING = {"patience", "max_minutes"}
METRIC = "explained"


@dataclass(frozen=True)
class RankerData:
    """What a ranker is trained on.

    Attributes:
        train: Rows to learn from.
        validation: Rows to stop by; None trains for a fixed number of epochs.
        vectors: (I, D) float32, one text vector for each item of the catalogue, zeros where there are no
            words; None learns without texts.
        seed: Of every random choice.
        progress: Who listens.
        checkpoints: Folder of the last good state, or None.
    """

    train: LabelledExamples
    validation: LabelledExamples | None = None
    vectors: FloatArray | None = None
    seed: int = 0
    progress: Progress = field(default_factory=Silent)
    checkpoints: Path | None = None


def fit_ranker(config: RankerConfig, data: RankerData, name: str) -> TrainedRanker:
    """Train until the validation rows are not explained better, and keep the best weights.

    Raises:
        TrainingError: when there are no rows, labels of a task are all equal, or the loss is not a number.
        ConfigError: when a weight is given to a task that does not exist.
        ShapeMismatch: when there are fewer text vectors than items, or validation rows have other tasks.
        DataError: when a column of the context is missing.
    """
    _check(config, data)
    reader = _reader(config, data)
    rows = reader.rows(data.train)
    fabric = open_fabric(config.training)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(data.seed)
        network = RankerNetwork(
            _shape(config, reader, rows), dropout=config.dropout, identity_dropout=config.identity_dropout
        )
        network.start_from(torch.from_numpy(reader.labels.usual))
    weights = _weights(config, reader.labels)
    is_yes_no = torch.from_numpy(reader.labels.is_yes_no)
    learner = RankerLearner(network, is_yes_no, torch.from_numpy(weights), config.balance, config.shrinkage)
    learner.to(fabric.device)
    plan = _plan(config, data, name, learner, rows, reader)
    curve = train(plan, progress=data.progress, checkpoints=data.checkpoints, fabric=fabric)
    facts = {
        "learning_curve": curve.facts(),
        "training_seconds": curve.seconds,
        "task_weights": dict(zip(reader.labels.tasks, map(float, learner.shares()), strict=True)),
        "yes_no": [
            task for task, is_one in zip(reader.labels.tasks, reader.labels.is_yes_no, strict=True) if is_one
        ],
        **device_facts(fabric),
    }
    return TrainedRanker(reader, network.cpu().eval(), facts)


def _check(config: RankerConfig, data: RankerData) -> None:
    train, validation = data.train, data.validation
    if not len(train):
        raise TrainingError("There are no rows to learn from.", remedy="Label some interactions first.")
    for task in config.task_weights:
        if task not in train.tasks:
            raise ConfigError(
                f"A weight is given to task '{task}', which the rows do not have."
                + did_you_mean(task, list(train.tasks)),
                possible=f"Tasks: {', '.join(train.tasks)}.",
            )
    if validation is not None and validation.tasks != train.tasks:
        raise ShapeMismatch(
            f"The rows to learn from have the tasks {', '.join(train.tasks)}; "
            f"those to choose by have {', '.join(validation.tasks)}."
        )
    n_items = int(train.item_index.max()) + 1
    if data.vectors is not None and (data.vectors.ndim != 2 or len(data.vectors) < n_items):
        raise ShapeMismatch(
            f"There are text vectors of shape {data.vectors.shape} for items up to index {n_items - 1}.",
            remedy="Give one row for each item of the catalogue.",
        )


def _reader(config: RankerConfig, data: RankerData) -> Reader:
    train, vectors = data.train, data.vectors
    whitening = None
    n_items = max(int(train.item_index.max()), int(train.events.item_index.max(initial=0))) + 1
    if vectors is not None:
        whitening = Whitening.fit(vectors, n_dimensions=config.text_dimension)
        n_items = len(vectors)
    texts = read_texts(whitening, vectors if vectors is not None else np.zeros((n_items, 1), np.float32))
    runs = Runs.of(train, config.history_length)
    seen = train.item_index
    if config.history_length:
        seen = np.concatenate([seen, train.events.item_index[_is_known(train)]])
    return Reader(
        config.history_length,
        _numbered(np.unique(train.user_index), len(train.events)),
        _numbered(np.unique(seen[seen < n_items]), n_items + 1),
        np.concatenate([texts, np.zeros_like(texts[:1])]),
        whitening,
        ContextReader.fit(train.context, config.context),
        Signals.fit(train, runs, n_items),
        LabelScale.fit(train),
    )


def _numbered(known: npt.NDArray[np.integer], n: int) -> LongArray:
    """Number those that were met from 1; all others share 0."""
    numbers = np.zeros(n, dtype=np.int64)
    numbers[known] = np.arange(1, len(known) + 1)
    return numbers


def _is_known(train: LabelledExamples) -> npt.NDArray[np.bool_]:
    """Mark the events that some row to learn from knew, (T,) bool."""
    n_known = np.zeros(len(train.events), dtype=np.int64)
    np.maximum.at(n_known, train.user_index, train.n_known)
    place = np.arange(train.events.n_events) - np.repeat(train.events.offsets[:-1], train.events.lengths)
    known: npt.NDArray[np.bool_] = place < np.repeat(n_known, train.events.lengths)
    return known


def _shape(config: RankerConfig, reader: Reader, rows: Rows) -> Shape:
    return Shape(
        n_users=int(reader.own_user.max(initial=0)),
        n_items=int(reader.own_item.max(initial=0)),
        n_kinds=reader.signals.n_kinds,
        n_words=reader.context.n_words,
        n_signals=rows.signals.shape[1],
        n_tasks=len(reader.labels.tasks),
        text_dimension=reader.texts.shape[1],
        dimension=config.dimension,
        hidden=config.hidden,
        n_experts=config.n_experts,
        reads_identity=config.identity_dropout < 1.0,
    )


def _weights(config: RankerConfig, labels: LabelScale) -> FloatArray:
    weights = np.array([config.task_weights.get(task, 1.0) for task in labels.tasks], dtype=np.float32)
    powers = {"root": 0.5, "scaled": 1.0}
    return weights / labels.loss ** np.float32(powers.get(config.balance, 0.0))


def _plan(
    config: RankerConfig, data: RankerData, name: str, learner: RankerLearner, rows: Rows, reader: Reader
) -> TrainingPlan:
    settings = config.training
    size = settings.tokens_per_batch

    def batches(epoch: int) -> list[npt.NDArray[np.int64]]:
        return rows.dealt(size, seed=data.seed, epoch=epoch)

    def collate(pieces: npt.NDArray[np.int64]) -> Batch:
        return rows.batch(pieces)

    n_epochs = settings.max_epochs if data.validation is not None else settings.epochs_without_validation
    n_steps = len(batches(1)) * n_epochs

    def schedule(step: int) -> float:
        # Early steps would otherwise be the longest of all, when the running means of AdamW are still young.
        warm = min(1.0, step / max(settings.warmup_steps, 1))
        return warm * max(1.0 - (step - 1) / n_steps, 1.0 / n_steps)

    known = {"config": config.model_dump(exclude={"training": LENGTH_OF_TRAINING}), "seed": data.seed}
    arrays: dict[str, npt.NDArray[Any]] = {
        "labels": rows.labels,
        "items": data.train.item_index,
        "users": data.train.user_index,
        "signals": rows.signals,
        "texts": reader.texts,
        "words": rows.words,
    }
    return TrainingPlan(
        name=name,
        module=learner,
        batches=batches,
        collate=collate,
        quality=_quality(config, data, learner, reader),
        settings=settings,
        seed=data.seed,
        fingerprint=fingerprint(known, arrays),
        metric=METRIC,
        schedule=schedule,
    )


def _quality(
    config: RankerConfig, data: RankerData, learner: RankerLearner, reader: Reader
) -> Callable[[], float] | None:
    validation = data.validation
    if validation is None or not len(validation):
        return None
    rows = reader.rows(validation)
    weights = _weights(config, reader.labels)
    if config.balance == "uncertainty":
        weights = weights / reader.labels.loss

    def quality() -> float:
        told = reader.labels.told(raw_answers(learner.network, rows))
        return reader.labels.explained(told, validation.labels, weights)

    return quality
