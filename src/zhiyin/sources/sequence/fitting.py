"""From training data to a trained transformer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from zhiyin.contracts import CatalogueLanguage, TrainingData
from zhiyin.data.dataset import Dataset
from zhiyin.domain import NO_TIMESTAMP, BoolArray, Catalogue, Examples, FloatArray, Histories, LongArray
from zhiyin.sources.sequence.derived import (
    dimension_of,
    dropout_of,
    is_large,
    is_repeated,
    learns_repeats,
    max_length_of,
    n_negatives_of,
    tokens_per_batch_of,
)
from zhiyin.sources.sequence.finishing import finished
from zhiyin.sources.sequence.learner import Batch, SequenceLearner
from zhiyin.sources.sequence.network import SequenceNetwork, Shape
from zhiyin.sources.sequence.prediction import score_catalogue
from zhiyin.sources.sequence.ranking import catalogue_ndcg
from zhiyin.sources.sequence.settings import SequenceTransformerConfig
from zhiyin.sources.sequence.tables import MOST_ID_ROWS, IdTable, ItemVectors, TextTable
from zhiyin.sources.sequence.text import Whitening, text_portions
from zhiyin.sources.sequence.trained import TrainedSequence
from zhiyin.sources.sequence.windows import ShiftingWindows
from zhiyin.training.checkpoints import fingerprint
from zhiyin.training.curve import LearningCurve
from zhiyin.training.devices import device_facts, open_fabric
from zhiyin.training.loop import train
from zhiyin.training.losses import NegativeSampler
from zhiyin.training.plan import TrainingPlan
from zhiyin.training.selection import sample_examples, validation_ndcg

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
    repeated = is_repeated(histories)
    has_repeats = learns_repeats(config, histories, repeated, dataset.n_items)
    shape = _shape(config, dataset, histories)
    windows = ShiftingWindows(
        histories,
        target_weights(dataset, histories, None if has_repeats else repeated),
        shape.max_length,
        tokens_per_batch_of(config, histories),
        training.seed,
    )
    dropout = dropout_of(config, dataset, histories)
    whitening, texts = None, None
    if config.use_text:
        whitening, texts = whitened_texts(training.language, dataset.catalogue)
        if not texts.has_text.any():
            whitening, texts = None, None
    fabric = open_fabric(config.training)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        items = ItemVectors(id_table(config, shape.dimension, dataset.item_counts), texts)
        learner = learner_of(config, items, SequenceNetwork(shape, dropout), dataset.item_counts)
    learner.to(fabric.device)
    plan = training_plan(config, training, name, learner, windows, has_repeats)
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
        "learns_repeats": has_repeats,
        "n_parameters": sum(parameter.numel() for parameter in learner.parameters()),
        "full_softmax": learner.is_full,
        **device_facts(fabric),
    }
    learner = learner.cpu().eval()
    vectors, arrivals = finished(learner.items, whitening, dataset.item_counts)
    return TrainedSequence(shape, learner.network, vectors, arrivals, facts)


def _shape(config: SequenceTransformerConfig, dataset: Dataset, histories: Histories) -> Shape:
    has_times = bool((histories.timestamp != NO_TIMESTAMP).any())
    return Shape(
        dimension_of(config, dataset, histories),
        config.n_blocks,
        config.n_heads,
        max_length_of(config, histories),
        config.use_gaps and has_times,
    )


def target_weights(dataset: Dataset, histories: Histories, repeated: BoolArray | None = None) -> FloatArray:
    """Return (T,) float32: how much each event of the histories counts as a target.

    An event counts what its kind counts; one whose value is below the threshold of "liked" is context only,
    and so is one that is marked in ``repeated``.
    """
    weights = np.maximum(dataset.event_weights, 0.0)[histories.event_index]
    if dataset.positive_value is not None:
        weights = np.where(histories.value < dataset.positive_value, 0.0, weights)
    if repeated is not None:
        weights = np.where(repeated, 0.0, weights)
    return np.asarray(weights / max(float(weights.max(initial=0.0)), 1e-9), dtype=np.float32)


def training_plan(
    config: SequenceTransformerConfig,
    training: TrainingData,
    name: str,
    learner: SequenceLearner,
    windows: ShiftingWindows,
    has_repeats: bool,
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
        collate=lambda description: Batch.of(*description, has_repeats=has_repeats),
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


def id_table(config: SequenceTransformerConfig, dimension: int, counts: LongArray) -> IdTable:
    """Return random ID vectors for items with (I,) events, in as many rows as the settings allow."""
    n_rows = MOST_ID_ROWS if config.n_id_rows == "auto" else config.n_id_rows
    return IdTable(counts, n_rows, dimension)


def learner_of(
    config: SequenceTransformerConfig, items: ItemVectors, network: SequenceNetwork, counts: LongArray
) -> SequenceLearner:
    """Put vectors and network together; large catalogues learn against sampled negatives."""
    n_negatives = n_negatives_of(config, len(counts))
    sampler = NegativeSampler(torch.from_numpy(counts)) if n_negatives else None
    return SequenceLearner(items, network, sampler, n_negatives)


def _quality(learner: SequenceLearner, validation: Examples | None, seed: int) -> Callable[[], float] | None:
    if validation is None or not len(validation):
        return None
    n_items = len(learner.items)
    n_examples = min(EXAMPLES_TO_STOP_ON, max(FEWEST_EXAMPLES, MOST_SCORES_TO_STOP_ON // n_items))
    examples = sample_examples(validation, n_examples, seed=seed)

    def quality() -> float:
        if is_large(n_items):
            return catalogue_ndcg(learner.network, learner.items, examples)
        vectors, network = learner.items().float(), learner.network
        return validation_ndcg(lambda queries: score_catalogue(network, vectors, queries), examples)

    return quality
