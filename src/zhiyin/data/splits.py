"""Dividing a dataset into what may be learned from and what must be foretold.

Every split leaves users, items and event kinds at their indices, so that a component trained on
``split.train`` answers ``split.test`` without translation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import polars as pl

from zhiyin.data.dataset import Dataset
from zhiyin.data.order import carried_forward
from zhiyin.data.shown import seconds_of
from zhiyin.domain import NO_TIMESTAMP, PAD, Examples, Histories, LongArray, Queries, Ragged
from zhiyin.domain.arrays import flat_positions, offsets_of
from zhiyin.domain.errors import DataError

FEW_SHOTS = (0, 1, 3, 5, 10)
"""Items known of a newcomer at which `growing_users` asks."""


@dataclass(frozen=True, eq=False)
class Split:
    """One division of a dataset.

    Attributes:
        name: What reports call it, such as ``leave-last-out``.
        train: All users and items, but only the events that may be learned from.
        validation: What settings, weights and the moment to stop are chosen on.
        test: What is reported; never used to choose anything.
        everybody: What all users did next, where ``test`` asks only about some of them; with the same
            training it says what serving those costs the others.
        steps: Events known → the users of ``test``, asked when so much was known of them.
    """

    name: str
    train: Dataset
    validation: Examples
    test: Examples
    everybody: Examples | None = None
    steps: Mapping[int, Examples] = field(default_factory=dict)


def leave_last_out(dataset: Dataset, *, repeat: bool = False) -> Split:
    """Hold back the last event of each user as test target and the one before as validation target.

    Training is everything before these two. The history of a test query holds the validation event, that of
    a validation query does not. Users without two targets and something before them are in training only.

    Args:
        dataset: With all events.
        repeat: Whether an item that the user already has can be a target. If not, targets are the last two
            items a user met for the first time: after view, cart and purchase of one item, the view counts,
            and what the user did with it later is in nobody's history.
    """
    histories = dataset.histories
    can_be_target = np.ones(histories.n_events, dtype=np.bool_) if repeat else first_meetings(histories)
    positions = np.flatnonzero(can_be_target)
    per_user = np.bincount(histories.row_of_event[positions], minlength=len(histories))
    held = np.flatnonzero(per_user >= 3)
    ends = np.cumsum(per_user)[held]
    validation, test = positions[ends - 2], positions[ends - 1]
    first_held_back = histories.offsets[1:].copy()
    first_held_back[held] = validation
    keep = np.arange(histories.n_events) < np.repeat(first_held_back, histories.lengths)
    return Split(
        "leave-last-out",
        dataset.with_events(keep),
        next_events(dataset, held, validation),
        next_events(dataset, held, test),
    )


def first_meetings(histories: Histories) -> npt.NDArray[np.bool_]:
    """Mark the first event of each user with each item."""
    if not histories.n_events:
        return np.zeros(0, dtype=np.bool_)
    n_items = int(histories.item_index.max()) + 1
    pairs = histories.row_of_event * n_items + histories.item_index
    first = np.zeros(histories.n_events, dtype=np.bool_)
    first[np.unique(pairs, return_index=True)[1]] = True
    return first


def next_events(
    dataset: Dataset,
    users: npt.NDArray[np.integer],
    first_targets: LongArray,
    n_targets: LongArray | None = None,
) -> Examples:
    """Ask, for each given user, what comes at a position of the flat events, knowing all that came before.

    Args:
        dataset: With all events.
        users: (B,) rows of the histories; a user may come several times.
        first_targets: (B,) int64 position of the first target in the flat events, inside the user's run.
        n_targets: (B,) int64 events from there on that count as targets; one each when None.

    Returns:
        B examples; time and context of a query are those of its first target.
    """
    starts = dataset.histories.offsets[:-1][users]
    known = dataset.histories.runs(starts, first_targets - starts)
    if n_targets is None:
        n_targets = np.ones(len(users), dtype=np.int64)
    return _examples(dataset, users.astype(np.int32), known, first_targets, n_targets)


def _examples(
    dataset: Dataset,
    user_index: npt.NDArray[np.int32],
    known: Histories,
    first_targets: LongArray,
    n_targets: LongArray,
) -> Examples:
    positions = flat_positions(first_targets, n_targets)
    context = {name: column.gather(first_targets).to_numpy() for name, column in dataset.context.items()}
    queries = Queries(user_index, known, dataset.histories.timestamp[first_targets], context)
    return Examples(queries, Ragged(offsets_of(n_targets), dataset.histories.item_index[positions]))


def by_time(dataset: Dataset, *, validation_share: float = 0.1, test_share: float = 0.1) -> Split:
    """Cut time in three: learn from the first part, validate on the second, test on the last.

    The cuts are moments, the same for all users, such that about these shares of the events lie after them.
    A query is made once for each user who did something in a part, at their first event there; all their
    events there are its targets, all before it its history, which is empty for a user who is new.
    An event without a time counts as happening with the one before it.

    Raises:
        DataError: when the events have no times, or all happened at the same time.
    """
    _require_shares(validation_share, test_share)
    if not dataset.has_timestamps:
        raise DataError(
            f"'{dataset.name}' has no timestamps, so it cannot be split by time.",
            remedy="Split it with leave_last_out, which needs only the order of events.",
        )
    histories = dataset.histories
    moment = carried_forward(histories.row_of_event.astype(np.int32), histories.timestamp)
    in_order = np.sort(moment)
    n_before = [round(len(moment) * (1 - share)) for share in (test_share + validation_share, test_share)]
    first, second = (int(in_order[min(n, len(moment) - 1)]) for n in n_before)
    if first == second or first == int(in_order[0]):
        raise DataError(
            f"'{dataset.name}' cannot be split by time: too many events happened at the same moment.",
            remedy="Give larger shares, or split it with leave_last_out.",
        )
    return Split(
        "by-time",
        _of_times_before(dataset.with_events(moment < first), first),
        _of_period(dataset, (moment >= first) & (moment < second)),
        _of_period(dataset, moment >= second),
    )


def _of_times_before(train: Dataset, moment: int) -> Dataset:
    """Leave out what was shown later; that nobody took it is known later, too."""
    shown = train.impressions
    if shown is None:
        return train
    seconds = seconds_of(shown)
    return replace(train, impressions=shown.filter(pl.Series((seconds < moment) & (seconds != NO_TIMESTAMP))))


def by_user(
    dataset: Dataset, *, validation_share: float = 0.1, test_share: float = 0.1, seed: int = 0
) -> Split:
    """Hold back whole users; the last item new to them is the target, what they did before it is known.

    Nothing of these users is in training, so their queries have user index -1. Only users who met at least
    two items are held back.
    """
    positions = np.flatnonzero(first_meetings(dataset.histories))
    per_user = np.bincount(dataset.histories.row_of_event[positions], minlength=dataset.n_users)
    users = _drawn("users who met two different items", per_user >= 2, (validation_share, test_share), seed)
    ends = np.cumsum(per_user)
    validation, test = (
        _as_strangers(next_events(dataset, chosen, positions[ends[chosen] - 1])) for chosen in users
    )
    return Split("by-user", _without_users(dataset, np.concatenate(users)), validation, test)


def cold_users(
    dataset: Dataset,
    *,
    n_known: Sequence[int] = FEW_SHOTS,
    validation_share: float = 0.1,
    test_share: float = 0.1,
    seed: int = 0,
) -> Split:
    """Hold back whole users, and ask again and again while their histories grow from nothing.

    Only users who met more items than the largest of ``n_known`` are held back, so that the same users are
    asked at every step. The target is the next item that is new to the user.

    Args:
        dataset: With all events.
        n_known: Items that a query knows, the first ones the user met, at each step.
        validation_share: Share of these users held back for validation: what they took last, knowing all
            before it.
        test_share: Share of these users held back for testing.
        seed: Of the draw.

    Returns:
        A split whose ``steps`` hold one set of examples for each of ``n_known``, and whose test examples are
        those of the smallest. All queries have user index -1.

    Raises:
        DataError: when too few users met that many items.
    """
    positions = np.flatnonzero(first_meetings(dataset.histories))
    per_user = np.bincount(dataset.histories.row_of_event[positions], minlength=dataset.n_users)
    ends = np.cumsum(per_user)
    what = f"users who met more than {max(n_known)} different items"
    chosen = _drawn(what, per_user > max(n_known), (validation_share, test_share), seed)
    validation, asked = chosen
    first = (ends - per_user)[asked]
    steps = {n: _as_strangers(next_events(dataset, asked, positions[first + n])) for n in sorted(n_known)}
    return Split(
        "cold-users",
        _without_users(dataset, np.concatenate(chosen)),
        _as_strangers(next_events(dataset, validation, positions[ends[validation] - 1])),
        steps[min(n_known)],
        steps=steps,
    )


def cold_items(dataset: Dataset, *, test_share: float = 0.052, seed: int = 0, repeat: bool = False) -> Split:
    """Hold back whole items: no event that touches one is in training, in validation or in any history.

    Everything else is as in `leave_last_out`: the test examples are those of its test examples whose target
    is such an item, ``everybody`` holds all of them. The items stay in the catalogue, with their texts.
    They are drawn from those that are a test target, so that each of them is asked for.

    Args:
        dataset: With all events.
        test_share: Share of the test targets' items held back; the default makes 415 on amazon-beauty.
        seed: Of the draw.
        repeat: See `leave_last_out`.

    Returns:
        Examples of users who did something before that training may hold.
    """
    warm = leave_last_out(dataset, repeat=repeat)
    is_target = np.zeros(dataset.n_items, dtype=np.bool_)
    is_target[warm.test.targets.values] = True
    (items,) = _drawn("items that can be targets", is_target, (test_share,), seed)
    is_held = np.zeros(dataset.n_items, dtype=np.bool_)
    is_held[items] = True
    validation, everybody = (_without_items(part, is_held) for part in (warm.validation, warm.test))
    return Split(
        "cold-items",
        _never_shown(warm.train.with_events(~is_held[warm.train.histories.item_index]), items),
        validation.take(np.flatnonzero(~is_held[validation.targets.values])),
        everybody.take(np.flatnonzero(is_held[everybody.targets.values])),
        everybody,
    )


def _never_shown(train: Dataset, items: LongArray) -> Dataset:
    """Leave out every showing of some items, as if they were new."""
    shown = train.impressions
    if shown is None:
        return train
    ids = train.catalogue.items.ids.gather(items)
    return replace(train, impressions=shown.filter(~pl.col("item_id").cast(pl.String).is_in(ids.implode())))


def _without_items(examples: Examples, is_held: npt.NDArray[np.bool_]) -> Examples:
    """Take items out of the histories; who knows nothing then is not asked."""
    histories = examples.queries.histories
    histories = histories.where(~is_held[histories.item_index])
    known = replace(examples, queries=replace(examples.queries, histories=histories))
    return known.take(np.flatnonzero(histories.lengths > 0))


def _of_period(dataset: Dataset, inside: npt.NDArray[np.bool_]) -> Examples:
    """Ask once for each user with events marked in (T,) bool, which stand together in each history."""
    n_targets = np.bincount(dataset.histories.row_of_event[inside], minlength=len(dataset.histories)).astype(
        np.int64
    )
    users = np.flatnonzero(n_targets)
    before = offsets_of(inside.astype(np.int64))[dataset.histories.offsets[:-1][users]]
    return next_events(dataset, users, np.flatnonzero(inside)[before], n_targets[users])


def _drawn(
    what: str, eligible: npt.NDArray[np.bool_], shares: tuple[float, ...], seed: int
) -> tuple[LongArray, ...]:
    """Draw disjoint sets from those marked in (n,) bool, each in rising order; ``what`` they are called."""
    _require_shares(*shares)
    candidates = np.random.default_rng(seed).permutation(np.flatnonzero(eligible))
    sizes = [max(1, round(len(candidates) * share)) for share in shares]
    if sum(sizes) >= len(candidates):
        raise DataError(
            f"There are {len(candidates)} {what}, too few to hold back "
            f"{' and '.join(str(size) for size in sizes)}.",
            remedy="Give smaller shares, or more data.",
        )
    ends = np.cumsum(sizes)
    return tuple(np.sort(candidates[end - size : end]) for size, end in zip(sizes, ends, strict=True))


def _require_shares(*shares: float) -> None:
    if not (all(0 < share < 1 for share in shares) and sum(shares) < 1):
        what = ("testing",) if len(shares) == 1 else ("validation", "testing")
        told = " and ".join(f"{share:g} for {part}" for share, part in zip(shares, what, strict=True))
        raise DataError(
            f"Cannot hold back shares of {told}.",
            possible="Each lies between 0 and 1, and so does their sum.",
        )


def _without_users(dataset: Dataset, users: LongArray) -> Dataset:
    is_held = np.zeros(dataset.n_users, dtype=np.bool_)
    is_held[users] = True
    return dataset.with_events(~np.repeat(is_held, dataset.histories.lengths))


def _as_strangers(examples: Examples) -> Examples:
    user_index = np.full(len(examples), PAD, dtype=np.int32)
    return replace(examples, queries=replace(examples.queries, user_index=user_index))
