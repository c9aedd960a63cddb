"""Intervals and p-values that stay right however often somebody looks.

The method is the asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas,
*Time-uniform central limit theory and asymptotic confidence sequences* (Annals of Statistics, 2024; arXiv
2103.06476), Theorem 2.2: with probability 1 - α the true mean lies in

    μ̂_t ± σ̂_t sqrt( 2 (t ρ² + 1) / (t² ρ²) · log( sqrt(t ρ² + 1) / α ) )

at all moments t at once. With the standard error s = σ̂_t / sqrt(t) and k = t ρ² + 1 this is
s · sqrt( k / (k - 1) · log(k / α²) ), the boundary of Robbins' normal mixture, which is how it is written
here.

t counts independent pieces of information. Users come back, so their number is not that count: `information`
takes the variance of the growing sum instead.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def mixing_precision(alpha: float, tightest_at: float) -> float:
    """Choose ρ² so that the two-sided interval is tightest at one amount of information.

    ρ² = (-2 log α + log(-2 log α + 1)) / t*, Waudby-Smith et al. (2024), appendix on choosing ρ. Any other
    value fixed beforehand is as valid; this one wastes the least near t*.

    Args:
        alpha: Chance of ever being wrong, 0 to 1.
        tightest_at: t*, in users.

    Returns:
        ρ², above 0.
    """
    wanted = -2.0 * math.log(alpha)
    return (wanted + math.log(wanted + 1.0)) / tightest_at


def information(standard_error: Array, weight: Array, n_users: Array) -> Array:
    """Count what is known in users as they were at the first look.

    The sum S_t = W_t · (difference at t) has the variance V_t = (W_t · s_t)². What one user does later goes
    with what they did before, so increments of S are not negatively correlated, and S is no wilder than a
    Brownian motion run for V_t; a boundary in V_t therefore holds also while users keep coming back. Counting
    users would not: their number may stand still while the sums go on wandering. Scaled by the first look, t
    = n_0 V_t / V_0.

    Args:
        standard_error: (K,) of the difference at each of K looks, oldest first.
        weight: (K,) W, the total of the denominator, such as slates.
        n_users: (K,) users so far.

    Returns:
        (K,) float64, never falling; NaN where the standard error is not known.
    """
    variance = (weight * standard_error) ** 2
    known = np.flatnonzero(np.isfinite(variance) & (variance > 0))
    if not len(known):
        return np.full(len(variance), np.nan)
    first = known[0]
    counted = n_users[first] * variance / variance[first]
    counted[:first] = np.nan
    grown: Array = np.fmax.accumulate(counted)
    return grown


def half_width(
    standard_error: npt.ArrayLike, informed: npt.ArrayLike, *, alpha: float, precision: float
) -> Array:
    """Return half the width of the two-sided interval.

    Args:
        standard_error: s, any shape.
        informed: t from `information`, same shape.
        alpha: Chance that the truth is ever outside.
        precision: ρ² from `mixing_precision`.

    Returns:
        Same shape, float64: s · sqrt(k / (k - 1) · log(k / α²)), k = t ρ² + 1; infinite where nothing is
        known.
    """
    s, k = np.asarray(standard_error, dtype=np.float64), _k(informed, precision)
    width = s * np.sqrt(k / (k - 1.0) * np.log(k / alpha**2))
    return np.where(np.isfinite(width), width, np.inf)


def one_sided_margin(
    standard_error: npt.ArrayLike, informed: npt.ArrayLike, *, alpha: float, precision: float
) -> Array:
    """Return how far below an estimate the truth may lie, where only that side matters.

    The half-normal mixture of Robbins is M = 2 / sqrt(k) · exp(a² / 2) Φ(a) with a = (estimate / s) sqrt((k -
    1) / k). Since exp(a² / 2) (1 - Φ(a)) ≤ 1 / 2 for a ≥ 0, M ≥ (2 exp(a² / 2) - 1) / sqrt(k), and M stays
    below 1 / α at all moments with probability 1 - α. So the margin is s · sqrt(2 k / (k - 1) · log((1 +
    sqrt(k) / α) / 2)).

    Arguments and result as for `half_width`.
    """
    s, k = np.asarray(standard_error, dtype=np.float64), _k(informed, precision)
    margin = s * np.sqrt(2.0 * k / (k - 1.0) * np.log((1.0 + np.sqrt(k) / alpha) / 2.0))
    return np.where(np.isfinite(margin), margin, np.inf)


def always_valid_p(
    difference: npt.ArrayLike, standard_error: npt.ArrayLike, informed: npt.ArrayLike, *, precision: float
) -> Array:
    """Return p-values that may be looked at after each batch of data: the least α whose interval leaves out
    zero.

    Solving `half_width` = |difference| for α: p = sqrt(k) · exp(-z² (k - 1) / (2 k)), z = difference / s. A
    p-value that was small once stays small: the least so far counts (Johari, Koomen, Pekelis and Walsh,
    *Always Valid Inference*, Operations Research, 2022).

    Args:
        difference: (K,) at each look, oldest first.
        standard_error: (K,).
        informed: (K,) from `information`.
        precision: ρ².

    Returns:
        (K,) float64, 0 to 1, never rising.
    """
    s, k = np.asarray(standard_error, dtype=np.float64), _k(informed, precision)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.asarray(difference, dtype=np.float64) / s
        log_p = 0.5 * np.log(k) - z**2 * (k - 1.0) / (2.0 * k)
    p = np.exp(np.minimum(np.where(np.isfinite(s) & (s > 0), log_p, 0.0), 0.0))
    least: Array = np.fmin.accumulate(np.nan_to_num(p, nan=1.0))
    return least


def holm(p_values: npt.ArrayLike) -> Array:
    """Correct p-values of several arms for their number: Holm, *A Simple Sequentially Rejective Test* (1979).

    Args:
        p_values: (A,).

    Returns:
        (A,) float64, at least as large and at most 1; all true nulls together are rejected with probability
        at most α.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(stepped, 1.0)
    return corrected


def _k(informed: npt.ArrayLike, precision: float) -> Array:
    return np.asarray(informed, dtype=np.float64) * precision + 1.0
