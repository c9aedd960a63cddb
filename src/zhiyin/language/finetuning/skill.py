"""How much better than knowing nothing a set of predictions is, on one scale for every kind of task."""

from __future__ import annotations

import numpy as np

from zhiyin.domain import FloatArray, IndexArray
from zhiyin.language.finetuning.settings import TaskConfig

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
    if not len(labels) or labels.min() == labels.max():
        return float("nan")
    if task.kind == "yes_no":
        return 1.0 - _log_loss(labels, predicted) / _log_loss(labels, np.full_like(labels, labels.mean()))
    if task.kind == "rating":
        if task.error == "squared":
            return 1.0 - float(np.square(predicted - labels).mean() / labels.var())
        return 1.0 - float(np.abs(predicted - labels).mean() / np.abs(labels - np.median(labels)).mean())
    return _order(predicted, labels, user)


def reciprocal_rank(scores: FloatArray) -> float:
    """Return the mean of 1 / rank of the first column among all columns of (N, C) scores; ties count half."""
    higher = (scores[:, 1:] > scores[:, :1]).sum(axis=1) + (scores[:, 1:] == scores[:, :1]).sum(axis=1) / 2
    return float((1.0 / (1.0 + higher)).mean())


def _log_loss(labels: FloatArray, chances: FloatArray) -> float:
    bounded = np.clip(chances.astype(np.float64), _LEAST_CHANCE, 1 - _LEAST_CHANCE)
    return float(-(labels * np.log(bounded) + (1 - labels) * np.log1p(-bounded)).mean())


def _order(predicted: FloatArray, labels: FloatArray, user: IndexArray) -> float:
    """Count pairs of neighbours in each user's rows, the rows having been put into a random order."""
    order = np.random.default_rng(0).permutation(len(labels))
    order = order[np.argsort(user[order], kind="stable")]
    predicted, labels, user = predicted[order], labels[order], user[order]
    right, n = 0.0, 0
    for step in (1, 2, 3):
        first, second = slice(None, -step), slice(step, None)
        differ = (user[first] == user[second]) & (labels[first] != labels[second])
        agreement = np.sign(labels[first] - labels[second]) * np.sign(predicted[first] - predicted[second])
        right += float(agreement[differ].sum())
        n += int(differ.sum())
    return right / n if n else float("nan")
