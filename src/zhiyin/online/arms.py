"""Which live bundle answers whom while experiments run, and two slates made into one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl

from zhiyin.evaluation.live.interleaving import team_draft
from zhiyin.evaluation.live.ledger import LATE
from zhiyin.online.asked import Asked, AskedSlate, Wanted
from zhiyin.online.live import Live
from zhiyin.online.slates import Shown
from zhiyin.online.trials.boosts import misfit
from zhiyin.online.trials.trials import Assigned, Trials
from zhiyin.stores.records import StoredDocument

_LOG = logging.getLogger(__name__)
INTERLEAVED = "interleaved"
"""Arm of an answer whose places come from two arms."""
_SESSION = "session"
"""Name in the context of a request that holds the requests of an anonymous visitor together."""


@dataclass(frozen=True, eq=False)
class Planned:
    """How one request is to be answered.

    Attributes:
        live: The bundle that answers.
        asked: The request, with what the arm changes.
        assigned: The arm; None where no experiment holds the user.
    """

    live: Live
    asked: Asked
    assigned: Assigned | None = None


class Arms:
    """The running experiments of a tenant, and the bundles their arms need.

    Args:
        documents: Experiments of the store.
        load: Loads a version, level with the log.
        drop: Lets a bundle go that no arm needs any more.
    """

    def __init__(
        self,
        documents: Iterable[StoredDocument],
        load: Callable[[str], Live],
        drop: Callable[[Live], None],
    ) -> None:
        self._trials = Trials()
        self._load = load
        self._drop = drop
        self._lives: dict[str, Live] = {}
        self._fitting: dict[tuple[str, str], tuple[tuple[Any, pl.Schema], bool]] = {}
        self._rng = np.random.default_rng()
        self.take(documents)

    def take(self, documents: Iterable[StoredDocument]) -> bool:
        """Take in what the log says of experiments; return whether `load_missing` should be called."""
        self._trials.take(documents)
        return self._trials.bundle_versions() != self._lives.keys()

    def load_missing(self) -> None:
        """Load the bundles of arms that came, and let go of those that are not needed any more."""
        wanted = self._trials.bundle_versions()
        for version in wanted - self._lives.keys():
            try:
                self._lives = {**self._lives, version: self._load(version)}
            except Exception:
                _LOG.exception(
                    "bundle %s of an experiment cannot be loaded; its arm answers as usual", version
                )
        for version in self._lives.keys() - wanted:
            live = self._lives[version]
            self._lives = {name: other for name, other in self._lives.items() if name != version}
            self._drop(live)

    def load_anew(self) -> None:
        """Put a fresh copy in the place of each bundle of an arm; one that cannot be loaded stays."""
        for version, before in list(self._lives.items()):
            try:
                self._lives = {**self._lives, version: self._load(version)}
            except Exception:
                _LOG.exception("bundle %s of an experiment cannot be loaded anew", version)
            else:
                self._drop(before)

    def plan(self, main: Live, asked: Asked) -> list[Planned]:
        """Return how a request is answered: once, or twice where two slates are to be mixed.

        A user whose arm needs a bundle that is not there yet, or boosts by an attribute that no item has any
        more, is answered as usual and is not counted.
        """
        if not isinstance(asked, AskedSlate):
            return [Planned(main, asked)]
        assigned = self._trials.arm_for(asked.user_id, _session_of(asked.wanted.context))
        if assigned is None:
            return [Planned(main, asked)]
        planned = [self._of_arm(main, asked, arm) for arm in (assigned, assigned.rival) if arm is not None]
        return [Planned(main, asked)] if None in planned else [one for one in planned if one is not None]

    def late(self, main: Live, asked: AskedSlate, stand_in: Shown) -> Shown:
        """Say of a slate that stands in for one that was too slow whose it would have been.

        It is stored as an answer of that arm and as no slate of it. An interleaving says nothing: it has no
        guard-rails, and a slate of two arms is slow by the fault of either.
        """
        assigned = self.plan(main, asked)[0].assigned
        if assigned is None or assigned.rival is not None:
            return stand_in
        arm = assigned.arm + LATE
        marked = replace(stand_in.impression, experiment=assigned.experiment, arm=arm)
        return Shown(stand_in.answer, marked)

    def mixed(self, first: Shown, second: Shown, arms: tuple[Assigned, Assigned], n: int) -> Shown:
        """Let two slates take turns; the impression says whose each place is."""
        items = {item.item_id: item for shown in (second, first) for item in shown.answer.items}
        number = {item_id: place for place, item_id in enumerate(items)}
        slates = [
            np.array([number[item.item_id] for item in shown.answer.items], dtype=np.int32)
            for shown in (first, second)
        ]
        both = team_draft(slates[0], slates[1], n, self._rng)
        by_number = list(items.values())
        chosen = tuple(
            by_number[place]._replace(rank=rank)
            for rank, place in enumerate(both.item_index.tolist(), start=1)
        )
        experiment = arms[0].experiment
        answer = replace(first.answer, items=chosen, experiment=(experiment, INTERLEAVED))
        impression = replace(
            first.impression,
            item_ids=tuple(item.item_id for item in chosen),
            propensities=(1.0,) * len(chosen),
            experiment=experiment,
            arm=both.arms(arms[0].arm, arms[1].arm),
        )
        return Shown(answer, impression)

    def _of_arm(self, main: Live, asked: AskedSlate, assigned: Assigned) -> Planned | None:
        live = main
        if assigned.bundle_version is not None and assigned.bundle_version != main.version:
            found = self._lives.get(assigned.bundle_version)
            if found is None:
                return None
            live = found
        if assigned.settings.get("boost") and not self._fits(live, assigned):
            return None
        wanted = _with_settings(asked.wanted, assigned.settings)
        return Planned(live, replace(asked, wanted=wanted), assigned)

    def _fits(self, live: Live, assigned: Assigned) -> bool:
        """Whether the items of a bundle have what an arm boosts by; the log says once where they have not."""
        asked_for = (assigned.settings["boost"], live.catalogue.current.table.schema)
        arm = (assigned.experiment, assigned.arm)
        looked_at = self._fitting.get(arm)
        if looked_at is None or looked_at[0] != asked_for:
            error = misfit(*asked_for)
            looked_at = self._fitting[arm] = (asked_for, error is None)
            if error is not None:
                problem = "arm %r of experiment %r cannot be applied, its users are answered as usual: %s"
                _LOG.warning(problem, assigned.arm, assigned.experiment, error.problem)
        return looked_at[1]


def labelled(shown: Shown, assigned: Assigned) -> Shown:
    """Write an arm into an answer and into what is stored about it."""
    return Shown(
        replace(shown.answer, experiment=(assigned.experiment, assigned.arm)),
        replace(shown.impression, experiment=assigned.experiment, arm=assigned.arm),
    )


def _with_settings(wanted: Wanted, settings: Mapping[str, Any]) -> Wanted:
    if not settings:
        return wanted
    boosts = [(boost["filter"], boost["by"]) for boost in settings.get("boost", ())]
    diversity = wanted.diversity or settings.get("diversity", 0.0)
    return replace(wanted, diversity=diversity, boost=(*wanted.boost, *boosts))


def _session_of(context: Mapping[str, Any]) -> str | None:
    session = context.get(_SESSION)
    return None if session is None else str(session)
