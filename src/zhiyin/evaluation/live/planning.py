"""How many users an experiment needs, and whether the arms got the users they should."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import chdtrc, ndtri

from zhiyin.domain.errors import RequestError
from zhiyin.evaluation.live.sequences import mixing_precision

MISMATCH = 0.001
"""A p-value of the shares below this says that the arms cannot be compared."""
POWER = 0.8
"""Chance to find a change of the size asked for, in advice."""


@dataclass(frozen=True)
class Advice:
    """How long an experiment must run to find a change of a given size.

    Attributes:
        change: The size, as a share of the control's value.
        users_per_arm: Users that each of two equal arms needs.
        days: At the present rate of new users; NaN where the rate is not known.
    """

    change: float
    users_per_arm: int
    days: float


def share_mismatch(n_users: Sequence[float], shares: Sequence[float]) -> float:
    """Test whether the arms have as many users as their shares promise.

    Pearson's chi-square; an arm with too few users lost them somewhere, and who is lost is hardly chance:
    Fabijan et al., *Diagnosing Sample Ratio Mismatch in Online Controlled Experiments* (KDD 2019).

    Args:
        n_users: (A,) users found.
        shares: (A,) adding up to 1.

    Returns:
        The p-value; 1 where there is nobody yet.
    """
    found = np.asarray(n_users, dtype=np.float64)
    expected = found.sum() * np.asarray(shares, dtype=np.float64)
    if len(found) < 2 or found.sum() == 0:
        return 1.0
    return float(chdtrc(len(found) - 1, ((found - expected) ** 2 / expected).sum()))


def users_needed(
    mean: float, deviation: float, change: float, *, alpha: float = 0.05, power: float = POWER
) -> int:
    """Return how many users each of two equal arms needs to find a change, looking as often as one likes.

    The count n for one look is 2 σ² (z_{1-α/2} + z_{power})² / (change · mean)². Who looks all the time pays
    with a wider interval: z_{1-α/2} is replaced by the boundary of `half_width` at its tightest place,
    sqrt(k / (k - 1) · log(k / α²)).

    Args:
        mean: Of the metric, in the control.
        deviation: σ of a user's contribution, in the units of the mean.
        change: As a share of the mean, such as 0.02.
        alpha: Chance of a false alarm.
        power: Chance to find the change.

    Raises:
        RequestError: when the mean, the deviation or the change is not above 0.
    """
    if not (mean > 0 and deviation > 0 and change > 0):
        raise RequestError(
            f"How many users are needed cannot be said for a mean of {mean:g}, "
            f"a deviation of {deviation:g} and a change of {change:g}.",
            possible="All three are above 0.",
        )
    k = 1.0 + mixing_precision(alpha, 1.0)
    boundary = math.sqrt(k / (k - 1.0) * math.log(k / alpha**2))
    return math.ceil(2.0 * (deviation * (boundary + float(ndtri(power))) / (change * mean)) ** 2)


def expected_shares(shares: Mapping[str, float], arms: Sequence[str]) -> list[float]:
    """Return the shares of some arms, scaled to add up to 1."""
    total = sum(shares[arm] for arm in arms)
    return [shares[arm] / total for arm in arms]
