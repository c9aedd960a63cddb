"""From training data to vectors, the same for all factor models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from zhiyin.contracts import TrainingData
from zhiyin.domain import LongArray
from zhiyin.sources.factors.ranking import FactorLearner, Pairs, Ranking
from zhiyin.sources.factors.settings import FactorConfig
from zhiyin.sources.factors.space import FactorSpace, FittedFactors
from zhiyin.sources.factors.taken import DrawnPairs, EventWorth, Taken
from zhiyin.training.batches import size_of_batch
from zhiyin.training.checkpoints import fingerprint
from zhiyin.training.curve import LearningCurve
from zhiyin.training.devices import device_facts, open_fabric
from zhiyin.training.loop import train
from zhiyin.training.losses import NegativeSampler
from zhiyin.training.plan import TrainingPlan
from zhiyin.training.selection import sample_examples, validation_ndcg

DECAYS_TRIED = (1.0, 0.9, 0.75, 0.6, 0.4)
"""What ``auto`` chooses from."""
EXAMPLES_TO_STOP_ON = 5_000
LENGTH_OF_TRAINING = {"max_epochs", "epochs_without_validation", "patience", "max_minutes", "devices"}
"""Settings that may change between a run and the one that takes it up: they end it, they do not steer it."""

MakeLearner = Callable[[Taken, Ranking], FactorLearner]


def fit_factors(
    config: FactorConfig, training: TrainingData, name: str, make_learner: MakeLearner
) -> FittedFactors:
    """Train a factor model on who took what, and choose how fast histories fade.

    Early stopping asks as the service does: by histories, never by the vectors of users that were trained.

    Raises:
        TrainingError: when the loss is not a number.
    """
    worth = EventWorth.of(training.dataset)
    taken = Taken.of(training.dataset, worth)
    fabric = open_fabric(config.training)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        sampler = NegativeSampler(torch.from_numpy(taken.item_counts), config.negative_power)
        ranking = Ranking(config.loss, sampler, config.n_negatives, config.regularisation)
        learner = make_learner(taken, ranking)
    learner.to(fabric.device)
    decay = 1.0 if config.history_decay == "auto" else config.history_decay

    def space() -> FactorSpace:
        read = learner.read_out()
        parts = (read.history_vectors, read.item_vectors, read.start)
        return FactorSpace(*parts, learner.divided_by, decay, worth, taken.item_counts > 0)

    plan = _plan(config, training, name, learner, taken, space)
    if plan.batches(1):
        curve = train(plan, progress=training.progress, checkpoints=training.checkpoints, fabric=fabric)
    else:
        training.progress.say(f"{name}: nobody took anything; it will have no opinion")
        curve = LearningCurve(stopped_by="nothing to learn")
    facts: dict[str, Any] = {
        "learning_curve": curve.facts(),
        "training_seconds": curve.seconds,
        "n_parameters": sum(parameter.numel() for parameter in learner.parameters()),
        **device_facts(fabric),
    }
    with torch.inference_mode():
        trained = space()
    return FittedFactors(trained.decayed(_choose_decay(config, training, trained)), facts)


def _plan(
    config: FactorConfig,
    training: TrainingData,
    name: str,
    learner: FactorLearner,
    taken: Taken,
    space: Callable[[], FactorSpace],
) -> TrainingPlan:
    per_batch = size_of_batch(config.training.tokens_per_batch, len(taken.user))
    users, items = torch.from_numpy(taken.user), torch.from_numpy(taken.item)

    def collate(places: LongArray) -> Pairs:
        chosen = torch.from_numpy(places)
        return users[chosen], items[chosen], chosen

    learned_by = config.model_dump(exclude={"training": LENGTH_OF_TRAINING})
    sizes = {"n_users": taken.n_users, "n_items": taken.n_items}
    arrays: dict[str, npt.NDArray[Any]] = {"user": taken.user, "item": taken.item, "weight": taken.weight}
    return TrainingPlan(
        name=name,
        module=learner,
        batches=DrawnPairs(taken.weight, per_batch, training.seed).epoch,
        collate=collate,
        quality=_quality(training, space),
        settings=config.training,
        seed=training.seed,
        fingerprint=fingerprint({"config": learned_by, "seed": training.seed, **sizes}, arrays),
    )


def _quality(training: TrainingData, space: Callable[[], FactorSpace]) -> Callable[[], float] | None:
    if training.validation is None or not len(training.validation):
        return None
    examples = sample_examples(training.validation, EXAMPLES_TO_STOP_ON, seed=training.seed)
    return lambda: validation_ndcg(space().score, examples)


def _choose_decay(config: FactorConfig, training: TrainingData, space: FactorSpace) -> float:
    if config.history_decay != "auto" or training.validation is None:
        return space.decay
    examples = sample_examples(training.validation, EXAMPLES_TO_STOP_ON, seed=training.seed)
    qualities = [validation_ndcg(space.decayed(decay).score, examples) for decay in DECAYS_TRIED]
    return DECAYS_TRIED[int(np.argmax(qualities))]
