"""How well rows were ordered within their groups, such as one page of impressions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from zhiyin.domain.errors import DataError
from zhiyin.evaluation.labels.figures import LabelFigures, LabelKind
from zhiyin.evaluation.labels.judging import Measure, judge
from zhiyin.evaluation.labels.placing import Places
from zhiyin.evaluation.labels.predicted import Doubles, PredictedLabels
from zhiyin.evaluation.labels.sums import Addend, Addends, Resampling, Sums, summed_by


def judge_rankings(
    predicted: PredictedLabels,
    *,
    at: tuple[int, ...] = (5, 10),
    relevant_from: float = 0.5,
    n_resamples: int = 1000,
    seed: int = 0,
) -> LabelFigures:
    """Judge the order of rows within groups; each figure is a mean over groups with something relevant.

    The figures, each with the middle 95 % of resamples of users: ``ndcg_at_k`` with the label as gain
    (Järvelin and Kekäläinen, 2002), equal predictions share the discount of their places on average (McSherry
    and Najork, "Computing Information Retrieval Performance Measures Efficiently in the Presence of Tied
    Scores", 2008); ``ndcg_over_chance_at_k`` for the first cut, how far that lies above a random order;
    ``mrr``, one over the rank of the first relevant row, and ``hit_rate_at_k``, whether that rank is at most
    k; ties share ranks as in `zhiyin.evaluation.metrics`.

    Args:
        predicted: With groups, each of one user; labels 0 or more; predictions of any scale.
        at: Cuts k.
        relevant_from: Label from which on a row is relevant.
        n_resamples: Draws of users.
        seed: Of the draws.

    Raises:
        DataError: when there are no groups, a group belongs to several users, or a label is below 0.
    """
    _refuse_unfit(predicted)
    measure = Measure(
        LabelKind.RANKING,
        partial(_addends, at=at, relevant_from=relevant_from),
        _figures,
        partial(_reason, relevant_from=relevant_from),
        {},
    )
    # A group stays whole, under the least that was known of its user.
    group = _group_of_row(predicted)
    n_known = np.full(int(group.max()) + 1, np.iinfo(np.int64).max)
    np.minimum.at(n_known, group, predicted.n_known)
    whole = replace(predicted, n_known=n_known[group])
    return judge(whole, measure, Resampling(n_resamples, seed))


@dataclass(frozen=True, eq=False)
class _Blocks:
    """Runs of equal predictions within G groups, group by group, best first."""

    group: Places  # (C,)
    of_row: Places  # (N,)
    n: Doubles  # (C,) rows
    before: Doubles  # (C,) rows of the group that stand higher

    @classmethod
    def of(cls, group: Places, predictions: Doubles) -> _Blocks:
        level = np.unique(-predictions, return_inverse=True)[1]
        n_levels = int(level.max()) + 1
        block, of_row = np.unique(group * n_levels + level, return_inverse=True)
        of_group = block // n_levels
        n = np.bincount(of_row).astype(np.float64)
        in_group = summed_by(of_group, n, int(group.max()) + 1)
        before = np.cumsum(n) - n - (np.cumsum(in_group) - in_group)[of_group]
        return cls(of_group, of_row, n, before)


def _addends(predicted: PredictedLabels, at: tuple[int, ...], relevant_from: float) -> Addends:
    labels, group = predicted.labels.astype(np.float64), _group_of_row(predicted)
    blocks = _Blocks.of(group, predicted.predictions.astype(np.float64))
    n_groups = int(group.max()) + 1
    n_relevant = summed_by(blocks.of_row, labels >= relevant_from, len(blocks.n))
    judged = summed_by(blocks.group, n_relevant, n_groups) > 0
    rank = _first_ranks(blocks, n_relevant, n_groups)
    gain = summed_by(blocks.of_row, labels, len(blocks.n))
    of_group = {"n": judged.astype(np.float64), "mrr": np.where(judged, 1 / rank, 0.0)}
    for k in at:
        of_group[f"ndcg_at_{k}"] = np.where(judged, _ndcg(blocks, gain, group, labels, k), 0.0)
        of_group[f"hit_rate_at_{k}"] = (judged & (rank <= k)).astype(np.float64)
    # All in one place: the discounts of the first k are shared out evenly, as a random order does on average.
    by_chance = _ndcg(_Blocks.of(group, np.zeros(len(labels))), _gain_of(group, labels), group, labels, at[0])
    above = of_group[f"ndcg_at_{at[0]}"] - np.where(judged, by_chance, 0.0)
    of_group[f"ndcg_over_chance_at_{at[0]}"] = above
    first = np.unique(group, return_index=True)[1]
    return {name: _on_rows(values, first, len(labels)) for name, values in of_group.items()}


def _gain_of(group: Places, labels: Doubles) -> Doubles:
    return summed_by(group, labels, int(group.max()) + 1)


def _figures(sums: Sums) -> dict[str, Doubles]:
    names = sorted((name for name in sums if name != "n"), key=lambda name: name.partition("_")[0] != "ndcg")
    return {name: sums[name] / sums["n"] for name in names}


def _first_ranks(blocks: _Blocks, n_relevant: Doubles, n_groups: int) -> Doubles:
    """(G,) expected rank of the first relevant row, infinite where there is none."""
    holds = np.flatnonzero(n_relevant)
    group, first = np.unique(blocks.group[holds], return_index=True)
    block = holds[first]
    rank = np.full(n_groups, np.inf)
    rank[group] = blocks.before[block] + (blocks.n[block] + 1) / (n_relevant[block] + 1)
    return rank


def _ndcg(blocks: _Blocks, gain: Doubles, group: Places, labels: Doubles, k: int) -> Doubles:
    """(G,) float64; NaN where a group holds no gain."""
    discounts = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(2, k + 2)))])
    begin = np.minimum(blocks.before, k).astype(np.intp)
    end = np.minimum(blocks.before + blocks.n, k).astype(np.intp)
    n_groups = int(group.max()) + 1
    found = summed_by(blocks.group, gain * (discounts[end] - discounts[begin]) / blocks.n, n_groups)
    order = np.lexsort((-labels, group))
    in_group = np.bincount(group)
    place = np.arange(len(order)) - (np.cumsum(in_group) - in_group)[group[order]]
    counts = place < k
    best = summed_by(group[order][counts], labels[order][counts] / np.log2(place[counts] + 2), n_groups)
    ratio: Doubles = np.divide(found, best, out=np.full(n_groups, np.nan), where=best > 0)
    return ratio


def _on_rows(values: Doubles, first: Places, n_rows: int) -> Addend:
    """Put the value of each group on its first row."""
    of_row = np.zeros(n_rows)
    of_row[first] = values
    return Addend(of_row)


def _group_of_row(predicted: PredictedLabels) -> Places:
    groups = predicted.user_index if predicted.groups is None else predicted.groups
    found: Places = np.unique(groups, return_inverse=True)[1]
    return found


def _reason(_: str, predicted: PredictedLabels, relevant_from: float) -> str:
    return f"no group of the {len(predicted):,} rows holds a label of {relevant_from:g} or more"


def _refuse_unfit(predicted: PredictedLabels) -> None:
    if predicted.groups is None:
        raise DataError(
            f"Task '{predicted.task}': a ranking needs to know which rows were ranked against each other.",
            remedy="Give the groups, one number a row, such as the page of impressions.",
        )
    if float(predicted.labels.min()) < 0:
        raise DataError(
            f"Task '{predicted.task}': a label is {predicted.labels.min():g}; gains are 0 or more.",
            remedy="Raise all labels by the same number, or say from which value on a row means yes.",
        )
    group = _group_of_row(predicted)
    _, first = np.unique(group, return_index=True)
    n_mixed = int((predicted.user_index != predicted.user_index[first][group]).sum())
    if n_mixed:
        raise DataError(
            f"Task '{predicted.task}': {n_mixed:,} rows stand in a group with rows of another user.",
            remedy="Give each user groups of their own.",
        )
