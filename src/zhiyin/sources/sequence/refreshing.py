"""A trained transformer that goes on from its weights, on what is new and a sample of what is old."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from zhiyin.contracts import Continuing, Growth, TrainingData
from zhiyin.domain import BoolArray, Histories, LongArray
from zhiyin.domain.arrays import flat_positions
from zhiyin.sources.sequence.derived import is_repeated, learns_repeats
from zhiyin.sources.sequence.finishing import finished
from zhiyin.sources.sequence.fitting import (
    fit_sequence,
    id_table,
    learner_of,
    target_weights,
    training_plan,
    whitened_texts,
)
from zhiyin.sources.sequence.network import SequenceNetwork
from zhiyin.sources.sequence.settings import SequenceTransformerConfig
from zhiyin.sources.sequence.sharing import shared_rows
from zhiyin.sources.sequence.tables import IdTable, ItemVectors, TextTable
from zhiyin.sources.sequence.text import Whitening
from zhiyin.sources.sequence.trained import TrainedSequence
from zhiyin.sources.sequence.windows import ShiftingWindows
from zhiyin.training.continuing import shortened
from zhiyin.training.devices import device_facts, open_fabric
from zhiyin.training.loop import train


def continue_sequence(
    config: SequenceTransformerConfig,
    trained: TrainedSequence,
    training: TrainingData,
    growth: Growth,
    name: str,
) -> TrainedSequence:
    """Train further from the weights that are there.

    An item that arrived since begins with the vector it was served by, made of its text; one that nobody
    has touched yet gets such a vector again at the end. When validation likes no epoch better than what was
    there, everything stays as it was.

    Args:
        config: Of the source.
        trained: Knows every item of the training data, those that arrived since included.
        training: Everything, old and new.
        growth: What is new, and how to go on.
        name: What progress and checkpoints call it.

    Raises:
        TrainingError: when the loss is not a number.
    """
    if not trained.facts["has_learned"]:
        return fit_sequence(config, training, name)
    whole = training.dataset.histories.without_repeats()
    runs = to_learn_from(
        training.dataset.histories,
        growth.is_new,
        max_length=trained.shape.max_length,
        continuing=growth.continuing,
        seed=training.seed,
    )
    histories = whole.runs(*runs)
    n_inputs = int(np.maximum(histories.lengths - 1, 0).sum())
    if not n_inputs:
        return trained
    shorter = shortened(config.training, growth.continuing, n_inputs)
    going_on = config.model_copy(update={"training": shorter})
    repeated = is_repeated(whole)  # also where the first time lies before what is read again
    has_repeats = learns_repeats(config, whole, repeated, training.dataset.n_items)
    weights = target_weights(
        training.dataset, histories, None if has_repeats else repeated[flat_positions(*runs)]
    )
    windows = ShiftingWindows(
        histories, weights, trained.shape.max_length, shorter.tokens_per_batch, training.seed
    )
    counts = training.dataset.item_counts
    whitening, texts = None, None
    if trained.arrivals.reads_text:
        whitening, texts = whitened_texts(training.language, training.dataset.catalogue)
    fabric = open_fabric(going_on.training)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        network = SequenceNetwork(trained.shape, float(trained.facts["dropout"]))
        network.load_state_dict(trained.network.state_dict())
        items = taken_apart(trained, id_table(config, trained.shape.dimension, counts), texts, whitening)
        learner = learner_of(going_on, items, network, counts)
    learner.to(fabric.device)
    plan = training_plan(going_on, training, name, learner, windows, has_repeats)
    before = plan.quality_now()
    curve = train(plan, progress=training.progress, checkpoints=training.checkpoints, fabric=fabric)
    best = None if curve.best is None else curve.best.validation
    if before is not None and best is not None and best < before:
        training.progress.say(f"{name}: NDCG@10 {best:.4f} at best, {before:.4f} before; it stays as it was")
        return trained
    facts: dict[str, Any] = {
        **trained.facts,
        "learning_curve": curve.facts(),
        "training_seconds": curve.seconds,
        "learns_repeats": has_repeats,
        "full_softmax": learner.is_full,
        "events_learned_from": histories.n_events,
        **device_facts(fabric),
    }
    learner = learner.cpu().eval()
    vectors, arrivals = finished(learner.items, whitening, counts)
    return TrainedSequence(trained.shape, learner.network, vectors, arrivals, facts)


@torch.no_grad()
def taken_apart(
    trained: TrainedSequence, ids: IdTable, texts: TextTable | None, whitening: Whitening | None
) -> ItemVectors:
    """Split finished item vectors into ID vectors and projected texts, such that their sums stay the same.

    The texts may be whitened another way than before, because the catalogue grew: the projection P of plain
    texts stays, and the weight W behind a whitening matrix M is what solves M Wᵀ = P. Where items share
    rows, the sums of those stay as near as the rows allow.

    Args:
        trained: Knows every item.
        ids: Of the same items; its numbers are replaced.
        texts: Of the same items, or None.
        whitening: Of the texts.
    """
    items = ItemVectors(ids, texts)
    if items.projection is not None and whitening is not None:
        weight = np.linalg.lstsq(
            whitening.matrix.astype(np.float64), trained.arrivals.projection.astype(np.float64), rcond=None
        )[0].T.astype(np.float32)
        items.projection.weight.copy_(torch.from_numpy(np.ascontiguousarray(weight)))
    of_ids = torch.empty(len(items), trained.shape.dimension)
    for part in items.portions():
        of_text = items.of_text(part)
        vectors = trained.item_vectors[part].float()
        of_ids[part] = vectors if of_text is None else vectors - of_text
    ids.rows.copy_(of_ids if ids.places is None else shared_rows(of_ids, ids.places, len(ids.rows)))
    return items


def to_learn_from(
    histories: Histories, is_new: BoolArray, *, max_length: int, continuing: Continuing, seed: int
) -> tuple[LongArray, LongArray]:
    """Choose what to train on: who did something new, with what led up to it, and some old histories.

    Args:
        histories: Everything.
        is_new: (T,) bool, aligned with its flat events.
        max_length: Events before the first new one of a history that come along.
        continuing: How many events come from histories without anything new, as far as there are so many.
        seed: Of the sample.

    Returns:
        (B,) int64 each: where runs of flat events begin in the histories without repeats, and their lengths.
    """
    marked = replace(histories, timestamp=is_new.astype(np.int64)).without_repeats()
    row_of_new = marked.row_of_event[marked.timestamp > 0]
    first_new = np.flatnonzero(marked.timestamp > 0)[np.unique(row_of_new, return_index=True)[1]]
    rows = np.unique(row_of_new)
    starts = np.maximum(marked.offsets[:-1][rows], first_new - max_length)
    lengths = marked.offsets[1:][rows] - starts
    others = np.setdiff1d(np.flatnonzero(marked.lengths > 1), rows)
    replayed = _sample(others, marked.lengths, continuing.n_replayed(int(lengths.sum())), seed)
    starts = np.concatenate([starts, marked.offsets[:-1][replayed]])
    lengths = np.concatenate([lengths, marked.lengths[replayed]])
    return starts, lengths


def _sample(rows: LongArray, lengths: LongArray, budget: float, seed: int) -> LongArray:
    """Draw rows until their lengths add up to the budget."""
    drawn = np.random.default_rng(seed).permutation(rows)
    before = np.cumsum(lengths[drawn]) - lengths[drawn]
    kept: LongArray = drawn[before < budget]
    return kept
