"""What somebody writes down to start an experiment, and how it is kept in the store."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from zhiyin.contracts import Config, Probability
from zhiyin.domain.errors import ConfigError, UnknownExperiment
from zhiyin.evaluation.live.question import GuardRail, MeasuringSettings, Question, SuccessMetric
from zhiyin.online.asked import LARGEST_BOOST, MOST_BOOSTS
from zhiyin.stores.records import StoredDocument

KIND = "experiment"
"""Kind of the documents that hold experiments."""

_MOST_ARMS = 5
_A_MOMENT = "it is UTC seconds, or a date such as 2026-12-31T23:59:59Z"
_DIGITS_OF_A_DATE = 8
_A_BOOST = (
    'A boost is {"filter": {"price": {"below": 20}}, "by": 0.5}; '
    f"by is a number from -{LARGEST_BOOST} to {LARGEST_BOOST}."
)


def _is_plain(name: str) -> str:
    if not name or any(sign in name for sign in ",/\\") or not name.isprintable() or name != name.strip():
        raise ValueError("a name has at least one sign, and no comma, slash or control sign")
    return name


def _in_seconds(moment: object) -> object:
    """Read a date, of TOML or as text, as UTC seconds; one without a zone is meant in UTC."""
    if isinstance(moment, bool):
        raise ValueError(_A_MOMENT)
    if isinstance(moment, str) and not (moment.isdecimal() and len(moment) > _DIGITS_OF_A_DATE):
        try:
            moment = datetime.fromisoformat(moment)
        except ValueError:
            raise ValueError(_A_MOMENT) from None
    if isinstance(moment, date) and not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day)
    if isinstance(moment, datetime):
        return int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp())
    return moment


Name = Annotated[str, Field(max_length=80), AfterValidator(_is_plain)]
Moment = Annotated[int, Field(ge=0), BeforeValidator(_in_seconds)]


class ArmBoost(Config):
    """Items that the slates of an arm show earlier, or later; the same that a request may ask for."""

    filter: dict[str, Any]
    """Which items: an attribute and its value, or conditions on it; any, all and not join filters."""
    by: float = Field(ge=-LARGEST_BOOST, le=LARGEST_BOOST, allow_inf_nan=False)
    """Added to their score; negative moves them down."""


class Arm(Config):
    """One way to answer; an arm with neither bundle nor settings answers as the service does anyway."""

    share: float = Field(gt=0.0, le=1.0)
    """Share of the users of the experiment; the shares of all arms add up to 1."""
    bundle: str | None = None
    """Version of the bundle that answers; without it the active one."""
    diversity: Probability | None = None
    """Diversity of its slates where a request does not ask for one."""
    boost: tuple[ArmBoost, ...] = Field(default=(), max_length=MOST_BOOSTS)
    """Boosts that are added to those of a request: {"filter": …, "by": …}."""

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that differ from an ordinary answer."""
        return self.model_dump(include={"diversity", "boost"}, exclude_defaults=True)


class Trial(Config):
    """An experiment with living users: its arms, what is to rise and what must not suffer."""

    name: Name
    """Distinct among experiments; slates carry it."""
    kind: Literal["ab", "interleaving"] = "ab"
    """ab shows every user one arm; interleaving mixes the slates of two."""
    arms: dict[Name, Arm]
    """Arm → how it answers; 2 to 5, exactly 2 for interleaving."""
    control: str
    """The arm that the others are compared with."""
    share_of_users: float = Field(default=1.0, gt=0.0, le=1.0)
    """Share of all users that takes part."""
    metric: SuccessMetric = "ctr"
    """What is to rise (or fall, where lower is better)."""
    guard_rails: tuple[GuardRail, ...] = ()
    """Metrics that must not become worse by more than a given share."""
    start: Moment | None = None
    """UTC seconds, or a date in UTC, from which users are assigned; without it at once."""
    stop: Moment | None = None
    """UTC seconds, or a date in UTC, from which nobody is; without it when somebody stops it."""
    salt: str = ""
    """Text that decides which user is in which arm; without it the name of the experiment."""
    measuring: MeasuringSettings = MeasuringSettings()
    """How slates and events are joined, and when a conclusion may be drawn."""

    @model_validator(mode="after")
    def _fits_together(self) -> Trial:
        if not 2 <= len(self.arms) <= _MOST_ARMS:
            raise ValueError(f"there are {len(self.arms)} arms; an experiment has 2 to {_MOST_ARMS}")
        if self.kind == "interleaving" and len(self.arms) != 2:
            raise ValueError(f"there are {len(self.arms)} arms; an interleaving has exactly 2")
        if self.kind == "interleaving" and self.guard_rails:
            raise ValueError("an interleaving shows everybody both arms, so it cannot watch guard_rails")
        if self.control not in self.arms:
            raise ValueError(f"control is '{self.control}', which is no arm; arms are {', '.join(self.arms)}")
        total = sum(arm.share for arm in self.arms.values())
        if abs(total - 1.0) > 1e-6:
            raise ValueError(f"the shares of the arms add up to {total:g}, not to 1")
        if self.start is not None and self.stop is not None and self.stop <= self.start:
            raise ValueError(f"it stops at {self.stop}, before it starts at {self.start}")
        watched = [rail.metric for rail in self.guard_rails]
        if len(set(watched)) < len(watched):
            raise ValueError(f"a metric is in guard_rails twice: {', '.join(watched)}")
        return self


@dataclass(frozen=True)
class StartedTrial:
    """An experiment as the store keeps it.

    Attributes:
        trial: What was asked for, with its start filled in.
        buckets: Ranges (from, to) of the 10,000 buckets of users that it holds; ``to`` is not included.
        stopped: UTC seconds when somebody stopped it; None while it runs.
        notes_slow_answers: Whether its slates say which came in the place of one that was too slow; those of
            experiments from before there was a note do not.
    """

    trial: Trial
    buckets: tuple[tuple[int, int], ...]
    stopped: int | None = None
    notes_slow_answers: bool = True

    @property
    def name(self) -> str:
        """Of the experiment."""
        return self.trial.name

    @property
    def start(self) -> int:
        """UTC seconds."""
        return self.trial.start or 0

    @property
    def stop(self) -> int | None:
        """UTC seconds when it stopped, or is to stop; None while nobody said so."""
        ends = [end for end in (self.stopped, self.trial.stop) if end is not None]
        return min(ends) if ends else None

    def has_begun(self, now: float | None = None) -> bool:
        """Whether users may have been assigned."""
        return self.start <= (time.time() if now is None else now)

    def is_over(self, now: float | None = None) -> bool:
        """Whether nobody is assigned any more, or ever: it may have been stopped before its start."""
        stop = self.stop
        return stop is not None and stop <= max(self.start, time.time() if now is None else now)

    def body(self) -> dict[str, Any]:
        """Return what the document holds, as JSON can."""
        return {
            "trial": self.trial.model_dump(mode="json"),
            "buckets": [list(ends) for ends in self.buckets],
            "stopped": self.stopped,
            "notes_slow_answers": self.notes_slow_answers,
        }

    def question(self) -> Question:
        """What its report is to answer."""
        trial = self.trial
        return Question(
            name=trial.name,
            shares={name: arm.share for name, arm in trial.arms.items()},
            control=trial.control,
            metric=trial.metric,
            start=self.start,
            stop=self.stop,
            guard_rails=trial.guard_rails,
            is_interleaving=trial.kind == "interleaving",
            measuring=trial.measuring,
            knows_slow_answers=self.notes_slow_answers,
        )


def parse_trial(settings: Mapping[str, Any]) -> Trial:
    """Read a definition, from JSON, TOML or a request.

    Raises:
        ConfigError: when something in it is unknown, missing or does not fit.
    """
    try:
        trial: Trial = Trial.parse(dict(settings), where=KIND)
    except ConfigError as error:
        possible = error.possible
        place = error.problem.partition("' ")[0]
        if place.startswith(f"Setting '{KIND}.arms.") and ".boost" in place:
            possible = _A_BOOST
        elif place.startswith(f"Setting '{KIND}.arms.") and possible:
            possible = f"An arm has the settings: {', '.join(Arm.model_fields)}."
        remedy = "docs/guide/recipes-and-settings.md lists every setting with its default and meaning."
        raise ConfigError(error.problem, possible=possible, remedy=remedy) from None
    return trial


def read_started(document: StoredDocument) -> StartedTrial | None:
    """Read a stored experiment; None where the document was removed.

    Raises:
        ConfigError: when a newer version wrote it.
    """
    if document.kind != KIND or document.body is None:
        return None
    body = document.body
    try:
        buckets = tuple((int(begin), int(end)) for begin, end in body["buckets"])
        stopped = body.get("stopped")
        trial = parse_trial(_with_readable_boosts(body["trial"]))
        notes = bool(body.get("notes_slow_answers", False))
        return StartedTrial(trial, buckets, None if stopped is None else int(stopped), notes)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ConfigError(
            f"The stored experiment '{document.name}' cannot be read.",
            remedy="Another version of Zhiyin wrote it: use that version, or stop the experiment with it.",
        ) from None


def _with_readable_boosts(trial: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out boosts that nobody could apply, so that an old experiment with one hides no other."""
    arms = {
        name: {**arm, "boost": [boost for boost in arm.get("boost", ()) if _is_boost(boost)]}
        for name, arm in trial["arms"].items()
    }
    return {**trial, "arms": arms}


def _is_boost(boost: Any) -> bool:
    try:
        ArmBoost.model_validate(boost)
    except ValidationError:
        return False
    return True


def bundles_of(started: Iterable[StartedTrial]) -> frozenset[str]:
    """Return the versions of bundles that the arms of some experiments answer with."""
    arms = (arm for one in started for arm in one.trial.arms.values())
    return frozenset(arm.bundle for arm in arms if arm.bundle is not None)


def unknown_trial(name: str, known: list[str]) -> UnknownExperiment:
    """The error for an experiment that is not there."""
    return UnknownExperiment(
        f"There is no experiment '{name}'.", possible=f"Experiments: {', '.join(known) or 'none'}."
    )
