"""Comparing runs: the same users, pair by pair, with what chance could make of it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from zhiyin.domain import FloatArray
from zhiyin.domain.errors import RequestError, did_you_mean
from zhiyin.evaluation.breakdown import HISTORY_EDGES
from zhiyin.evaluation.comparison import Difference, differences, holm
from zhiyin.evaluation.intervals import Interval, percentile_interval, resampled_means
from zhiyin.evaluation.per_user import PerUser

COMPARED = ("ndcg", "recall", "mrr")
N_RESAMPLES = 2000
FEWEST_IN_A_GROUP = 10
"""Users of a history length below which a difference says nothing."""
_NOT_OF_USERS = "Coverage and Gini look at all slates together: no user has one."
_PER_USER, _DIGEST = "per_user", "queries_digest"


@dataclass(frozen=True, eq=False)
class Run:
    """One run that can be compared.

    Attributes:
        name: What tables call it.
        per_user: Its values; the mean over its seeds where it has several.
        digest: Of users, histories and targets; equal digests are equal queries.
        spread: Metric → standard deviation of its mean over seeds; empty with one seed.
    """

    name: str
    per_user: PerUser
    digest: str
    spread: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class PairOfRuns:
    """Two runs on one metric.

    Attributes:
        first: Name of the one.
        second: Name of the other.
        difference: First minus second.
        p_corrected: The p-value, corrected by Holm for all pairs on this metric.
    """

    first: str
    second: str
    difference: Difference
    p_corrected: float


@dataclass(frozen=True)
class OfLength:
    """The pairs among users of one history length.

    Attributes:
        label: Such as ``5–9`` or ``100+``.
        n_users: How many.
        pairs: On the main metric, corrected for all pairs and all lengths.
    """

    label: str
    n_users: int
    pairs: tuple[PairOfRuns, ...]


@dataclass(frozen=True)
class ComparedRuns:
    """Everything that was compared.

    Attributes:
        names: Of the runs, in order.
        n_users: Users all of them judged.
        means: Run → metric → mean with its interval.
        spread: Run → metric → standard deviation over seeds.
        pairs: Every pair of runs on every metric, metric by metric.
        by_length: The main metric, the first of ``metrics``, by length of the history.
    """

    names: tuple[str, ...]
    n_users: int
    means: Mapping[str, Mapping[str, Interval]]
    spread: Mapping[str, Mapping[str, float]]
    pairs: tuple[PairOfRuns, ...]
    by_length: tuple[OfLength, ...]

    @property
    def metrics(self) -> tuple[str, ...]:
        """What was compared, the main metric first."""
        return tuple(self.means[self.names[0]])

    def record(self) -> dict[str, Any]:
        """Everything as plain values; NaN becomes None."""
        return {
            "runs": list(self.names),
            "n_users": self.n_users,
            "means": {
                run: {metric: _finite(asdict(interval)) for metric, interval in metrics.items()}
                for run, metrics in self.means.items()
            },
            "spread_over_seeds": {run: dict(spread) for run, spread in self.spread.items()},
            "pairs": [_pair_record(pair) for pair in self.pairs],
            "by_history_length": [
                {
                    "length": group.label,
                    "n_users": group.n_users,
                    "pairs": [_pair_record(pair) for pair in group.pairs],
                }
                for group in self.by_length
            ],
        }


def compare_runs(
    runs: Sequence[Run], metrics: Sequence[str] = (), *, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> ComparedRuns:
    """Compare every pair of runs by paired bootstrap over users.

    Args:
        runs: Two at least, of the same queries.
        metrics: Which, the main one first; by default NDCG, recall and MRR at the largest cut that all have.
        n_resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        RequestError: when there are fewer than two runs, two have one name, the queries differ, or a metric
            was not measured by all.
    """
    _refuse_unpaired(runs)
    chosen = _metrics(runs, metrics)
    pairs = [pair for metric in chosen for pair in _pairs(runs, metric, n_resamples, seed)]
    return ComparedRuns(
        names=tuple(run.name for run in runs),
        n_users=len(runs[0].per_user),
        means={run.name: _means(run.per_user, chosen, n_resamples, seed) for run in runs},
        spread={run.name: {m: run.spread[m] for m in chosen if m in run.spread} for run in runs},
        pairs=tuple(pairs),
        by_length=_by_length(runs, chosen[0], n_resamples, seed),
    )


def read_run(path: Path, name: str | None = None) -> Run:
    """Read what ``zhiyin evaluate … --json FILE --per-user FILE`` wrote.

    Args:
        path: The JSON file; it says where the values of single users are.
        name: What to call the run; by default the name of the file without its ending.

    Raises:
        RequestError: when it cannot be read, or was written without the values of single users.
    """
    try:
        figures = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or "it is no JSON"
        raise RequestError(
            f"The figures {path} cannot be read: {why}.",
            remedy="Write them:  zhiyin evaluate … --json FILE --per-user FILE",
        ) from None
    if not isinstance(figures, dict) or _PER_USER not in figures:
        raise RequestError(
            f"{path} holds no values of single users, and means alone cannot be compared in pairs.",
            remedy="Write it again:  zhiyin evaluate … --json FILE --per-user FILE",
        )
    per_user = PerUser.read(path.parent / figures[_PER_USER])
    return Run(name or path.stem, per_user, str(figures[_DIGEST]))


def per_user_facts(digest: str, per_user: Path, beside: Path) -> dict[str, str]:
    """Return what a file of figures says about the values of single users, for `read_run`.

    Args:
        digest: Of the queries.
        per_user: Where the values are.
        beside: The file of figures; the place is written as seen from there.
    """
    place = per_user.resolve()
    folder = beside.resolve().parent
    inside = place.is_relative_to(folder)
    return {_PER_USER: str(place.relative_to(folder) if inside else place), _DIGEST: digest}


def _refuse_unpaired(runs: Sequence[Run]) -> None:
    names = [run.name for run in runs]
    if len(runs) < 2:
        raise RequestError("There is nothing to compare with.", remedy="Name two runs at least.")
    if len(set(names)) < len(names):
        raise RequestError(
            f"Two runs have the same name: {', '.join(names)}.", remedy="Give their files different names."
        )
    first = runs[0]
    for other in runs[1:]:
        if other.digest != first.digest:
            raise RequestError(
                f"'{first.name}' and '{other.name}' did not judge the same queries: "
                f"{_how_they_differ(first, other)}",
                remedy="Evaluate both on the same data, with the same protocol and the same --repeat.",
            )


def _how_they_differ(first: Run, other: Run) -> str:
    a, b = (set(run.per_user.users) - {None} for run in (first, other))
    if a == b and len(first.per_user) == len(other.per_user):
        return "the users are the same, their histories or what they took next are not."
    sizes = f"{len(first.per_user):,} and {len(other.per_user):,} queries"
    return f"{sizes}; {len(a - b):,} users are in the first only, {len(b - a):,} in the second only."


def _metrics(runs: Sequence[Run], asked: Sequence[str]) -> tuple[str, ...]:
    shared = [m for m in runs[0].per_user.values if all(m in run.per_user.values for run in runs)]
    for metric in asked:
        if metric not in shared:
            raise RequestError(
                f"The metric '{metric}' was not measured by all runs.{did_you_mean(metric, shared)}",
                possible=f"All measured of every user: {', '.join(shared)}.",
                remedy=_NOT_OF_USERS if metric.startswith(("coverage", "gini")) else "",
            )
    if asked:
        return tuple(asked)
    cuts = [int(metric.rpartition("_at_")[2]) for metric in shared if metric.startswith("ndcg_at_")]
    if not cuts:
        raise RequestError("No cut was measured by all runs.", remedy="Evaluate all with the same --at.")
    return tuple(f"{name}_at_{max(cuts)}" for name in COMPARED)


def _means(per_user: PerUser, metrics: Sequence[str], n_resamples: int, seed: int) -> dict[str, Interval]:
    table = np.stack([per_user.values[metric] for metric in metrics], axis=1)
    resampled = resampled_means(table, n_resamples, seed)
    return {
        metric: percentile_interval(_mean(per_user.values[metric]), resampled[:, column])
        for column, metric in enumerate(metrics)
    }


def _mean(values: FloatArray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean(dtype=np.float64)) if len(known) else math.nan


def _pairs(runs: Sequence[Run], metric: str, n_resamples: int, seed: int) -> list[PairOfRuns]:
    found = []
    for first, second in combinations(runs, 2):
        values = ({metric: run.per_user.values[metric]} for run in (first, second))
        (difference,) = differences(*values, n_resamples=n_resamples, seed=seed)
        found.append(PairOfRuns(first.name, second.name, difference, difference.p_value))
    return _corrected(found)


def _corrected(pairs: Sequence[PairOfRuns]) -> list[PairOfRuns]:
    corrected = holm([pair.difference.p_value for pair in pairs])
    return [replace(pair, p_corrected=p) for pair, p in zip(pairs, corrected, strict=True)]


def _by_length(runs: Sequence[Run], metric: str, n_resamples: int, seed: int) -> tuple[OfLength, ...]:
    lengths = runs[0].per_user.history_length
    groups: list[tuple[str, int, list[PairOfRuns]]] = []
    for low, after in pairwise([*HISTORY_EDGES, math.inf]):
        inside = (lengths >= low) & (lengths < after)
        if inside.sum() < FEWEST_IN_A_GROUP:
            continue
        label = f"{low}+" if after == math.inf else f"{low}" if after == low + 1 else f"{low}–{after - 1}"
        parts = [replace(run, per_user=run.per_user.where(inside)) for run in runs]
        groups.append((label, int(inside.sum()), _pairs(parts, metric, n_resamples, seed)))
    # Looking at many lengths finds something in one of them by chance: all of them are one family.
    family = iter(_corrected([pair for _, _, pairs in groups for pair in pairs]))
    return tuple(
        OfLength(label, n_users, tuple(next(family) for _ in pairs)) for label, n_users, pairs in groups
    )


def _pair_record(pair: PairOfRuns) -> dict[str, Any]:
    numbers = _finite({**asdict(pair.difference), "p_corrected": pair.p_corrected})
    return {"runs": [pair.first, pair.second], **numbers}


def _finite(numbers: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(number, float) and not math.isfinite(number) else number
        for name, number in numbers.items()
    }
