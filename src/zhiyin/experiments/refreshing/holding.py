"""The newest events held back: what a refreshed bundle is judged by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from zhiyin.contracts import Steps
from zhiyin.data.splits import Split, first_meetings, next_events
from zhiyin.domain import BoolArray, LongArray
from zhiyin.experiments.refreshing.gathering import Grown
from zhiyin.experiments.refreshing.settings import RefreshConfig


@dataclass(frozen=True, eq=False)
class Held:
    """A division of grown data in time.

    Attributes:
        split: Train on ``train``, weigh on ``validation``, judge on ``test``; nothing of the last two is
            known to the bundle in use, nor to the one that is trained now.
        is_new: (T,) bool, aligned with the flat events of ``split.train``.
        taught: New events of ``split.train``, in time order: what the bundle in use has absorbed of it.
        kept_back: The events that training does not see, in time order.
    """

    split: Split
    is_new: BoolArray
    taught: Steps
    kept_back: Steps


def hold_back(grown: Grown, config: RefreshConfig, *, seed: int = 0) -> Held:
    """Hold back, for some users, the last event on an item that is new to them.

    Only users whose last such event is among the newest ``held_back_share`` of all new events, so that
    neither the bundle in use nor the next one has learned it. A third of them is for validation.

    Args:
        grown: Everything.
        config: Shares and bounds.
        seed: Of the draws.
    """
    dataset, moments = grown.dataset, grown.moments
    histories = dataset.histories
    meets = np.flatnonzero(first_meetings(histories))
    per_user = np.bincount(histories.row_of_event[meets], minlength=len(histories))
    users = np.flatnonzero(per_user >= 2)
    last = meets[np.cumsum(per_user)[users] - 1]
    until = _moment_of_share(moments[grown.is_new], 1.0 - config.held_back_share)
    eligible = np.flatnonzero(grown.is_new[last] & (moments[last] >= until))
    random = np.random.default_rng(seed)
    if len(eligible) > config.most_held_back:
        eligible = np.sort(random.choice(eligible, config.most_held_back, replace=False))
    is_validation = np.zeros(len(eligible), dtype=np.bool_)
    is_validation[random.permutation(len(eligible))[: len(eligible) // 3]] = True
    held_users, targets = users[eligible], last[eligible]
    ends = histories.offsets[1:].copy()
    ends[held_users] = targets
    in_training = np.arange(histories.n_events) < np.repeat(ends, histories.lengths)
    split = Split(
        "newest",
        dataset.with_events(in_training),
        next_events(dataset, held_users[is_validation], targets[is_validation]),
        next_events(dataset, held_users[~is_validation], targets[~is_validation]),
    )
    taught = _in_time(np.flatnonzero(grown.is_new & in_training), moments)
    kept_back = _in_time(np.flatnonzero(~in_training), moments)
    return Held(
        split,
        grown.is_new[in_training],
        Steps.of_histories(histories, taught),
        Steps.of_histories(histories, kept_back),
    )


def _moment_of_share(moments: LongArray, share: float) -> int:
    return int(np.quantile(moments, share, method="lower")) if len(moments) else 0


def _in_time(positions: LongArray, moments: LongArray) -> LongArray:
    return positions[np.argsort(moments[positions], kind="stable")]
