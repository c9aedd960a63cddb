"""From training data to a trained transformer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from zhiyin.contracts import CatalogueLanguage, TrainingData
from zhiyin.data.dataset import Dataset
from zhiyin.domain import NO_TIMESTAMP, Catalogue, Examples, FloatArray, Histories, LongArray
from zhiyin.sources.sequence.finishing import finished
from zhiyin.sources.sequence.learner import Batch, SequenceLearner
from zhiyin.sources.sequence.network import SequenceNetwork, Shape
from zhiyin.sources.sequence.prediction import score_catalogue
from zhiyin.sources.sequence.ranking import catalogue_ndcg
from zhiyin.sources.sequence.settings import SequenceTransformerConfig
from zhiyin.sources.sequence.tables import MOST_ID_ROWS, IdTable, ItemVectors, TextTable
from zhiyin.sources.sequence.text import Whitening, text_portions
from zhiyin.sources.sequence.trained import TrainedSequence
from zhiyin.sources.sequence.windows import ShiftingWindows, length_limit
from zhiyin.training.batches import size_of_batch
from zhiyin.training.checkpoints import fingerprint
from zhiyin.training.curve import LearningCurve
from zhiyin.training.devices import device_facts, open_fabric
from zhiyin.training.loop import train
from zhiyin.training.losses import NegativeSampler
from zhiyin.training.plan import TrainingPlan
from zhiyin.training.selection import sample_examples, validation_ndcg

LARGEST_FULL_CATALOGUE = 100_000
"""Items up to which the loss sums over the whole catalogue."""
NEGATIVES_BEYOND = 8192
LENGTH_OF_TRAINING = {"max_epochs", "epochs_without_validation", "patience", "max_minutes", "devices"}
"""Settings that may change between a run and the one that takes it up: they end it, they do not steer it."""
EXAMPLES_TO_STOP_ON = 10_000
FEWEST_EXAMPLES = 1_000
MOST_SCORES_TO_STOP_ON = 10_000_000_000
"""Scores of items computed to validate an epoch: some 30 seconds of one core with vectors of 64 numbers."""
LEAST_STEPS = 1_000
"""Steps before patience may end training: text alone ranks well at once, and IDs disturb it at first."""


def fit_sequence(config: SequenceTransformerConfig, training: TrainingData, name: str) -> TrainedSequence:
    """Train a transformer on the histories and texts of the training data.

    Raises:
        TrainingError: when the loss is not a number.
    """
    dataset = training.dataset
    histories = dataset.histories.without_repeats()
    length = _max_length(config, histories)
    has_times = bool((histories.timestamp != NO_TIMESTAMP).any())
    shape = Shape(config.dimension, config.n_blocks, config.n_heads, length, config.use_gaps and has_times)
    windows = ShiftingWindows(
        histories,
        target_weights(dataset, histories),
        shape.max_length,
        _tokens_per_batch(config, histories),
        training.seed,
    )
    dropout = _dropout(config, dataset, histories)
    whitening, texts = None, None
    if config.use_text:
        whitening, texts = whitened_texts(training.language, dataset.catalogue)
        if not texts.has_text.any():
            whitening, texts = None, None
    fabric = open_fabric(config.training)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        items = ItemVectors(id_table(config, dataset.item_counts), texts)
        learner = learner_of(config, items, SequenceNetwork(shape, dropout), dataset.item_counts)
    learner.to(fabric.device)
    plan = training_plan(config, training, name, learner, windows)
    if windows.epoch(1):
        curve = train(plan, progress=training.progress, checkpoints=training.checkpoints, fabric=fabric)
    else:
        training.progress.say(f"{name}: nobody has two events on different items; it will have no opinion")
        curve = LearningCurve(stopped_by="nothing to learn")
    facts: dict[str, Any] = {
        "has_learned": bool(curve.epochs),
        "learning_curve": curve.facts(),
        "training_seconds": curve.seconds,
        "dropout": dropout,
        "n_parameters": sum(parameter.numel() for parameter in learner.parameters()),
        "full_softmax": learner.is_full,
        **device_facts(fabric),
    }
    learner = learner.cpu().eval()
    vectors, arrivals = finished(learner.items, whitening, dataset.item_counts)
    return TrainedSequence(shape, learner.network, vectors, arrivals, facts)


def target_weights(dataset: Dataset, histories: Histories) -> FloatArray:
    """Return (T,) float32: how much each event of the histories counts as a target.

    An event counts what its kind counts; one whose value is below the threshold of "liked" is context only.
    """
    weights = np.maximum(dataset.event_weights, 0.0)[histories.event_index]
    if dataset.positive_value is not None:
        weights = np.where(histories.value < dataset.positive_value, 0.0, weights)
    return np.asarray(weights / max(float(weights.max(initial=0.0)), 1e-9), dtype=np.float32)


def training_plan(
    config: SequenceTransformerConfig,
    training: TrainingData,
    name: str,
    learner: SequenceLearner,
    windows: ShiftingWindows,
) -> TrainingPlan:
    """Say how a learner is trained on windows, so that the loop, and a checkpoint, know all of it."""
    n_items = training.dataset.n_items
    arrays: dict[str, npt.NDArray[Any]] = {
        "items": windows.histories.item_index,
        "offsets": windows.histories.offsets,
        "weights": windows.weights,
        "moments": windows.histories.timestamp,
    }
    if learner.items.texts is not None:
        arrays |= learner.items.texts.arrays()
    learned_by = config.model_dump(exclude={"training": LENGTH_OF_TRAINING})
    return TrainingPlan(
        name=name,
        module=learner,
        batches=windows.epoch,
        collate=lambda description: Batch.of(*description),
        quality=_quality(learner, training.validation, training.seed),
        settings=config.training,
        seed=training.seed,
        least_steps=LEAST_STEPS,
        fingerprint=fingerprint({"config": learned_by, "seed": training.seed, "n_items": n_items}, arrays),
    )


def whitened_texts(language: CatalogueLanguage, catalogue: Catalogue) -> tuple[Whitening, TextTable]:
    """Read the texts of a catalogue twice: to measure how they vary, and to whiten them."""
    whitening = Whitening.of_portions(text_portions(language, catalogue))
    portions = (whitening(vectors) for vectors in text_portions(language, catalogue))
    return whitening, TextTable.of(portions, len(catalogue))


def id_table(config: SequenceTransformerConfig, counts: LongArray) -> IdTable:
    """Return random ID vectors for items with (I,) events, in as many rows as the settings allow."""
    n_rows = MOST_ID_ROWS if config.n_id_rows == "auto" else config.n_id_rows
    return IdTable(counts, n_rows, config.dimension)


def learner_of(
    config: SequenceTransformerConfig, items: ItemVectors, network: SequenceNetwork, counts: LongArray
) -> SequenceLearner:
    """Put vectors and network together; large catalogues learn against sampled negatives."""
    n_items, n_negatives = len(counts), config.n_negatives
    if n_negatives == "auto":
        n_negatives = NEGATIVES_BEYOND if n_items > LARGEST_FULL_CATALOGUE else 0
    sampler = NegativeSampler(torch.from_numpy(counts)) if n_negatives else None
    return SequenceLearner(items, network, sampler, n_negatives)


def _quality(learner: SequenceLearner, validation: Examples | None, seed: int) -> Callable[[], float] | None:
    if validation is None or not len(validation):
        return None
    n_items = len(learner.items)
    n_examples = min(EXAMPLES_TO_STOP_ON, max(FEWEST_EXAMPLES, MOST_SCORES_TO_STOP_ON // n_items))
    examples = sample_examples(validation, n_examples, seed=seed)

    def quality() -> float:
        if n_items > LARGEST_FULL_CATALOGUE:
            return catalogue_ndcg(learner.network, learner.items, examples)
        vectors, network = learner.items().float(), learner.network
        return validation_ndcg(lambda queries: score_catalogue(network, vectors, queries), examples)

    return quality


def _max_length(config: SequenceTransformerConfig, histories: Histories) -> int:
    if config.max_length == "auto":
        return length_limit(histories)
    return min(config.max_length, max(int(histories.lengths.max(initial=0)) - 1, 1))


def _dropout(config: SequenceTransformerConfig, dataset: Dataset, histories: Histories) -> float:
    if config.dropout != "auto":
        return config.dropout
    return dropout_for(histories.n_events / max(int((dataset.item_counts > 0).sum()), 1))


def dropout_for(events_per_item: float) -> float:
    """Choose dropout: 0.4 up to 15 events an item, 0.2 from 150 on, in between on the logarithm.

    Where an item has a dozen events, its vector learns them by heart; where it has hundreds, it cannot.
    """
    share = np.log10(max(events_per_item, 1e-9) / 15.0)
    return round(0.4 - 0.2 * float(np.clip(share, 0.0, 1.0)), 3)


def _tokens_per_batch(config: SequenceTransformerConfig, histories: Histories) -> int:
    n_inputs = int(np.maximum(histories.lengths - 1, 0).sum())
    return size_of_batch(config.training.tokens_per_batch, n_inputs)
