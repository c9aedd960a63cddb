"""Training a ranker: from labelled rows and text vectors to `TrainedRanker`."""

from __future__ import annotations

import numpy as np

from zhiyin.domain.errors import ConfigError, ShapeMismatch, did_you_mean
from zhiyin.ranking.groups import learn_groups
from zhiyin.ranking.learning import learn_network
from zhiyin.ranking.reading import Material, RankerData, refuse_no_rows
from zhiyin.ranking.settings import RankerConfig
from zhiyin.ranking.trained import Part, TrainedRanker


def fit_ranker(config: RankerConfig, data: RankerData, name: str) -> TrainedRanker:
    """Train until the validation rows are not explained better, and keep the best weights.

    Raises:
        TrainingError: when there are no rows, labels of a task are all equal, or the loss is not a number.
        ConfigError: when a weight is given to a task that does not exist.
        ShapeMismatch: when there are fewer text vectors than items, or validation rows have other tasks.
        DataError: when a column of the context is missing.
    """
    _check(config, data)
    if config.groups == "validated" and len(data.train.tasks) > 1:
        return learn_groups(config, data, name)
    material = Material.of(config, data)
    learned = learn_network(config, material, name)
    labels = material.reader.labels
    part = Part(np.arange(len(labels.tasks)), learned.network)
    return TrainedRanker(material.reader, (part,), {**learned.facts, "yes_no": labels.yes_no})


def _check(config: RankerConfig, data: RankerData) -> None:
    train, validation = data.train, data.validation
    refuse_no_rows(train)
    for task in config.balance.task_weights:
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
