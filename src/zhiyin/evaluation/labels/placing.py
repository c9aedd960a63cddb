"""Where rows stand when they are ordered by prediction: what the areas under curves are made of.

An area is no sum over rows, but nearly one: to first order it changes with the weight of a row by the place
of that row among the others. Those places are found with one sort, and the bootstrap draws them like any sum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zhiyin.evaluation.labels.predicted import Doubles, Indices
from zhiyin.evaluation.labels.sums import Addend, summed_by

Places = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Levels:
    """N rows of yes or no, on L rising levels of equal predictions.

    Attributes:
        value: (L,) float64, the prediction of each level, rising.
        of_row: (N,) int.
        n: (L,) float64, rows on each level.
        n_yes: (L,) float64, those of them whose label is 1.
    """

    value: Doubles
    of_row: Places
    n: Doubles
    n_yes: Doubles

    @classmethod
    def of(cls, labels: Doubles, predictions: Doubles) -> Levels:
        """Sort the rows, once."""
        value, of_row = np.unique(predictions, return_inverse=True)
        n = np.bincount(of_row, minlength=len(value)).astype(np.float64)
        return cls(value, of_row, n, summed_by(of_row, labels, len(value)))

    @property
    def n_above(self) -> Doubles:
        """(L,) rows on a level or above it."""
        return _from_above(self.n)

    @property
    def n_yes_above(self) -> Doubles:
        """(L,) rows of yes on a level or above it."""
        return _from_above(self.n_yes)


def area_addends(levels: Levels, labels: Doubles) -> dict[str, Addend]:
    """Return what each row adds to the area under the ROC curve; ties count half.

    With the share V of the other class that a row beats, and n₁, n₀ rows of yes and of no::

        AUC = Σ_yes V / n₁ = Σ_no V / n₀        AUC* ≈ Σ_yes w V / Σ_yes w + Σ_no w (V - AUC) / Σ_no w

    DeLong, DeLong and Clarke-Pearson, "Comparing the Areas under Two or More Correlated ROC Curves" (1988);
    drawn by user: Obuchowski, "Nonparametric Analysis of Clustered ROC Curve Data" (1997).

    Returns:
        ``area_yes`` and ``area_no``; zeros where one class has no rows.
    """
    n_no = levels.n - levels.n_yes
    all_yes, all_no = levels.n_yes.sum(), n_no.sum()
    if not (all_yes and all_no):
        return {name: Addend(np.zeros(len(labels))) for name in ("area_yes", "area_no")}
    beaten_no = (np.cumsum(n_no) - n_no / 2) / all_no
    beating_yes = (levels.n_yes_above - levels.n_yes / 2) / all_yes
    area = levels.n_yes @ beaten_no / all_yes
    is_yes = labels > 0
    return {
        "area_yes": Addend(np.where(is_yes, beaten_no[levels.of_row], 0.0)),
        "area_no": Addend(np.where(is_yes, 0.0, beating_yes[levels.of_row] - area)),
    }


def average_precision_addend(levels: Levels, labels: Doubles) -> Addend:
    """Return what each row adds to the average precision, times the rows of yes.

    With precision P and rows M on the level of row i or above it, yes or no y::

        AP = Σ_yes P_i / n₁        n₁ · ∂AP*/∂w_k = y_k P_k + Σ_{yes i not above k} (y_k - P_i) / M_i

    The second part sums to zero over all rows. Levels count as a whole, as a threshold would take them.
    """
    precision = levels.n_yes_above / levels.n_above
    reach = np.cumsum(levels.n_yes / levels.n_above)
    cost = np.cumsum(levels.n_yes * precision / levels.n_above)
    row = levels.of_row
    return Addend(labels * (precision + reach)[row] - cost[row])


def within_users_addends(levels: Levels, labels: Doubles, user_index: Indices) -> dict[str, Addend]:
    """Return what each user adds to the area under the ROC curve within users, weighted by rows (GAUC).

    ::

        GAUC = Σ_u n_u AUC_u / Σ_u n_u, over users with rows of both classes

    Zhou and others, "Deep Interest Network for Click-Through Rate Prediction" (2018), equation 5.

    Returns:
        ``within`` (n_u AUC_u) and ``within_n`` (n_u), on one row of each user, zeros on the others.
    """
    users, first, user = np.unique(user_index, return_index=True, return_inverse=True)
    n_levels = len(levels.value)
    cell, of_row = np.unique(user * n_levels + levels.of_row, return_inverse=True)
    owner = cell // n_levels
    yes = summed_by(of_row, labels, len(cell))
    no = np.bincount(of_row, minlength=len(cell)) - yes
    no_of_user = summed_by(owner, no, len(users))
    no_before_user = np.cumsum(no_of_user) - no_of_user
    beaten = np.cumsum(no) - no / 2 - no_before_user[owner]
    wins = summed_by(owner, yes * beaten, len(users))
    pairs = summed_by(owner, yes, len(users)) * no_of_user
    n_rows = np.bincount(user, minlength=len(users)).astype(np.float64)
    area = np.divide(wins, pairs, out=np.zeros(len(users)), where=pairs > 0)
    within, within_n = np.zeros(len(labels)), np.zeros(len(labels))
    within[first], within_n[first] = n_rows * area, n_rows * (pairs > 0)
    return {"within": Addend(within), "within_n": Addend(within_n)}


def bins_of_levels(levels: Levels, n_bins: int) -> Places:
    """(N,) int: bins of about equal numbers by rising prediction; equal predictions share a bin."""
    middle = np.cumsum(levels.n) - levels.n / 2
    bin_of_level = np.minimum((middle / levels.n.sum() * n_bins).astype(np.intp), n_bins - 1)
    found: Places = bin_of_level[levels.of_row]
    return found


def _from_above(counts: Doubles) -> Doubles:
    summed: Doubles = np.cumsum(counts[::-1])[::-1]
    return summed
