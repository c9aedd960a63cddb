"""What an experiment is to find out, and by which rules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import AfterValidator, Field, PositiveInt

from zhiyin.contracts import Config
from zhiyin.domain.errors import ConfigError
from zhiyin.evaluation.live.measures import MEASURES, SLOW_ANSWERS, measure


def _is_watched(name: str) -> str:
    if name not in (*MEASURES, SLOW_ANSWERS.name):
        raise ValueError(f"there is no such metric; there are {', '.join((*MEASURES, SLOW_ANSWERS.name))}")
    return name


def _is_measured(name: str) -> str:
    try:
        return measure(name).name
    except ConfigError as error:
        raise ValueError(str(error).replace("\n", " ").rstrip(".")) from None


SuccessMetric = Annotated[str, AfterValidator(_is_measured)]
WatchedMetric = Annotated[str, AfterValidator(_is_watched)]


class GuardRail(Config):
    """A metric that must not become much worse while another one is raised."""

    metric: WatchedMetric
    """Its name: a metric of the reports, or slow_answers."""
    worst_change: float = Field(gt=0.0, le=1.0)
    """Worst change that is accepted, as a share of the control's value: 0.02 is two per cent."""


class MeasuringSettings(Config):
    """How slates and events are joined, and when a conclusion may be drawn."""

    click_kinds: tuple[str, ...] = ("view", "click")
    """Event kinds that count as a click on a shown item."""
    purchase_kinds: tuple[str, ...] = ("purchase",)
    """Event kinds that count as buying a shown item; the value of the event is the revenue."""
    click_minutes: float = Field(default=30.0, gt=0.0, le=10_080.0)
    """How long after a slate a click on one of its items still belongs to it."""
    purchase_hours: float = Field(default=24.0, gt=0.0, le=720.0)
    """How long after a slate a purchase of one of its items still belongs to it."""
    alpha: float = Field(default=0.05, gt=0.0, lt=0.5)
    """Chance of ever calling a difference where there is none, however often somebody looks."""
    least_users: PositiveInt = 200
    """Users an arm must have before anything is concluded."""
    planned_users: PositiveInt = 10_000
    """Users at which the intervals are made tightest; any guess keeps them valid."""
    worth_while: float = Field(default=0.02, gt=0.0, le=1.0)
    """Smallest change of the success metric that matters, as a share of the control's value."""
    use_history: bool = True
    """Whether what users did before the experiment is used to make the intervals narrower."""
    history_days: PositiveInt = 28
    """How many days before the experiment count as that."""


@dataclass(frozen=True)
class Question:
    """What a report is to answer.

    Attributes:
        name: Of the experiment.
        shares: Arm → share of the traffic, adding up to 1, in the order of the definition.
        control: The arm that others are compared with.
        metric: The success metric; not looked at where ``is_interleaving``.
        guard_rails: What must not suffer.
        start: UTC seconds of the first slate that counts.
        stop: UTC seconds after which nothing counts; None while it runs.
        is_interleaving: Whether slates were mixed from two arms.
        measuring: How to join and when to conclude.
        knows_slow_answers: Whether the log of slates says which answers were slow.
    """

    name: str
    shares: Mapping[str, float]
    control: str
    metric: str
    start: int
    stop: int | None = None
    guard_rails: tuple[GuardRail, ...] = ()
    is_interleaving: bool = False
    measuring: MeasuringSettings = field(default_factory=MeasuringSettings)
    knows_slow_answers: bool = True
