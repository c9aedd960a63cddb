"""One training run: the tasks of the material in, one network out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from zhiyin.domain import FloatArray
from zhiyin.ranking.batches import Batch
from zhiyin.ranking.labels import LabelScale
from zhiyin.ranking.learner import RankerLearner
from zhiyin.ranking.network import RankerNetwork, Shape
from zhiyin.ranking.reading import Material
from zhiyin.ranking.settings import RankerConfig
from zhiyin.ranking.trained import Part, raw_answers
from zhiyin.training.checkpoints import fingerprint
from zhiyin.training.devices import device_facts, open_fabric
from zhiyin.training.loop import train
from zhiyin.training.plan import TrainingPlan

LENGTH_OF_TRAINING = {"patience", "max_minutes"}
METRIC = "explained"


@dataclass(frozen=True, eq=False)
class Learned:
    """A network that answers the tasks of its material.

    Attributes:
        network: In evaluation mode, on the CPU.
        facts: What JSON can hold: learning curve, seconds, device, weights of the tasks.
        explained_before: How well the rows to stop by were explained by the network that was started from;
            None without one, or without such rows.
        explained: How well they are now; None without them.
    """

    network: RankerNetwork
    facts: dict[str, Any]
    explained_before: float | None = None
    explained: float | None = None


def learn_network(
    config: RankerConfig, material: Material, name: str, start: RankerNetwork | None = None
) -> Learned:
    """Train until the rows to stop by are not explained better, and keep the best weights.

    Args:
        config: Settings.
        material: Rows with the labels of the tasks that are learned.
        name: Of the run, in progress and checkpoints.
        start: What to go on from, which is trained; None begins with a new network.

    Raises:
        TrainingError: when the loss is not a number.
    """
    labels = material.reader.labels
    fabric = open_fabric(config.training)
    network = _new_network(config, material) if start is None else start
    weights = torch.from_numpy(_weights(config, labels))
    is_yes_no = torch.from_numpy(labels.is_yes_no)
    learner = RankerLearner(network, is_yes_no, weights, config.balance.name, config.shrinkage)
    learner.to(fabric.device)
    plan = _plan(config, material, name, learner, {} if start is None else start.state_dict())
    data = material.data
    before = None if start is None else plan.quality_now()
    curve = train(plan, progress=data.progress, checkpoints=data.checkpoints, fabric=fabric)
    facts = {
        "learning_curve": curve.facts(),
        "training_seconds": curve.seconds,
        "task_weights": dict(zip(labels.tasks, map(float, learner.shares()), strict=True)),
        "n_weights": sum(parameter.numel() for parameter in network.parameters()),
        **device_facts(fabric),
    }
    best = None if curve.best is None else curve.best.validation
    return Learned(network.cpu().eval(), facts, before, best)


def _new_network(config: RankerConfig, material: Material) -> RankerNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(material.data.seed)
        network = RankerNetwork(
            _shape(config, material), dropout=config.dropout, identity_dropout=config.identity_dropout
        )
        network.start_from(torch.from_numpy(material.reader.labels.usual))
    return network


def _shape(config: RankerConfig, material: Material) -> Shape:
    reader = material.reader
    return Shape(
        n_users=int(reader.own_user.max(initial=0)),
        n_items=int(reader.own_item.max(initial=0)),
        n_kinds=reader.signals.n_kinds,
        n_words=reader.context.n_words,
        n_signals=material.train.signals.shape[1],
        n_tasks=len(reader.labels.tasks),
        text_dimension=reader.texts.shape[1],
        dimension=config.dimension,
        hidden=config.hidden,
        n_experts=config.n_experts,
        reads_identity=config.identity_dropout < 1.0,
    )


def _plan(
    config: RankerConfig,
    material: Material,
    name: str,
    learner: RankerLearner,
    start: Mapping[str, torch.Tensor],
) -> TrainingPlan:
    settings, data, rows = config.training, material.data, material.train
    size = settings.tokens_per_batch

    def batches(epoch: int) -> list[npt.NDArray[np.int64]]:
        return rows.dealt(size, seed=data.seed, epoch=epoch)

    def collate(pieces: npt.NDArray[np.int64]) -> Batch:
        return rows.batch(pieces)

    n_epochs = settings.max_epochs if material.stopping is not None else settings.epochs_without_validation
    n_steps = len(batches(1)) * n_epochs

    def schedule(step: int) -> float:
        # Early steps would otherwise be the longest of all, when the running means of AdamW are still young.
        warm = min(1.0, step / max(settings.warmup_steps, 1))
        return warm * max(1.0 - (step - 1) / n_steps, 1.0 / n_steps)

    known = {"config": config.model_dump(exclude={"training": LENGTH_OF_TRAINING}), "seed": data.seed}
    arrays: dict[str, npt.NDArray[Any]] = {
        "labels": rows.labels,
        "items": rows.examples.item_index,
        "users": rows.examples.user_index,
        "signals": rows.signals,
        "texts": rows.texts,
        "words": rows.words,
        **{f"start {name}": weight.cpu().numpy() for name, weight in start.items()},
    }
    return TrainingPlan(
        name=name,
        module=learner,
        batches=batches,
        collate=collate,
        quality=_quality(config, material, learner),
        settings=settings,
        seed=data.seed,
        fingerprint=fingerprint(known, arrays),
        metric=METRIC,
        schedule=schedule,
    )


def _quality(config: RankerConfig, material: Material, learner: RankerLearner) -> Callable[[], float] | None:
    rows, labels = material.stopping, material.reader.labels
    if rows is None:
        return None
    weights = _weights(config, labels)
    if config.balance.name == "uncertainty":  # weights that are learned change from epoch to epoch
        weights = weights / labels.loss
    parts = (Part(np.arange(len(labels.tasks)), learner.network),)

    def quality() -> float:
        return labels.explained(labels.told(raw_answers(parts, rows)), rows.examples.labels, weights)

    return quality


def _weights(config: RankerConfig, labels: LabelScale) -> FloatArray:
    weights = np.array(
        [config.balance.task_weights.get(task, 1.0) for task in labels.tasks], dtype=np.float32
    )
    powers = {"root": 0.5, "scaled": 1.0}
    return weights / labels.loss ** np.float32(powers.get(config.balance.name, 0.0))
