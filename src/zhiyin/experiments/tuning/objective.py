"""What a search for a recipe may look at: training events, and validation events divided in two by user."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from zhiyin.contracts import Progress
from zhiyin.data.dataset import Dataset
from zhiyin.data.splits import Split
from zhiyin.domain.errors import RequestError
from zhiyin.evaluation.protocol import EvaluationSettings
from zhiyin.experiments.splitting import LEAVE_LAST_OUT, split_by
from zhiyin.experiments.training import fit_pipeline, judge
from zhiyin.experiments.tuning.subject import Judged
from zhiyin.pipeline.settings import PipelineConfig, RankerStageConfig

METRIC = "ndcg_at_10"
"""What a search among settings of a recipe makes as large as it can."""
FEWEST_USERS = 10
"""Validation users below which nothing can be told apart."""
_SPLIT_SEED = 20_011
"""Of who fits and who judges: the same for all seeds of a search, so that these can be compared."""


def validation_halves(dataset: Dataset) -> Split:
    """Divide a dataset for a search; no test event is in what is returned.

    ``leave-last-out`` holds back two events of each user. The last is dropped here. The one before is what
    half of the users *fit* with: there, parts choose their settings and the moment to stop, and the merge
    its weights. On the other half settings are *judged*. So a figure is never taken from the very events that
    weights were fitted on: settings with more freedom to fit do not look better for that alone.

    Args:
        dataset: Everything.

    Returns:
        A split whose ``validation`` are the fitting users and whose ``test`` are the judging users, both
        asked for their validation event.

    Raises:
        RequestError: when fewer than `FEWEST_USERS` users have a validation event.
    """
    split = split_by(LEAVE_LAST_OUT, dataset)
    n_users = len(split.validation)
    if n_users < FEWEST_USERS:
        raise RequestError(
            f"Only {n_users} users of '{dataset.name}' have a validation event; a search needs at least"
            f" {FEWEST_USERS}.",
            remedy="Bring a longer log: users with three different items have one.",
        )
    drawn = np.random.default_rng(_SPLIT_SEED).permutation(n_users)
    fitting, judging = np.sort(drawn[: n_users // 2]), np.sort(drawn[n_users // 2 :])
    return Split(
        "validation halves", split.train, split.validation.take(fitting), split.validation.take(judging)
    )


def judged(
    config: PipelineConfig,
    halves: Split,
    *,
    seed: int,
    progress: Progress | None = None,
    checkpoints: Path | None = None,
) -> Judged:
    """Train a pipeline on the training part, fit it on one half of the validation users, judge on the other.

    Args:
        config: The pipeline.
        halves: From `validation_halves`.
        seed: Of every random choice in training.
        progress: Who listens; one that hears the quality of epochs may raise to end the training.
        checkpoints: Where long training keeps its last good state.
    """
    started = time.perf_counter()
    if config.ranker.is_on and not config.ranker.orders:
        # What is predicted beside a slate does not change it, and takes its time to be learned.
        config = config.model_copy(update={"ranker": RankerStageConfig()})
    trained = fit_pipeline(config, halves, seed=seed, progress=progress, checkpoints=checkpoints)
    evaluation = judge(trained, EvaluationSettings(at=(10,)), progress)
    return Judged(evaluation.mean(METRIC), evaluation.values[METRIC], time.perf_counter() - started)
