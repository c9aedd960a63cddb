"""The report of an experiment for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from zhiyin.evaluation.intervals import Interval
from zhiyin.evaluation.live.figures import p_value, percent, period, signed, with_p
from zhiyin.evaluation.live.planning import MISMATCH
from zhiyin.evaluation.live.verdict import ArmFigures, Comparison, RailResult, RailState, TrialReport
from zhiyin.evaluation.plots import figure


def render_text(report: TrialReport) -> str:
    """Return the report as lines of text: the decision, the arms, the metrics, the guard-rails."""
    parts = [
        f"Experiment {report.name} · {report.kind} · {period(report.start, report.until)}",
        report.sentence,
        _table(
            ("arm", "share", "users", "slates", "items shown"),
            [arm_cells(arm) for arm in report.arms],
        ),
        _table(
            ("metric", "arm", "value", "control", "change", "interval", "p"),
            [_of_comparison(one) for one in (*report.comparisons, *report.others)],
        ),
    ]
    if report.guard_rails:
        parts.append(
            _table(
                ("guard-rail", "arm", "value", "control", "accepted", "may be worse by", "state"),
                [_of_rail(rail) for rail in report.guard_rails],
            )
        )
    return "\n\n".join([*parts, "\n".join(notes(report))]) + "\n"


def notes(report: TrialReport) -> list[str]:
    """Return what a reader must know about the figures, in sentences."""
    told = [
        "Intervals and p-values hold at all moments at once: look as often as you like. Those of metrics "
        f"other than {report.metric} are not corrected for being many."
    ]
    if report.kind == "ab":
        verdict = "as they should be" if report.share_p_value >= MISMATCH else "not as they should be"
        told.append(f"The shares of the arms are {verdict} ({with_p(report.share_p_value)}).")
    if report.n_moved:
        told.append(f"{report.n_moved:,} users saw more than one arm; they count in the first.")
    if any(rail.state is RailState.UNKNOWN for rail in report.guard_rails):
        told.append(
            "Slow answers are not known: the experiment was started by a version of Zhiyin that did not note "
            "them. No decision waits for them."
        )
    if report.advice is not None:
        told.append(
            f"To find a change of {percent(report.advice.change)} each arm needs about "
            f"{report.advice.users_per_arm:,} users."
        )
    return told


def change_of(one: Comparison) -> Interval:
    """Return the change as a share of the control's value, or the difference where there is no such value."""
    return one.change if one.control_value else one.difference


def arm_cells(arm: ArmFigures) -> tuple[str, ...]:
    """Write what an arm has gathered: name, share, users, slates, items shown."""
    return (
        arm.arm,
        percent(arm.share),
        f"{arm.n_users:,}",
        f"{arm.n_slates:,}",
        f"{arm.n_items_shown:,}",
    )


def _of_comparison(one: Comparison) -> tuple[str, ...]:
    change = change_of(one)
    interval = f"{signed(change.low)} to {signed(change.high)}" if math.isfinite(change.low) else "–"
    value, control = figure(one.arm_value), figure(one.control_value)
    return (one.metric, one.arm, value, control, signed(change.value), interval, p_value(one.p_value))


def _of_rail(rail: RailResult) -> tuple[str, ...]:
    value, control = figure(rail.arm_value), figure(rail.control_value)
    accepted, likely = percent(rail.worst_change), signed(max(rail.worst_likely, 0.0))
    return (rail.metric, rail.arm, value, control, accepted, likely, rail.state.value)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[place]) for row in (heads, *rows)) for place in range(len(heads))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (heads, *rows)
    ]
    return "\n".join(lines)
