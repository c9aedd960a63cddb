"""Start, stop and judge experiments; what the command line and the service call."""

from __future__ import annotations

import time
from dataclasses import replace

import polars as pl

from zhiyin.domain.errors import ConfigError
from zhiyin.evaluation.live.figures import day
from zhiyin.evaluation.live.judging import judge
from zhiyin.evaluation.live.ledger import read_ledger
from zhiyin.evaluation.live.verdict import TrialReport
from zhiyin.online.trials.assignment import N_BUCKETS, free_buckets, n_free
from zhiyin.online.trials.boosts import refuse_unfit_boosts
from zhiyin.online.trials.definition import (
    KIND,
    StartedTrial,
    Trial,
    bundles_of,
    parse_trial,
    read_started,
    unknown_trial,
)
from zhiyin.stores.events import EventStore

_MOST_AHEAD = 365 * 86_400
"""Seconds that the start of an experiment may lie ahead; it holds its users from the moment it is stored."""


def started_trials(store: EventStore) -> list[StartedTrial]:
    """Return every experiment of a store, oldest first, ended ones included."""
    read = [read_started(document) for document in store.documents(KIND)]
    return sorted((one for one in read if one is not None), key=lambda one: (one.start, one.name))


def versions_tried(store: EventStore) -> frozenset[str]:
    """Return the versions of bundles that the arms of running experiments answer with."""
    return bundles_of(one for one in started_trials(store) if not one.is_over())


def started_trial(store: EventStore, name: str) -> StartedTrial:
    """Return one experiment.

    Raises:
        ConfigError: when there is none of this name.
    """
    known = started_trials(store)
    found = next((one for one in known if one.name == name), None)
    if found is None:
        raise unknown_trial(name, [one.name for one in known])
    return found


def start(
    store: EventStore, trial: Trial, *, attributes: pl.Schema | None = None, now: int | None = None
) -> StartedTrial:
    """Store an experiment; every process follows from the change log.

    It takes users that no other experiment holds: the first free ones of 10,000 buckets. An experiment of the
    same name that still runs is changed in place and keeps its users; more may be taken in, but its arms and
    their shares stay, for users who move from arm to arm would spoil its figures. One that has not begun may
    be changed in everything; without a start it keeps the one it has.

    Args:
        store: Of one tenant.
        trial: What is asked for.
        attributes: Of the items that are served, where they are known: boosts may name no others.
        now: UTC seconds; the clock by default.

    Raises:
        FilterError: when a boost of an arm cannot be understood.
        ConfigError: when too few users are free, an arm's bundle is not stored, an ended experiment has this
            name, it would start more than a year from now, or a change of a running one would make its
            figures worthless.
    """
    now = int(time.time()) if now is None else now
    refuse_unfit_boosts(trial, attributes)
    known = started_trials(store)
    before = next((one for one in known if one.name == trial.name), None)
    if before is not None:
        _refuse_change(before, trial, now)
    _refuse_unknown_bundles(store, trial)
    held = [
        buckets for one in known if one.name != trial.name and not one.is_over(now) for buckets in one.buckets
    ]
    running = before if before is not None and before.has_begun(now) else None
    begin = running.start if running is not None else _planned_start(trial, before, now)
    started = StartedTrial(
        # Checked again: with its start filled in, the stop may lie before it.
        trial=parse_trial({**trial.model_dump(), "start": begin}),
        buckets=_buckets(trial, held, () if running is None else running.buckets),
        notes_slow_answers=running is None or running.notes_slow_answers,
    )
    store.put_document(KIND, trial.name, started.body()).result()
    return started


def stop(store: EventStore, name: str, *, now: int | None = None) -> StartedTrial:
    """End an experiment: its users get the ordinary answer again, its report stays.

    One that has not begun has shown nothing: it is removed, and its name may be used again.

    Raises:
        ConfigError: when there is none of this name.
    """
    now = int(time.time()) if now is None else now
    found = started_trial(store, name)
    if found.is_over(now):
        return found
    stopped = replace(found, stopped=now)
    store.put_document(KIND, name, stopped.body() if found.has_begun(now) else None).result()
    return stopped


def report(store: EventStore, name: str, *, now: int | None = None) -> TrialReport:
    """Say what an experiment has shown so far; it may be asked as often as one likes.

    Args:
        store: Of one tenant.
        name: Of the experiment.
        now: UTC seconds; the clock by default.

    Raises:
        ConfigError: when there is none of this name.
    """
    now = int(time.time()) if now is None else now
    started = started_trial(store, name)
    question = started.question()
    found = judge(read_ledger(store, question, now), question)
    return found if started.has_begun(now) else replace(found, sentence=f"It begins on {day(started.start)}.")


def _buckets(
    trial: Trial, held: list[tuple[int, int]], own: tuple[tuple[int, int], ...]
) -> tuple[tuple[int, int], ...]:
    """Keep what a running experiment has and add what it lacks."""
    n_wanted = round(trial.share_of_users * N_BUCKETS)
    n_own = sum(end - begin for begin, end in own)
    more = free_buckets([*held, *own], n_wanted - n_own)
    if more is None:
        n_possible = n_own + n_free([*held, *own])
        raise ConfigError(
            f"The experiment '{trial.name}' wants {trial.share_of_users:.4g} of all users; "
            "other experiments hold them.",
            possible=f"At most {n_possible / N_BUCKETS:.4g} can take part now.",
            remedy="Lower share_of_users, or stop another experiment.",
        )
    return (*own, *more)


def _planned_start(trial: Trial, before: StartedTrial | None, now: int) -> int:
    """Say when an experiment begins that has not begun so far."""
    begin = trial.start
    if begin is None:
        begin = now if before is None else before.start
    if begin > now + _MOST_AHEAD:
        raise ConfigError(
            f"The experiment '{trial.name}' would start at {begin}, more than a year from now, and hold its "
            "users until then.",
            possible=f"A start is UTC seconds, {now + _MOST_AHEAD} at most; without one it starts at once.",
            remedy="Name a nearer start; divide by 1000 what are milliseconds.",
        )
    return begin


def _refuse_change(before: StartedTrial, trial: Trial, now: int) -> None:
    if before.is_over(now):
        raise ConfigError(
            f"An experiment '{trial.name}' has ended; its slates and its report carry that name.",
            remedy="Give the new one another name.",
        )
    if not before.has_begun(now):
        return
    fixed = ("kind", "control", "metric", "salt", "start", "arms")
    changed = [
        name
        for name in fixed
        if getattr(trial, name) != getattr(before.trial, name)
        and not (name == "start" and trial.start is None)
    ]
    if trial.share_of_users < before.trial.share_of_users:
        changed.append("share_of_users")
    if changed:
        raise ConfigError(
            f"The experiment '{trial.name}' runs; changing {', '.join(changed)} would make its figures "
            "worthless.",
            possible="Taking in more users and changing guard_rails, stop or measuring is possible.",
            remedy="Stop it and start another one.",
        )


def _refuse_unknown_bundles(store: EventStore, trial: Trial) -> None:
    wanted = {arm.bundle for arm in trial.arms.values() if arm.bundle is not None}
    if not wanted:
        return
    known = [bundle.version for bundle in store.bundles()]
    missing = sorted(wanted - set(known))
    if missing:
        raise ConfigError(
            f"The bundle '{missing[0]}' of an arm is not in the store.",
            possible=f"Stored versions: {', '.join(known) or 'none'}.",
        )
