"""Training a two-tower: from texts and events to `TrainedTowers`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from zhiyin.contracts import Growth, ReadsWithModel, TrainingData
from zhiyin.domain import Examples, FloatArray, Queries
from zhiyin.language.adapting import AdaptedEncoder, AdapterShape
from zhiyin.language.model_files import locate_model
from zhiyin.language.whitening import Whitening
from zhiyin.sources.two_tower.learner import TowerLearner
from zhiyin.sources.two_tower.scoring import user_vectors
from zhiyin.sources.two_tower.settings import TextTwoTowerConfig
from zhiyin.sources.two_tower.tower import Towers, project
from zhiyin.sources.two_tower.trained import AdaptedModel, TrainedTowers
from zhiyin.sources.two_tower.windows import Pieces, Step
from zhiyin.training.batches import LengthBuckets
from zhiyin.training.checkpoints import fingerprint
from zhiyin.training.continuing import shortened
from zhiyin.training.curve import LearningCurve
from zhiyin.training.devices import device_facts, open_fabric
from zhiyin.training.loop import train
from zhiyin.training.plan import TrainingPlan
from zhiyin.training.selection import sample_examples, validation_ndcg

STEPS_AN_EPOCH = 100
"""At most; with much data an epoch is a random part of it, so that validation comes often enough."""
EXAMPLES_TO_STOP_ON = 4000
_ITEMS_PER_DIMENSION = 4
"""With fewer items than this for each dimension, whitening would only push all items apart."""
LENGTH_OF_TRAINING = {"max_epochs", "patience", "epochs_without_validation", "max_minutes"}


def fit_towers(
    config: TextTwoTowerConfig,
    training: TrainingData,
    name: str,
    start: TrainedTowers | None = None,
    growth: Growth | None = None,
) -> TrainedTowers:
    """Train until the validation metric stops rising, and keep the best weights.

    Where the language does not say which model it reads with, or ``rank`` is 0, the encoder stays as it is.

    Args:
        config: Settings.
        training: What to learn from.
        name: Of the source.
        start: What to go on from.
        growth: How to go on.

    Raises:
        TrainingError: when the loss is not a number.
    """
    if growth is not None:
        shorter = shortened(config.training, growth.continuing)
        config = config.model_copy(update={"training": shorter})
    fabric = open_fabric(config.training)
    vectors = training.language.vectors(training.dataset.catalogue)
    has_words = np.any(vectors != 0, axis=1)
    pieces = Pieces.of(training.dataset, has_words, config.history_length)
    can_learn = len(pieces.first) > 0 and bool((pieces.weight > 0).any())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        made = _Made.of(config, training, vectors, start, adapts=can_learn or start is not None)
    learner = made.learner
    learner.to(fabric.device)
    curve = LearningCurve(stopped_by="nothing to learn")
    if can_learn and made.encoder is not None and start is None:
        _train_behind(config, training, name, learner, pieces)
    if can_learn:
        plan = _plan(config, training, name, learner, pieces)
        curve = train(plan, progress=training.progress, checkpoints=training.checkpoints, fabric=fabric)
    else:
        training.progress.say(
            f"{name}: nothing can be learned from what was done; texts are compared as they are"
        )
    facts = {
        "learning_curve": curve.facts(),
        "training_seconds": curve.seconds,
        "temperature": learner.towers.temperature.item(),
        **device_facts(fabric),
    }
    with training.progress.stage(f"{name}: reading all texts with the best weights"):
        return made.finished(facts)


def _train_behind(
    config: TextTwoTowerConfig, training: TrainingData, name: str, learner: TowerLearner, pieces: Pieces
) -> None:
    """Train what stands behind the encoder first: it takes seconds, and adapters then need fewer steps."""
    frozen = TowerLearner(
        learner.towers, learner.encoded, training.dataset.item_counts, config.popularity_correction
    )
    plan = _plan(config, training, f"{name} behind the encoder", frozen, pieces)
    train(plan, progress=training.progress, checkpoints=training.checkpoints)
    learner.train()


@dataclass(frozen=True, eq=False)
class _Made:
    """A learner, and what of it stays when training is over."""

    learner: TowerLearner
    encoder: AdaptedEncoder | None
    adapted: AdaptedModel | None

    @classmethod
    def of(
        cls,
        config: TextTwoTowerConfig,
        training: TrainingData,
        vectors: FloatArray,
        start: TrainedTowers | None,
        *,
        adapts: bool,
    ) -> _Made:
        catalogue, language = training.dataset.catalogue, training.language
        model_name = language.model_name if isinstance(language, ReadsWithModel) else None
        encoder, adapted, opened = None, None, None
        if config.rank and model_name is not None and adapts:
            model = locate_model(model_name)
            shape = AdapterShape(config.rank, config.adapted_layers, config.max_tokens)
            encoder = AdaptedEncoder(model, shape, progress=training.progress)
            adapted = AdaptedModel(model_name, model.fingerprint, shape, {})
            if start is not None and start.adapted is not None and start.adapted.shape == shape:
                encoder.take_adapters(start.adapted.adapters)
            opened = encoder.open_texts(language.texts(catalogue))
        towers = _towers(config, vectors, start)
        counts = training.dataset.item_counts
        learner = TowerLearner(
            towers, torch.tensor(vectors), counts, config.popularity_correction, encoder, opened
        )
        return cls(learner, encoder, adapted)

    def finished(self, facts: dict[str, Any]) -> TrainedTowers:
        learner = self.learner.eval()
        encoded = learner.read_all().cpu().numpy()
        towers = learner.towers.cpu()
        mean, projection = towers.mean.detach().numpy(), towers.projection.detach().numpy()
        weights = towers.event_weights.detach().numpy()
        adapted = self.adapted
        if self.encoder is not None and adapted is not None:
            adapted = AdaptedModel(adapted.name, adapted.fingerprint, adapted.shape, self.encoder.adapters())
        return TrainedTowers(project(encoded, mean, projection), mean, projection, weights, adapted, facts)


def _towers(config: TextTwoTowerConfig, vectors: FloatArray, start: TrainedTowers | None) -> Towers:
    whitening = Whitening.fit(vectors, strength=config.whitening)
    dimension = vectors.shape[1]
    if int(np.any(vectors != 0, axis=1).sum()) < _ITEMS_PER_DIMENSION * dimension:
        whitening = Whitening(whitening.mean, np.eye(dimension, dtype=np.float32))
    towers = Towers(whitening, config.history_length, config.temperature)
    if start is not None and start.mean.shape == whitening.mean.shape:
        with torch.no_grad():
            towers.mean.copy_(torch.tensor(start.mean))
            towers.projection.data = torch.tensor(start.projection)
            towers.start_from(torch.tensor(start.event_weights), float(start.facts["temperature"]))
    return towers


def _plan(
    config: TextTwoTowerConfig, training: TrainingData, name: str, learner: TowerLearner, pieces: Pieces
) -> TrainingPlan:
    seed = training.seed
    buckets = LengthBuckets(pieces.lengths, config.training.tokens_per_batch, seed)

    def batches(epoch: int) -> list[npt.NDArray[np.int64]]:
        return buckets.epoch(epoch)[:STEPS_AN_EPOCH]

    def collate(rows: npt.NDArray[np.int64]) -> Step:
        return pieces.step(rows)

    known = {"config": config.model_dump(exclude={"training": LENGTH_OF_TRAINING}), "seed": seed}
    arrays: dict[str, npt.NDArray[Any]] = {
        "items": pieces.items,
        "age": pieces.age,
        "weight": pieces.weight,
        "encoded": learner.encoded.cpu().numpy(),
    }
    return TrainingPlan(
        name=name,
        module=learner,
        batches=batches,
        collate=collate,
        quality=_quality(learner, training.validation, seed),
        settings=config.training,
        seed=seed,
        fingerprint=fingerprint(known, arrays),
    )


def _quality(learner: TowerLearner, validation: Examples | None, seed: int) -> Callable[[], float] | None:
    if validation is None or not len(validation):
        return None
    examples = sample_examples(validation, EXAMPLES_TO_STOP_ON, seed=seed)

    def quality() -> float:
        items = learner.towers.items(learner.read_all()).float().cpu().numpy()
        weights = learner.towers.event_weights.cpu().numpy()

        def score_all(queries: Queries) -> FloatArray:
            users, _ = user_vectors(queries.histories, items, weights)
            scores: FloatArray = users @ items.T
            return scores

        return validation_ndcg(score_all, examples)

    return quality
