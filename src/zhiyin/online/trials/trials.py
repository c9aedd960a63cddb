"""Which arm answers a user, at the speed of answering."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from zhiyin.domain.errors import ConfigError
from zhiyin.online.trials.assignment import LAYER, N_BUCKETS, ArmRanges, Buckets
from zhiyin.online.trials.definition import KIND, StartedTrial, bundles_of, read_started
from zhiyin.stores.records import StoredDocument

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Assigned:
    """How one user is to be answered.

    Attributes:
        experiment: Name of the experiment; slates carry it.
        arm: The user's arm; for an interleaving the control.
        bundle_version: Bundle that answers; None for the active one.
        settings: What differs from an ordinary answer: ``diversity``, ``boost``.
        rival: The arm whose slate is mixed in; None unless this is an interleaving.
    """

    experiment: str
    arm: str
    bundle_version: str | None
    settings: Mapping[str, Any]
    rival: Assigned | None = None


class Trials:
    """The running experiments of one tenant, kept in memory and followed by the change log.

    All state is one table that is exchanged in one assignment, so any thread may ask while another takes in.

    Args:
        documents: Documents of the store; those of other kinds are passed over.
        clock: UTC seconds.
    """

    def __init__(
        self, documents: Iterable[StoredDocument] = (), *, clock: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        self._layer = Buckets(LAYER)
        self._started: dict[str, StartedTrial] = {}
        self._table = _Table(())
        self.take(documents)

    def take(self, documents: Iterable[StoredDocument]) -> None:
        """Take in what the change log says about documents: new, changed or removed experiments.

        One that another version wrote, and that cannot be read, is passed over: what was known under its name
        stays, and so do all others.
        """
        started = dict(self._started)
        ours = [document for document in documents if document.kind == KIND]
        for document in ours:
            try:
                found = read_started(document)
            except ConfigError as error:
                _LOG.error("%s", error.problem)
                continue
            if found is None:
                started.pop(document.name, None)
            else:
                started[document.name] = found
        if ours:
            now = self._clock()
            waiting = tuple(one for one in started.values() if not one.is_over(now))
            self._started, self._table = started, _Table(waiting)

    def running(self) -> tuple[StartedTrial, ...]:
        """Return the experiments that assign users now, oldest first."""
        now = self._clock()
        return tuple(trial for trial in self._table.trials if trial.start <= now and not trial.is_over(now))

    def bundle_versions(self) -> frozenset[str]:
        """Return the bundles that arms of running or coming experiments need."""
        now = self._clock()
        return bundles_of(trial for trial in self._table.trials if not trial.is_over(now))

    def arm_for(self, user_id: str | None, session: str | None = None) -> Assigned | None:
        """Say which arm answers; the same user gets the same arm in every process, after every restart.

        Args:
            user_id: Who asks; None for an anonymous visitor.
            session: What holds an anonymous visitor's requests together, such as the id of a cookie. A
                visitor with a session is sent to an arm by it, but has no events to be joined with and so is
                not counted.

        Returns:
            None when no experiment holds the user: the ordinary answer is meant.
        """
        table = self._table
        if not table.trials:
            return None
        unit = user_id if user_id is not None else session
        if unit is None:
            return None
        bucket = self._layer.of(unit)
        for place in table.of_bucket[bucket]:
            begin, end = table.times[place]
            if begin <= self._clock() < end:
                return table.choosers[place](unit)
        return None


class _Table:
    """Bucket → experiments that hold it, the one that started first in front."""

    def __init__(self, started: tuple[StartedTrial, ...]) -> None:
        self.trials = tuple(sorted(started, key=lambda one: (one.start, one.name)))
        self.times = tuple((one.start, float("inf") if one.stop is None else one.stop) for one in self.trials)
        self.choosers = tuple(_chooser(one) for one in self.trials)
        holders: list[tuple[int, ...]] = [()] * N_BUCKETS
        for place, one in enumerate(self.trials):
            for begin, end in one.buckets:
                for bucket in range(begin, end):
                    holders[bucket] += (place,)
        self.of_bucket = holders


def _chooser(started: StartedTrial) -> Callable[[str], Assigned]:
    """Return what sends a user of this experiment to an arm."""
    trial = started.trial
    arms = {
        name: Assigned(trial.name, name, arm.bundle, MappingProxyType(arm.settings))
        for name, arm in trial.arms.items()
    }
    if trial.kind == "interleaving":
        rival = next(arm for name, arm in arms.items() if name != trial.control)
        control = arms[trial.control]
        both = Assigned(trial.name, control.arm, control.bundle_version, control.settings, rival)
        return lambda _: both
    ranges = ArmRanges({name: arm.share for name, arm in trial.arms.items()})
    choices = tuple(arms[name] for name in ranges.arms)
    buckets = Buckets(f"arm {trial.salt or trial.name}")
    return lambda unit: choices[ranges.place(buckets.of(unit))]
