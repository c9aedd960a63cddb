"""The decision, in one sentence with its numbers."""

from __future__ import annotations

import math

from zhiyin.evaluation.live.figures import percent, signed, with_p
from zhiyin.evaluation.live.measures import MEASURES
from zhiyin.evaluation.live.planning import MISMATCH
from zhiyin.evaluation.live.question import MeasuringSettings
from zhiyin.evaluation.live.verdict import Comparison, Decision, RailState, TrialReport
from zhiyin.evaluation.plots import figure


def decide(report: TrialReport, rules: MeasuringSettings) -> tuple[Decision, str]:
    """Weigh a report whose figures are in: the shares first, then guard-rails, then the success metric.

    Returns:
        What to do, and why in one sentence.
    """
    if report.share_p_value < MISMATCH:
        return Decision.REFUSED, _mismatch(report)
    broken = [rail for rail in report.guard_rails if rail.state is RailState.BROKEN]
    if broken:
        rail = broken[0]
        return Decision.STOP, (
            f"Stop '{rail.arm}': {rail.metric} is {figure(rail.arm_value)} against "
            f"{figure(rail.control_value)} of the control, worse by more than the "
            f"{percent(rail.worst_change)} that were accepted."
        )
    better = [one for one in report.comparisons if _direction(one, rules) > 0]
    if better:
        return _of_winner(max(better, key=_gain), report)
    if all(_direction(one, rules) < 0 or _is_futile(one, rules) for one in report.comparisons):
        return Decision.KEEP, _no_winner(report, rules)
    return Decision.GO_ON, _undecided(report, rules)


def _direction(one: Comparison, rules: MeasuringSettings) -> int:
    """1 where the arm is better for certain, -1 where it is worse, 0 where nobody can say."""
    if one.p_value >= rules.alpha:
        return 0
    gain = _gain(one)
    # The look that was certain must say the same as the newest.
    then = min(one.looks, key=lambda look: look.p_value).difference.value * _sign(one)
    return 0 if gain * then <= 0 else (1 if gain > 0 else -1)


def _sign(one: Comparison) -> float:
    return -1.0 if one.metric in MEASURES and not MEASURES[one.metric].higher_is_better else 1.0


def _gain(one: Comparison) -> float:
    return _sign(one) * one.difference.value


def _is_futile(one: Comparison, rules: MeasuringSettings) -> bool:
    """Whether the arm cannot be better by what is worth while."""
    most = one.difference.high if _sign(one) > 0 else -one.difference.low
    scale = abs(one.control_value) if one.control_value else 1.0
    return most < rules.worth_while * scale


def _of_winner(one: Comparison, report: TrialReport) -> tuple[Decision, str]:
    open_rails = [rail for rail in report.guard_rails if rail.arm == one.arm and rail.state is RailState.OPEN]
    if open_rails:
        names = ", ".join(dict.fromkeys(rail.metric for rail in open_rails))
        return Decision.GO_ON, f"Go on: {_told(one)}, but it is not yet certain that {names} did not suffer."
    return Decision.SHIP, f"Ship '{one.arm}': {_told(one)}{_rails(report)}."


def _rails(report: TrialReport) -> str:
    unknown = dict.fromkeys(r.metric for r in report.guard_rails if r.state is RailState.UNKNOWN)
    is_known = any(rail.state is not RailState.UNKNOWN for rail in report.guard_rails)
    held = ", and every guard-rail held" if is_known else ""
    return f"{held}; {', '.join(unknown)} was not counted" if unknown else held


def _no_winner(report: TrialReport, rules: MeasuringSettings) -> str:
    worse = [one for one in report.comparisons if _direction(one, rules) < 0]
    if worse:
        return f"Keep '{report.control}': {'; '.join(_told(one) for one in worse)}."
    return (
        f"Keep '{report.control}': no arm can be better on {report.metric} by {percent(rules.worth_while)}, "
        f"which is what would be worth while; {'; '.join(_told(one) for one in report.comparisons)}."
    )


def _undecided(report: TrialReport, rules: MeasuringSettings) -> str:
    if any(arm.n_users < rules.least_users for arm in report.arms):
        fewest = min(report.arms, key=lambda arm: arm.n_users)
        return (
            f"Go on: '{fewest.arm}' has {fewest.n_users:,} users, and nothing is concluded "
            f"below {rules.least_users:,}."
        )
    told = "; ".join(_told(one) for one in report.comparisons)
    advice = report.advice
    if advice is None or not math.isfinite(advice.days) or not advice.days:
        return f"Go on: {told}."
    return (
        f"Go on: {told}. A change of {percent(advice.change)} takes about {advice.users_per_arm:,} "
        f"users an arm, {advice.days:.0f} more days as they come now."
    )


def _told(one: Comparison) -> str:
    if one.metric not in MEASURES:
        wins = "'" + one.arm + "'" if one.difference.value > 0 else "the control"
        return (
            f"{percent(0.5 + abs(one.difference.value) / 2)} of the clicks went to items of {wins} "
            f"(preference {figure(one.difference.value)}, between {figure(one.difference.low)} and "
            f"{figure(one.difference.high)}; {with_p(one.p_value)})"
        )
    change = one.change
    return (
        f"{one.metric} of '{one.arm}' is {figure(one.arm_value)} against {figure(one.control_value)} "
        f"({signed(change.value)}, between {signed(change.low)} and {signed(change.high)}; "
        f"{with_p(one.p_value)})"
    )


def _mismatch(report: TrialReport) -> str:
    total = sum(arm.n_users for arm in report.arms)
    found = ", ".join(
        f"'{arm.arm}' has {arm.n_users:,} users where {total * arm.share:,.0f} were expected"
        for arm in report.arms
    )
    return (
        f"No conclusion: {found} ({with_p(report.share_p_value)}). Something loses or moves "
        "users of an arm; find it before any figure is believed."
    )
