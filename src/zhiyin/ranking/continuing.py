"""A trained ranker that goes on from its weights."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from zhiyin.contracts import Continuing
from zhiyin.data.labelled import LabelledExamples
from zhiyin.domain import LongArray
from zhiyin.domain.errors import ShapeMismatch
from zhiyin.ranking.groups import ALONE, alone_config
from zhiyin.ranking.learning import learn_network
from zhiyin.ranking.reading import Material, RankerData, met_items, refuse_no_rows
from zhiyin.ranking.settings import RankerConfig
from zhiyin.ranking.trained import Part, Reader, TrainedRanker
from zhiyin.training.continuing import shortened


def continue_ranker(
    config: RankerConfig,
    trained: TrainedRanker,
    data: RankerData,
    known: LabelledExamples,
    continuing: Continuing,
    name: str,
) -> TrainedRanker:
    """Train every network further on its tasks; one that explains validation rows worse keeps its weights.

    Users and items that are met for the first time begin with vectors of zero, so that before the first step
    all is answered as by the ranker that goes on, but that items are counted anew.

    Args:
        config: Settings it was trained with.
        trained: Knows every user and item there is.
        data: New rows and old ones that are replayed; vectors are not read.
        known: All rows that items are counted from.
        continuing: How to go on.
        name: What progress and checkpoints call it.

    Raises:
        ShapeMismatch: when the rows have other tasks, or more users than are known.
        TrainingError: when there are no rows, or the loss is not a number.
    """
    n_users = max(part.network.shape.n_users for part in trained.parts)
    n_items = max(part.network.shape.n_items for part in trained.parts)
    _check(trained.reader, data.train)
    reader = _grown(trained.reader, data.train, known, n_users, n_items)
    n_users = max(n_users, int(reader.own_user.max(initial=0)))
    n_items = max(n_items, int(reader.own_item.max(initial=0)))
    whole, parts, facts = Material.read_by(reader, data), [], []
    n_inputs = max(len(whole.train), int(whole.train.piece_events.sum()))
    shorter = shortened(config.training, continuing, n_inputs)
    config = config.model_copy(update={"groups": "one", "training": shorter})
    for number, part in enumerate(trained.parts):
        settings = alone_config(config) if _was_alone(trained, part) else config
        grown = partial(
            part.network.with_rows,
            n_users,
            n_items,
            dropout=config.dropout,
            identity_dropout=config.identity_dropout,
        )
        learned = learn_network(settings, whole.only(part.places), f"{name}-on-{number}", grown())
        found: dict[str, Any] = {"tasks": [reader.labels.tasks[place] for place in part.places]}
        is_worse = (
            learned.explained_before is not None
            and learned.explained is not None
            and learned.explained < learned.explained_before
        )
        parts.append(Part(part.places, grown().eval() if is_worse else learned.network))
        found |= {"explained_before": learned.explained_before, "explained": learned.explained}
        facts.append({**found, "has_changed": not is_worse, "n_rows": len(data.train), **learned.facts})
    return TrainedRanker(reader, tuple(parts), {**trained.facts, "continued": facts})


def _grown(
    reader: Reader, train: LabelledExamples, known: LabelledExamples, n_users: int, n_items: int
) -> Reader:
    """Give whoever is learned from for the first time a row in the tables of own vectors."""
    items = met_items(train, reader.newest)
    return replace(
        reader,
        own_user=_with_rows(reader.own_user, np.unique(train.user_index).astype(np.int64), n_users),
        own_item=_with_rows(reader.own_item, items[items < len(reader.own_item) - 1], n_items),
        signals=reader.signals.recounted(known),
    )


def _check(reader: Reader, train: LabelledExamples) -> None:
    refuse_no_rows(train)
    if train.tasks != reader.labels.tasks:
        learned = ", ".join(reader.labels.tasks)
        raise ShapeMismatch(f"The ranker has learned {learned}; the rows have {', '.join(train.tasks)}.")
    if len(train.events) > len(reader.own_user):
        raise ShapeMismatch(
            f"The ranker knows {len(reader.own_user):,} users; the rows are of {len(train.events):,}.",
            remedy="Call take_users() first.",
        )


def _was_alone(trained: TrainedRanker, part: Part) -> bool:
    """Whether a network was trained on its task alone, and not on several of which one is left to it."""
    groups = trained.facts.get("groups", {})
    tasks = [trained.reader.labels.tasks[place] for place in part.places]
    return len(tasks) == 1 and groups.get(tasks[0], {}).get("network") == ALONE


def _with_rows(own: LongArray, met: LongArray, n_rows: int) -> LongArray:
    """Hand out rows: first those whose owners were erased, which are zero, then new ones.

    Args:
        own: (N,) rows so far, 0 for none.
        met: (m,) who needs one, each once.
        n_rows: Rows of the table, row 0 not counted.
    """
    without = met[own[met] == 0]
    free = np.setdiff1d(np.arange(1, n_rows + 1), own)
    rows = np.concatenate([free, np.arange(n_rows + 1, n_rows + 1 + len(without))])
    grown = own.copy()
    grown[without] = rows[: len(without)]
    return grown
