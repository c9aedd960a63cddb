"""For whom, and for which items, a recommender is right: the same metric on parts of the queries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from zhiyin.contracts import SCORE
from zhiyin.domain import BoolArray, LongArray
from zhiyin.domain.errors import RequestError, did_you_mean
from zhiyin.evaluation.evaluation import Evaluation
from zhiyin.evaluation.intervals import percentile_interval, resampled_means
from zhiyin.evaluation.metrics import ACCURACY_METRICS, PerQuery

HISTORY_EDGES = (0, 1, 3, 5, 10, 20, 50, 100, 200)
"""Where groups of history lengths begin."""

POPULARITY_EDGES = (0, 1, 5, 10, 20, 50, 100, 200, 500, 1000)
"""Where groups of training events per item begin; the first holds the items nobody has touched."""


@dataclass(frozen=True)
class Group:
    """One part of the queries.

    Attributes:
        label: Such as ``5–9``, ``100+`` or ``cold``.
        n_queries: Queries that the value is a mean of.
        value: NaN for an empty group.
        low: Lower end of the 95 % interval.
        high: Upper end.
    """

    label: str
    n_queries: int
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Breakdown:
    """A metric on parts of the queries.

    Attributes:
        by: What the parts differ in: ``history_length``, ``item_popularity`` or ``cold_items``.
        metric: Such as ``recall_at_10``.
        groups: In their natural order, empty ones included.
    """

    by: str
    metric: str
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class SourceShare:
    """What one source adds to the slates; shares are 0 to 1, NaN when there is nothing to share.

    Attributes:
        source: Name of its column.
        of_places: Share of all recommended items that it has an opinion on.
        of_hits: Share of the hits.
        of_hits_alone: Share of the hits that no other source has an opinion on.
    """

    source: str
    of_places: float
    of_hits: float
    of_hits_alone: float


def by_history_length(evaluation: Evaluation, metric: str, edges: Sequence[int] = HISTORY_EDGES) -> Breakdown:
    """Group the queries by how much is known of the user.

    Args:
        evaluation: What was measured.
        metric: Any metric of single queries, with unseen targets as misses.
        edges: Rising first lengths of the groups; shorter histories than the first are left out.

    Raises:
        RequestError: when the metric was not measured for every query.
    """
    if metric not in evaluation.values:
        raise _not_of_queries(metric, evaluation.values)
    values = evaluation.values[metric].astype(np.float64)
    numbers = group_of(evaluation.history_length, edges)
    groups = [_group(evaluation, label, values[numbers == g]) for g, label in enumerate(group_labels(edges))]
    return Breakdown("history_length", metric, tuple(groups))


def by_item_popularity(
    evaluation: Evaluation, metric: str, edges: Sequence[int] = POPULARITY_EDGES
) -> Breakdown:
    """Group the targets by how many training events touch them.

    A query counts in every group that one of its targets is in, and there has no targets but those. Targets
    never seen in training are found or missed like all others here.

    Args:
        evaluation: What was measured.
        metric: A metric of targets, such as ``recall_at_10``.
        edges: Rising first counts of the groups.

    Raises:
        RequestError: when the metric is not one of targets.
    """
    numbers = group_of(_target_counts(evaluation), edges)
    parts = [(label, numbers == g) for g, label in enumerate(group_labels(edges))]
    return Breakdown("item_popularity", metric, _groups_of_targets(evaluation, metric, parts))


def by_cold_items(evaluation: Evaluation, metric: str) -> Breakdown:
    """Set targets that never occur in training (``cold``) against the others (``warm``).

    Raises:
        RequestError: when the metric is not one of targets.
    """
    warm = evaluation.target_is_seen
    parts = [("cold", ~warm), ("warm", warm)]
    return Breakdown("cold_items", metric, _groups_of_targets(evaluation, metric, parts))


def source_shares(
    evaluation: Evaluation, k: int, sources: Sequence[str] | None = None
) -> tuple[SourceShare, ...]:
    """Say who proposed what stands in the first ``k`` places, and who proposed the hits.

    Args:
        evaluation: What was measured.
        k: The cut.
        sources: Names of columns of the slates; by default all but the score. A source has proposed an item
            when its column holds a number there.
    """
    slates = evaluation.slates
    names = [name for name in slates.columns if name != SCORE] if sources is None else list(sources)
    if not names:
        return ()
    shown = slates.is_item[:, :k]
    hit = _hits(evaluation)[:, :k]
    proposed = np.stack([~np.isnan(slates.column(name)[:, :k]) & shown for name in names])
    alone = proposed & (proposed.sum(axis=0) == 1)
    return tuple(
        SourceShare(name, _share(by, shown), _share(by & hit, hit), _share(only & hit, hit))
        for name, by, only in zip(names, proposed, alone, strict=True)
    )


def _groups_of_targets(
    evaluation: Evaluation, metric: str, parts: Sequence[tuple[str, BoolArray]]
) -> tuple[Group, ...]:
    name, _, cut = metric.rpartition("_at_")
    possible = [f"{known}_at_{k}" for k in evaluation.settings.at for known in ACCURACY_METRICS]
    if metric not in possible:
        raise _not_of_queries(metric, possible)
    measure = ACCURACY_METRICS[name]
    return tuple(
        _group(evaluation, label, measure(evaluation.ranked.only(kept), int(cut))) for label, kept in parts
    )


def _group(evaluation: Evaluation, label: str, values: PerQuery) -> Group:
    known = values[~np.isnan(values)]
    if len(known) == 0:
        return Group(label, 0, float("nan"), float("nan"), float("nan"))
    settings = evaluation.settings
    resampled = resampled_means(known[:, None], settings.n_resamples, settings.seed)[:, 0]
    interval = percentile_interval(float(known.mean()), resampled)
    return Group(label, len(known), interval.value, interval.low, interval.high)


def _target_counts(evaluation: Evaluation) -> LongArray:
    """(M,) int64: training events of each target, 0 for those beyond the catalogue."""
    counts = np.zeros(len(evaluation.ranked.item_index), dtype=np.int64)
    seen = evaluation.target_is_seen
    counts[seen] = evaluation.facts.item_counts[evaluation.ranked.item_index[seen]]
    return counts


def _hits(evaluation: Evaluation) -> BoolArray:
    """(B, max(at)) bool: which places of the slates hold a target."""
    slates, ranked = evaluation.slates.item_index, evaluation.ranked
    stride = 1 + max(evaluation.facts.n_items, int(ranked.item_index.max(initial=0)))
    places = np.arange(len(slates))[:, None] * stride + slates
    hits: BoolArray = np.isin(places, ranked.row * stride + ranked.item_index) & evaluation.slates.is_item
    return hits


def group_of(numbers: LongArray, edges: Sequence[int]) -> npt.NDArray[np.intp]:
    """Return which group each number is in, -1 below the first; ``edges`` rise, and groups begin there."""
    return np.searchsorted(np.asarray(edges), numbers, side="right") - 1


def group_labels(edges: Sequence[int]) -> list[str]:
    """Name the groups that begin at ``edges``, such as ``0``, ``1–3``, ``4+``."""
    labels = []
    for first, after in pairwise(edges):
        labels.append(f"{first}" if after == first + 1 else f"{first}–{after - 1}")
    return [*labels, f"{edges[-1]}+"]


def _share(part: BoolArray, whole: BoolArray) -> float:
    return float(part.sum() / whole.sum()) if whole.any() else float("nan")


def _not_of_queries(metric: str, possible: Iterable[str]) -> RequestError:
    return RequestError(
        f"There is no breakdown of the metric '{metric}'.{did_you_mean(metric, possible)}",
        possible=f"There is one of: {', '.join(possible)}.",
    )
