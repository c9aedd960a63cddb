"""How much better than knowing nothing a set of predictions is, on one scale for every kind of task."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from zhiyin.domain import FloatArray, IndexArray
from zhiyin.language.finetuning.settings import TaskConfig

Shares = npt.NDArray[np.float64]
"""(N,) what rows or users add to a skill."""
_LEAST_CHANCE = 1e-6


def skill_of(task: TaskConfig, predicted: FloatArray, labels: FloatArray, user: IndexArray) -> float:
    """Return 0 for knowing only the mean label, 1 for knowing all; below 0 for worse than nothing.

    ``yes_no``: share of the log-loss that is explained (McFadden's R²). ``rating``: share of the squared or
    absolute error. Orders: how many more pairs of a user's rows stand right than by chance (Somers' D).

    Args:
        task: Which; not ``next``.
        predicted: (N,) float, chances or ratings or scores.
        labels: (N,) float without NaN.
        user: (N,) int.

    Returns:
        NaN where nothing can be told: no rows, or labels all equal.
    """
    won, most = _won(task, predicted, labels, user)
    return float(won.sum() / most) if most else float("nan")


def skill_of_rows(task: TaskConfig, predicted: FloatArray, labels: FloatArray, user: IndexArray) -> Shares:
    """Return what each row adds to `skill_of`: (N,) float64 whose mean is the skill.

    The arguments are those of `skill_of`; all is NaN where nothing can be told.
    """
    won, most = _won(task, predicted, labels, user)
    share: Shares = won * len(won) / most if most else np.full(len(won), np.nan)
    return share


def reciprocal_rank(scores: FloatArray) -> float:
    """Return the mean of 1 / rank of the first column among all columns of (N, C) scores; ties count half."""
    return float(reciprocal_rank_of_rows(scores).mean())


def reciprocal_rank_of_rows(scores: FloatArray) -> Shares:
    """Return (N,) 1 / rank of the first column among all columns of (N, C) scores; ties count half."""
    higher = (scores[:, 1:] > scores[:, :1]).sum(axis=1) + (scores[:, 1:] == scores[:, :1]).sum(axis=1) / 2
    ranks: Shares = 1.0 / (1.0 + higher)
    return ranks


def _won(
    task: TaskConfig, predicted: FloatArray, labels: FloatArray, user: IndexArray
) -> tuple[Shares, float]:
    """Return what each row (N,) wins against knowing nothing, and what all could win together."""
    if not len(labels) or labels.min() == labels.max():
        return np.zeros(len(labels)), 0.0
    if task.kind == "yes_no":
        losses = _log_losses(labels, predicted)
        of_nothing = _log_losses(labels, np.full_like(labels, labels.mean()))
    elif task.kind == "rating" and task.error == "squared":
        losses = np.square(predicted - labels, dtype=np.float64)
        of_nothing = np.square(labels - labels.mean(dtype=np.float64))
    elif task.kind == "rating":
        losses = np.abs(predicted - labels, dtype=np.float64)
        of_nothing = np.abs(labels - np.median(labels), dtype=np.float64)
    else:
        return _order(predicted, labels, user)
    return of_nothing - losses, float(of_nothing.sum())


def _log_losses(labels: FloatArray, chances: FloatArray) -> Shares:
    bounded = np.clip(chances.astype(np.float64), _LEAST_CHANCE, 1 - _LEAST_CHANCE)
    yes = labels.astype(np.float64)
    losses: Shares = -(yes * np.log(bounded) + (1 - yes) * np.log1p(-bounded))
    return losses


def _order(predicted: FloatArray, labels: FloatArray, user: IndexArray) -> tuple[Shares, float]:
    """Count pairs of neighbours in each user's rows, the rows having been put into a random order.

    A pair counts for the first of its two rows.
    """
    order = np.random.default_rng(0).permutation(len(labels))
    order = order[np.argsort(user[order], kind="stable")]
    predicted, labels, user = predicted[order], labels[order], user[order]
    right, n = np.zeros(len(labels)), 0
    for step in (1, 2, 3):
        first, second = slice(None, -step), slice(step, None)
        differ = (user[first] == user[second]) & (labels[first] != labels[second])
        agreement = np.sign(labels[first] - labels[second]) * np.sign(predicted[first] - predicted[second])
        right[order[first][differ]] += agreement[differ]
        n += int(differ.sum())
    return right, float(n)
