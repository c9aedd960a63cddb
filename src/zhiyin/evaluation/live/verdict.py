"""What a live experiment has shown, as values: the report's content."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from typing import Any

from zhiyin.evaluation.intervals import Interval
from zhiyin.evaluation.live.planning import Advice


class Decision(StrEnum):
    """What to do now."""

    SHIP = "ship"
    KEEP = "keep control"
    STOP = "stop"
    GO_ON = "go on"
    REFUSED = "no conclusion"


class RailState(StrEnum):
    """What is known about a guard-rail."""

    HELD = "held"
    OPEN = "open"
    BROKEN = "broken"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Look:
    """What was known at one moment.

    Attributes:
        time: UTC seconds.
        n_users: Users of the two arms.
        difference: Arm minus control, with its always-valid interval; infinite ends where too little is
            known.
        p_value: The least always-valid p-value so far.
    """

    time: int
    n_users: int
    difference: Interval
    p_value: float


@dataclass(frozen=True)
class Comparison:
    """One arm against the control on one metric.

    Attributes:
        metric: Its name.
        arm: The arm.
        control_value: Of the control; 0 for an interleaving.
        arm_value: Of the arm, before history is taken into account.
        difference: Arm minus control with its always-valid interval.
        p_value: Always valid, corrected for the number of arms.
        looks: How it came about, oldest first.
    """

    metric: str
    arm: str
    control_value: float
    arm_value: float
    difference: Interval
    p_value: float
    looks: tuple[Look, ...]

    @property
    def change(self) -> Interval:
        """The difference as a share of the control's value, which is taken as known."""
        if not self.control_value:
            return Interval(math.nan, math.nan, math.nan)
        found = self.difference
        return Interval(*(end / self.control_value for end in (found.value, found.low, found.high)))


@dataclass(frozen=True)
class RailResult:
    """One guard-rail of one arm.

    Attributes:
        metric: Its name.
        arm: The arm.
        control_value: Of the control.
        arm_value: Of the arm.
        worst_change: Worst change that is accepted, as a share of the control's value.
        worst_likely: How bad the change may still be, one-sided and always valid, as a share; above 0 is
            worse.
        state: Held, open or broken; unknown where nobody counted, and the values are not numbers.
    """

    metric: str
    arm: str
    control_value: float
    arm_value: float
    worst_change: float
    worst_likely: float
    state: RailState


@dataclass(frozen=True)
class ArmFigures:
    """What one arm has gathered.

    Attributes:
        arm: Its name.
        share: Of the traffic of the experiment, as promised.
        n_users: Users.
        n_slates: Slates.
        n_items_shown: Different items in equally many slates of each arm.
    """

    arm: str
    share: float
    n_users: int
    n_slates: int
    n_items_shown: int


@dataclass(frozen=True)
class TrialReport:
    """Everything an experiment has shown so far.

    Attributes:
        name: Of the experiment.
        kind: ``ab`` or ``interleaving``.
        metric: The success metric.
        control: The control arm.
        start: UTC seconds.
        until: UTC seconds up to which slates and events are in.
        decision: What to do.
        sentence: The decision in words, with its numbers.
        arms: The control first; one line for both arms of an interleaving.
        comparisons: Of the success metric, one an arm.
        guard_rails: One a guard-rail and arm.
        others: Other metrics, to look at, their newest look alone; not corrected for being many.
        share_p_value: How likely shares this far from the promised ones are by chance.
        n_moved: Users who saw more than one arm.
        advice: How long it takes to find what is worth while; None where that cannot be said.
    """

    name: str
    kind: str
    metric: str
    control: str
    start: int
    until: int
    decision: Decision
    sentence: str
    arms: tuple[ArmFigures, ...]
    comparisons: tuple[Comparison, ...]
    guard_rails: tuple[RailResult, ...]
    others: tuple[Comparison, ...]
    share_p_value: float
    n_moved: int
    advice: Advice | None

    def to_json(self) -> dict[str, Any]:
        """Return plain values, as JSON can hold them: what is not finite becomes None."""
        plain: dict[str, Any] = _plain(self)
        return plain


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        named = {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
        return {**named, "change": _plain(value.change)} if isinstance(value, Comparison) else named
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, StrEnum) else value
