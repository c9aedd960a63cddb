"""What was measured: one value of every metric for every query, and what follows from them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from zhiyin.contracts import CHANCE
from zhiyin.domain import BoolArray, Candidates, Examples, FloatArray, IndexArray, LongArray
from zhiyin.domain.errors import RequestError, did_you_mean
from zhiyin.evaluation.calibration import Calibration
from zhiyin.evaluation.intervals import (
    Array,
    Interval,
    normal_interval,
    percentile_interval,
    resampled_means,
    resampled_weights,
)
from zhiyin.evaluation.list_metrics import coverage, exposure, gini, resampled_exposure
from zhiyin.evaluation.machine import versions
from zhiyin.evaluation.metrics import RankedTargets
from zhiyin.evaluation.protocol import CatalogueFacts, EvaluationSettings

CATALOGUE_METRICS = {"coverage": coverage, "gini": gini}
"""Metrics of all slates together; the rest are means over queries."""

CATALOGUE_RESAMPLES = 200
"""A standard deviation needs fewer resamples than a percentile."""


@dataclass(frozen=True)
class RunRecord:
    """Where a figure comes from.

    Attributes:
        dataset: Name of the dataset.
        recipe: Name of the recipe, source or bundle.
        protocol: Name of the split.
        seed: Of the training.
        ties_seed: Of the order of events of equal time; None for that of the file.
        fit_seconds: What training took; None for a bundle that was trained earlier.
        command: Command line that gives the figure again; empty when there is none.
    """

    dataset: str
    recipe: str
    protocol: str = "leave-last-out"
    seed: int = 0
    fit_seconds: float | None = None
    command: str = ""
    ties_seed: int | None = None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What `evaluate` returns: B queries judged.

    Attributes:
        settings: How.
        facts: Of the catalogue.
        values: Metric such as ``recall_at_10`` → (B,) float32, a target that never occurs in training being a
            miss; NaN where the metric says nothing about a query.
        ranked: The targets with their true ranks, those that never occur in training included.
        slates: (B, max(at)) what was recommended, with all its columns.
        history_length: (B,) int64, events of each query.
        came_next: (B,) int32, the first target of each query; None where it was not kept.
        queries_digest: Of users, histories and targets; equal digests are equal queries.
        scoring_seconds: What recommending took, without judging.
        peak_memory_mb: Of the process so far; None where the system does not say.
    """

    settings: EvaluationSettings
    facts: CatalogueFacts
    values: Mapping[str, FloatArray]
    ranked: RankedTargets
    slates: Candidates
    history_length: LongArray
    queries_digest: str
    scoring_seconds: float = 0.0
    peak_memory_mb: float | None = None
    came_next: IndexArray | None = None

    def __len__(self) -> int:
        return len(self.ranked)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of all metrics."""
        of_catalogue = [f"{name}_at_{k}" for k in self.settings.at for name in CATALOGUE_METRICS]
        return (*self.values, *of_catalogue)

    @property
    def target_is_seen(self) -> BoolArray:
        """(M,) bool: whether each of ``ranked``'s targets occurs in training."""
        return targets_seen(self.ranked, self.facts)

    def mean(self, metric: str) -> float:
        """Mean over the queries, or the value of all slates together; NaN when it says nothing.

        Raises:
            RequestError: when the metric was not measured.
        """
        if metric in self.values:
            values = self.values[metric]
            known = values[~np.isnan(values)]
            return float(known.mean(dtype=np.float64)) if len(known) else math.nan
        name, k = self._catalogue_metric(metric)
        shown = exposure(self.slates.item_index[:, :k], self.facts.n_items)
        return float(CATALOGUE_METRICS[name](shown[None])[0])

    def interval(self, metric: str) -> Interval:
        """Mean with a 95 % interval: the middle of the bootstrap over queries.

        For ``coverage`` and ``gini``, whose resamples lie too low or too high, 1.96 bootstrap standard
        deviations on both sides.

        Raises:
            RequestError: when the metric was not measured.
        """
        if metric in self.values:
            column = list(self.values).index(metric)
            return percentile_interval(self.mean(metric), self._resampled[:, column])
        self._catalogue_metric(metric)
        return self._catalogue_intervals[metric]

    @cached_property
    def calibration(self) -> Calibration | None:
        """Chances of the slates against what came next; None where the recommender tells no chances."""
        if CHANCE not in self.slates.columns or self.came_next is None:
            return None
        return Calibration.of(self.slates.column(CHANCE), self.slates.item_index, self.came_next)

    def record(self, run: RunRecord) -> dict[str, Any]:
        """Everything that stands in a table or a file of results, as plain values; NaN becomes None."""
        return {
            "dataset": run.dataset,
            "recipe": run.recipe,
            "protocol": run.protocol,
            "seed": run.seed,
            "ties_seed": run.ties_seed,
            "at": list(self.settings.at),
            "repeat": self.settings.repeat,
            "n_queries": len(self),
            "n_targets": len(self.ranked.rank),
            "n_targets_unseen_in_training": int((~self.target_is_seen).sum()),
            "metrics": {metric: _plain(self.interval(metric)) for metric in self.metrics},
            "calibration": None if self.calibration is None else self.calibration.record(),
            "fit_seconds": run.fit_seconds,
            "scoring_seconds": self.scoring_seconds,
            "peak_memory_mb": self.peak_memory_mb,
            "versions": dict(versions()),
            "command": run.command,
        }

    @cached_property
    def _resampled(self) -> Array:
        """(R, number of metrics) float64: all means resampled in one go."""
        table = np.stack(list(self.values.values()), axis=1)
        return resampled_means(table, self.settings.n_resamples, self.settings.seed)

    @cached_property
    def _catalogue_intervals(self) -> dict[str, Interval]:
        resampled: dict[str, list[Array]] = {}
        n_items, seed = self.facts.n_items, self.settings.seed
        for weights in resampled_weights(len(self), CATALOGUE_RESAMPLES, seed, width=n_items):
            for k in self.settings.at:
                shown = resampled_exposure(self.slates.item_index[:, :k], n_items, weights)
                for name, measure in CATALOGUE_METRICS.items():
                    resampled.setdefault(f"{name}_at_{k}", []).append(measure(shown))
        return {
            metric: normal_interval(self.mean(metric), np.concatenate(parts))
            for metric, parts in resampled.items()
        }

    def _catalogue_metric(self, metric: str) -> tuple[str, int]:
        name, _, cut = metric.rpartition("_at_")
        if metric not in self.metrics:
            raise RequestError(
                f"The metric '{metric}' was not measured.{did_you_mean(metric, self.metrics)}",
                possible=f"Measured were: {', '.join(self.metrics)}.",
            )
        return name, int(cut)


def targets_seen(ranked: RankedTargets, facts: CatalogueFacts) -> BoolArray:
    """(M,) bool: whether each target occurs in training; items beyond the catalogue do not."""
    in_catalogue = (ranked.item_index >= 0) & (ranked.item_index < facts.n_items)
    seen = np.zeros(len(in_catalogue), dtype=bool)
    seen[in_catalogue] = facts.seen_in_training[ranked.item_index[in_catalogue]]
    return seen


def first_targets(examples: Examples) -> IndexArray:
    """Return (B,) int32: what came next for each query; every query has a target."""
    first: IndexArray = np.asarray(examples.targets.values)[examples.targets.offsets[:-1]].astype(np.int32)
    return first


def digest_of(examples: Examples) -> str:
    """Fingerprint of users, histories and targets: equal exactly when the queries are."""
    digest = hashlib.sha256()
    histories, targets = examples.queries.histories, examples.targets
    for array in (
        examples.queries.user_index,
        histories.offsets,
        histories.item_index,
        targets.offsets,
        targets.values,
    ):
        digest.update(np.ascontiguousarray(array).tobytes() + b"|")
    return digest.hexdigest()


def _plain(interval: Interval) -> dict[str, Any]:
    value, low, high = (
        None if math.isnan(number) else number for number in (interval.value, interval.low, interval.high)
    )
    return {"value": value, "interval": None if low is None or high is None else [low, high]}
