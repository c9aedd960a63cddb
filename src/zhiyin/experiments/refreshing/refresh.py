"""From a bundle and the log to the next bundle."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zhiyin.contracts import Growth, Progress, Silent, TrainingData
from zhiyin.domain import IndexArray
from zhiyin.domain.arrays import flat_positions
from zhiyin.experiments.refreshing.gathering import Grown
from zhiyin.experiments.refreshing.holding import Held
from zhiyin.experiments.refreshing.settings import FULL, INCREMENTAL, RefreshConfig
from zhiyin.experiments.training import fit_pipeline
from zhiyin.pipeline import ranker_files
from zhiyin.pipeline.absorbing import absorb, twin_of
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.pipeline.recipes import recipe
from zhiyin.pipeline.refreshing import refreshed
from zhiyin.pipeline.reranking_files import carried_over


@dataclass(frozen=True, eq=False)
class Refreshed:
    """A candidate for the place of the bundle in use.

    Attributes:
        pipeline: Trained on ``held.split.train``.
        grown: Everything there was.
        held: What of it was held back.
        seconds: What training took.
    """

    pipeline: Pipeline
    grown: Grown
    held: Held
    seconds: float


def refresh(
    grown: Grown,
    held: Held,
    config: RefreshConfig | None = None,
    *,
    progress: Progress | None = None,
    checkpoints: Path | None = None,
) -> Refreshed:
    """Train the next pipeline; neither the bundle in use nor its pipeline is touched.

    Args:
        grown: Everything there is to learn from.
        held: What of it is held back.
        config: Settings.
        progress: Who listens.
        checkpoints: Where long training keeps its last good state.

    Raises:
        TrainingError: when the loss is not a number.
        ConfigError: when the recipe is not known.
    """
    config = config or RefreshConfig()
    progress = progress or Silent()
    started = time.perf_counter()
    if config.recipe == INCREMENTAL:
        validation = held.split.validation
        training = TrainingData(
            held.split.train,
            grown.pipeline.language,
            validation if len(validation) else None,
            config.seed,
            progress,
            checkpoints,
        )
        growth = Growth(held.is_new, config.continuing)
        after = refreshed(grown.pipeline, training, growth, fewest_to_weigh=config.fewest_to_weigh)
    else:
        is_full, before = config.recipe == FULL, grown.pipeline
        users, table = held.split.train.users, held.split.train.user_table
        reranking = ranker = None
        if is_full and before.reranking is not None:
            # The folder that the settings name need not be there any more; the bundle holds the model.
            reranking = carried_over(before.reranking, before.users, users, table)
        if (
            is_full
            and before.ranker is not None
            and not ranker_files.can_be_learned(before.config.ranker, grown.dataset)
        ):
            ranker = ranker_files.carried_over(before.ranker, before.users, users, table)
        after = fit_pipeline(
            before.config if is_full else recipe(config.recipe),
            held.split,
            seed=config.seed,
            progress=progress,
            checkpoints=checkpoints,
            reranking=reranking,
            ranker=ranker,
        ).pipeline
        after.remove_items(np.flatnonzero(grown.pipeline.removed).astype(np.int32))
    return Refreshed(after, grown, held, time.perf_counter() - started)


def in_use(grown: Grown, held: Held) -> Pipeline:
    """Return what serves now, as the newest events met it: the bundle, with everything before absorbed."""
    serving = twin_of(grown.pipeline)
    absorb(serving, held.taught)
    return serving


def completed(candidate: Refreshed) -> Pipeline:
    """Return the candidate with what was held back: remembered by histories, counted by sources that can.

    What learns by gradients meets those events in the next round: a ranker because they are owed to it, other
    parts when they are drawn among old ones.
    """
    pipeline = twin_of(candidate.pipeline)
    absorb(pipeline, candidate.held.kept_back)
    pipeline.remember(candidate.grown.dataset)
    pipeline.early = candidate.grown.early
    if pipeline.ranker is not None:
        pipeline.ranker = pipeline.ranker.owing(*_kept_back(candidate))
    return pipeline


def _kept_back(candidate: Refreshed) -> tuple[IndexArray, IndexArray]:
    """Return users and items of the events that training did not see: the last ones of some users."""
    events, learned = candidate.grown.dataset.histories, candidate.held.split.train.histories
    n_kept = events.lengths - learned.lengths
    kept = flat_positions(events.offsets[:-1] + learned.lengths, n_kept)
    return np.repeat(np.arange(len(events)), n_kept).astype(np.int32), events.item_index[kept]
