"""Which of two recommenders is better, judged on the same queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zhiyin.domain.errors import RequestError
from zhiyin.evaluation.evaluation import Evaluation
from zhiyin.evaluation.intervals import percentile_interval, resampled_means


@dataclass(frozen=True)
class Difference:
    """First minus second, on one metric.

    Attributes:
        metric: Its name.
        first: Mean of the first evaluation over the queries both say something about.
        second: Mean of the second.
        value: ``first - second``.
        low: Lower end of its 95 % interval.
        high: Upper end.
        p_value: How often a difference at least as large arises when there is none, two-sided.
    """

    metric: str
    first: float
    second: float
    value: float
    low: float
    high: float
    p_value: float

    @property
    def is_certain(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


def compare(
    first: Evaluation, second: Evaluation, metrics: Sequence[str] | None = None
) -> tuple[Difference, ...]:
    """Compare pair by pair, by bootstrap over queries; see `differences`.

    Args:
        first: One evaluation; its settings say how often to resample, and its seed.
        second: Another, of the same queries.
        metrics: Which; by default all metrics of single queries that both measured. Metrics of all slates
            together, such as coverage, cannot be paired.

    Raises:
        RequestError: when the two did not judge the same queries, or one has not measured a metric.
    """
    if first.queries_digest != second.queries_digest:
        raise RequestError(
            f"The two evaluations did not judge the same queries ({len(first)} and {len(second)} of them).",
            remedy="Evaluate both on the same examples: same dataset, same protocol.",
        )
    names = list(metrics or [name for name in first.values if name in second.values])
    _refuse_unmeasured(names, first, second)
    return differences(
        {name: first.values[name] for name in names},
        {name: second.values[name] for name in names},
        n_resamples=first.settings.n_resamples,
        seed=first.settings.seed,
    )


def differences(
    first: Values, second: Values, *, n_resamples: int = 1000, seed: int = 0
) -> tuple[Difference, ...]:
    """Compare values of the same queries pair by pair, by bootstrap over queries.

    The interval is the middle 95 % of the resampled mean differences d*; the p-value shifts them to a mean of
    zero: (1 + #{|d* - d| ≥ |d|}) / (R + 1). Efron and Tibshirani, *An Introduction to the Bootstrap* (1993),
    chapter 16.

    Args:
        first: Metric → (B,) floats, NaN where it says nothing about a query.
        second: The same metrics of the same queries.
        n_resamples: R.
        seed: Of the bootstrap.
    """
    if not first:
        return ()
    pairs = [_pair(first[name], second[name]) for name in first]
    resampled = resampled_means(np.stack([a - b for a, b in pairs], axis=1), n_resamples, seed)
    return tuple(
        _difference(name, a, b, resampled[:, column])
        for column, (name, (a, b)) in enumerate(zip(first, pairs, strict=True))
    )


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Correct p-values for being several, so that one of them below 0.05 by chance is as rare as 1 in 20.

    The k-th smallest of m becomes the largest of ``min(1, (m - j + 1) p_j)`` over j ≤ k. Holm, "A Simple
    Sequentially Rejective Multiple Test Procedure" (1979).

    Args:
        p_values: m numbers from 0 to 1; NaN, which says nothing, is not counted.

    Returns:
        As many, in the same order; never smaller than they were.
    """
    plain = np.asarray(p_values, dtype=np.float64)
    corrected = np.full(plain.shape, np.nan)
    known = np.flatnonzero(~np.isnan(plain))
    rising = known[np.argsort(plain[known], kind="stable")]
    factors = len(rising) - np.arange(len(rising))
    corrected[rising] = np.minimum(np.maximum.accumulate(factors * plain[rising]), 1.0)
    return tuple(float(value) for value in corrected)


Values = Mapping[str, npt.NDArray[np.floating]]
"""Metric → (B,) one value a query."""
Pair = tuple[
    np.ndarray[tuple[int, ...], np.dtype[np.float64]], np.ndarray[tuple[int, ...], np.dtype[np.float64]]
]


def _pair(first: npt.NDArray[np.floating], second: npt.NDArray[np.floating]) -> Pair:
    """(B,) float64 of both, NaN in both where one is NaN."""
    a, b = first.astype(np.float64), second.astype(np.float64)
    unknown = np.isnan(a) | np.isnan(b)
    return np.where(unknown, np.nan, a), np.where(unknown, np.nan, b)


def _difference(
    metric: str,
    first: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    second: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    resampled: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> Difference:
    known = ~np.isnan(first)
    a, b = (float(side[known].mean()) if known.any() else float("nan") for side in (first, second))
    interval = percentile_interval(a - b, resampled)
    # float32 sums of the resamples differ in the last digit; a tie must count as a tie.
    as_large = np.abs(resampled - (a - b)) >= abs(a - b) * (1 - 1e-6) - 1e-12
    p_value = (1 + int(as_large.sum())) / (1 + len(resampled)) if known.any() else float("nan")
    return Difference(metric, a, b, a - b, interval.low, interval.high, p_value)


def _refuse_unmeasured(names: Sequence[str], *evaluations: Evaluation) -> None:
    for evaluation in evaluations:
        missing = [name for name in names if name not in evaluation.values]
        if missing:
            raise RequestError(
                f"The metric '{missing[0]}' was not measured for every query.",
                possible=f"Measured were: {', '.join(evaluation.values)}.",
            )
