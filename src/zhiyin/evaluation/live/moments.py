"""From sums over users to differences between arms, with the user as the unit of chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

NUMERATOR, DENOMINATOR, BEFORE = range(3)


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over the users of A arms as they stood at K looks.

    Each user has three figures: y (numerator), x (denominator) and z (what they did before the experiment).

    Attributes:
        n_users: (A, K) float64.
        first: (A, K, 3) float64, sums of y, x and z.
        second: (A, K, 3, 3) float64, sums of their products.
    """

    n_users: Array
    first: Array
    second: Array

    @property
    def n_looks(self) -> int:
        """K."""
        return int(self.n_users.shape[1])

    def ratio(self) -> Array:
        """(A, K) float64: Σy / Σx; NaN where there is no denominator."""
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio: Array = self.first[..., NUMERATOR] / self.first[..., DENOMINATOR]
        return ratio


@dataclass(frozen=True, eq=False)
class Contrast:
    """One quantity at K looks: what it is estimated as, how sure that is, and how much stands behind it.

    Attributes:
        estimate: (K,) float64.
        standard_error: (K,) float64, NaN where too little is known.
        weight: (K,) float64, total of the denominator over the arms involved.
        n_users: (K,) float64, users of the arms involved.
    """

    estimate: Array
    standard_error: Array
    weight: Array
    n_users: Array


def moments_of(
    values: Array,
    user: npt.NDArray[np.int64],
    arm: npt.NDArray[np.int64],
    look: npt.NDArray[np.int64],
    shape: tuple[int, int],
) -> Moments:
    """Sum over users, at every look, from what each user added between looks.

    A user's product at a look is that of the sums so far: with Δ for what one row adds to the sum c,
    (c + Δ)(c + Δ)ᵀ - c cᵀ is added at that row's look. One pass, however many looks.

    Args:
        values: (R, 3) float64, additions to y, x and z; z is added with a user's first row.
        user: (R,) rows of one user stand together, in the order of their looks, no look twice.
        arm: (R,) 0 to A - 1, one a user.
        look: (R,) 0 to K - 1.
        shape: (A, K).
    """
    is_first = np.r_[True, user[1:] != user[:-1]] if len(user) else np.empty(0, dtype=np.bool_)
    total = np.cumsum(values, axis=0)
    start = np.flatnonzero(is_first)
    before_user = (total[start] - values[start]).repeat(np.diff(np.r_[start, len(user)]), axis=0)
    so_far = total - before_user
    earlier = so_far - values
    added = np.einsum("ri,rj->rij", so_far, so_far) - np.einsum("ri,rj->rij", earlier, earlier)
    cell = arm * shape[1] + look
    n_users = _summed(is_first[:, None].astype(np.float64), cell, shape)[..., 0]
    first = _summed(values, cell, shape)
    second = _summed(added.reshape(-1, 9), cell, shape).reshape(*shape, 3, 3)
    return Moments(n_users, first, second)


def _summed(values: Array, cell: npt.NDArray[np.int64], shape: tuple[int, int]) -> Array:
    n_cells = shape[0] * shape[1]
    columns = [np.bincount(cell, column, n_cells) for column in values.T]
    summed: Array = np.cumsum(np.stack(columns, axis=1).reshape(*shape, -1), axis=1)
    return summed


def contrast(moments: Moments, weights: Array, *, adjust: bool) -> Contrast:
    """Estimate Σ_a w_a · ratio_a, with a standard error over users.

    The variance of a ratio of means is that of L = (y - R x) / x̄ over users: the delta method as in Deng,
    Knoblich and Lu, *Applying the Delta Method in Metric Analytics* (KDD 2018), eq. 2. What users did before
    the experiment, z, explains a part of L; it is taken out as in Deng, Xu, Kohavi and Walker, *Improving the
    Sensitivity of Online Controlled Experiments by Utilizing Pre-Experiment Data* (WSDM 2013), eq. 3: L - θ
    (z - z̄), θ = Cov(L, z) / Var(z), one θ for all arms, so that nothing is biased.

    Args:
        moments: Of A arms.
        weights: (A,) float64, such as 1 for an arm, -1 for the control and 0 for others.
        adjust: Whether to use z.
    """
    used = np.flatnonzero(weights)
    w = weights[used, None]
    n, first, second = moments.n_users[used], moments.first[used], moments.second[used]
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = first / n[..., None]
        ratio = mean[..., NUMERATOR] / mean[..., DENOMINATOR]
        square = (
            second[..., NUMERATOR, NUMERATOR]
            - 2 * ratio * second[..., NUMERATOR, DENOMINATOR]
            + ratio**2 * second[..., DENOMINATOR, DENOMINATOR]
        )
        variance = square / n / mean[..., DENOMINATOR] ** 2
        if adjust:
            with_before = second[..., NUMERATOR, BEFORE] - ratio * second[..., DENOMINATOR, BEFORE]
            covariance = with_before / n / mean[..., DENOMINATOR]
            spread = second[..., BEFORE, BEFORE] / n - mean[..., BEFORE] ** 2
            theta = _slope((n * covariance).sum(axis=0), (n * spread).sum(axis=0))
            overall = first[..., BEFORE].sum(axis=0) / n.sum(axis=0)
            ratio = ratio - theta * (mean[..., BEFORE] - overall)
            variance = variance - 2 * theta * covariance + theta**2 * spread
        error = np.sqrt((w**2 * np.maximum(variance, 0.0) / (n - 1)).sum(axis=0))
    enough = (n >= 2).all(axis=0) & np.isfinite(error) & (error > 0)
    return Contrast(
        (w * ratio).sum(axis=0),
        np.where(enough, error, np.nan),
        first[..., DENOMINATOR].sum(axis=0),
        n.sum(axis=0),
    )


def _slope(covariance: Array, variance: Array) -> Array:
    return np.divide(covariance, variance, out=np.zeros_like(covariance), where=variance > 1e-12)
