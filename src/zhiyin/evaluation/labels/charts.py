"""Plots of predicted labels as SVG: they take the colours of the page, by day and by night."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from zhiyin.evaluation.calibration import Bin
from zhiyin.evaluation.intervals import Interval
from zhiyin.evaluation.labels.pictures import Curve, ValuePicture
from zhiyin.evaluation.labels.words import between
from zhiyin.evaluation.markup import Html, fill, fill_each
from zhiyin.evaluation.plots import figure, grid_lines, nice_ticks, step_names

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 350, 280, 44, 14, 12, 42
ROWS_WIDTH, ROW_HEIGHT, NAMES, VALUES = 420, 36, 98, 60
"""Of a chart of intervals: its width, height of a row, room for names on the left and values on the right."""
_DARKEST = 0.85
_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)

STYLE = """
.guess { stroke: var(--muted); stroke-width: 1.2; stroke-dasharray: 5 4; }
.cell { fill: var(--bar); }
.stem { stroke: var(--ink); stroke-width: 1.6; opacity: .6; }
svg text.name { fill: var(--ink); font-size: 13px; }
"""
"""Rules beyond those of the template of the reports."""


@dataclass(frozen=True)
class _Axes:
    """From values to places of the drawing."""

    x_ticks: Sequence[float]
    y_ticks: Sequence[float]
    x_name: str
    y_name: str

    def x(self, value: float) -> float:
        return LEFT + _share(value, self.x_ticks) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - _share(value, self.y_ticks) * (HEIGHT - TOP - BOTTOM)

    def line(self, kind: str, start: tuple[float, float], end: tuple[float, float]) -> Html:
        (x1, y1), (x2, y2) = start, end
        return fill(
            '<line class="$kind" x1="$x1" y1="$y1" x2="$x2" y2="$y2"/>',
            kind=kind,
            x1=f"{self.x(x1):.1f}",
            y1=f"{self.y(y1):.1f}",
            x2=f"{self.x(x2):.1f}",
            y2=f"{self.y(y2):.1f}",
        )

    def drawn(self, *parts: Html) -> Html:
        """Put parts on a grid, with what the axes are."""
        levels = grid_lines([(self.y(tick), tick) for tick in self.y_ticks], left=LEFT, right=WIDTH - RIGHT)
        steps = step_names([(self.x(tick), f"{tick:g}") for tick in self.x_ticks], below=HEIGHT - BOTTOM)
        return fill(
            '<figure><figcaption>$y_name</figcaption><svg viewBox="0 0 $width $height" role="img" '
            'aria-label="$y_name">$levels$steps$parts'
            '<text class="axis" x="$right" y="$bottom" text-anchor="end">$x_name</text></svg></figure>',
            y_name=self.y_name,
            width=WIDTH,
            height=HEIGHT,
            levels=levels,
            steps=steps,
            parts=Html("".join(parts)),
            right=WIDTH - RIGHT,
            bottom=HEIGHT - 7,
            x_name=self.x_name,
        )


def roc_chart(curve: Curve) -> Html:
    """Draw the ROC curve with the diagonal of guessing; nothing where there is none."""
    if not curve:
        return Html("")
    axes = _Axes(_SHARES, _SHARES, "share of no called yes", "share of yes called yes")
    return axes.drawn(axes.line("guess", (0, 0), (1, 1)), _path(axes, curve))


def precision_chart(curve: Curve, share_of_yes: float) -> Html:
    """Draw precision over recall with the level of guessing; nothing where there is none."""
    if not curve:
        return Html("")
    axes = _Axes(_SHARES, _SHARES, "recall of yes", "precision of yes")
    return axes.drawn(axes.line("guess", (0, share_of_yes), (1, share_of_yes)), _path(axes, curve))


def calibration_chart(bins: Sequence[Bin]) -> Html:
    """Draw told chances against what happened, with intervals and the diagonal of honest chances."""
    ends = [value for part in bins for value in (part.chance, part.share, part.high)]
    highest = max(value for value in ends if math.isfinite(value))
    ticks = nice_ticks(0.0, min(highest, 1.0))
    axes = _Axes(ticks, ticks, "chance that was told", "share that happened")
    points = [
        (
            part.chance,
            part.share,
            part.low,
            part.high,
            f"told {figure(part.chance)}, happened {figure(part.share)} ({part.n:,} rows)",
        )
        for part in bins
    ]
    return axes.drawn(axes.line("honest", (0, 0), (ticks[-1], ticks[-1])), _dots(axes, points))


def values_chart(picture: ValuePicture) -> Html:
    """Draw how many rows lie where, by prediction and label, and the mean label of each step."""
    x_ticks = nice_ticks(picture.predicted_edges[0], picture.predicted_edges[-1])
    y_ticks = nice_ticks(picture.true_edges[0], picture.true_edges[-1])
    axes = _Axes(x_ticks, y_ticks, "predicted", "true")
    low, high = max(x_ticks[0], y_ticks[0]), min(x_ticks[-1], y_ticks[-1])
    diagonal = axes.line("honest", (low, low), (high, high)) if high > low else Html("")
    points = [
        (
            step.predicted,
            step.true,
            math.nan,
            math.nan,
            f"predicted {figure(step.predicted)}, true on average {figure(step.true)} ({step.n:,} rows; "
            f"80 % of them {figure(step.low)} to {figure(step.high)})",
        )
        for step in picture.steps
    ]
    return axes.drawn(_cells(axes, picture), diagonal, _dots(axes, points))


def interval_chart(rows: Sequence[tuple[str, str, Interval]], whole: float, title: str) -> Html:
    """Draw values with their intervals below each other, beside a dashed line at the value of all rows.

    Args:
        rows: (name, note, value) each; those without a value are named and left empty.
        whole: Value of all rows.
        title: What is drawn; also read aloud.

    Returns:
        Nothing where all rows have no value.
    """
    if math.isnan(whole):
        return Html("")
    ends = [end for _, _, one in rows for end in (one.value, one.low, one.high) if math.isfinite(end)] + [
        whole
    ]
    ticks = nice_ticks(min(ends), max(ends))
    height = ROW_HEIGHT * len(rows) + 30

    def x(value: float) -> float:
        return NAMES + _share(value, ticks) * (ROWS_WIDTH - NAMES - VALUES)

    drawn = Html("".join(_row(n, row, x) for n, row in enumerate(rows)))
    marks = fill_each(
        '<line class="grid" x1="$x" x2="$x" y1="4" y2="$bottom"/>'
        '<text class="axis" x="$x" y="$below" text-anchor="middle">$tick</text>',
        [
            {"x": f"{x(tick):.1f}", "bottom": height - 24, "below": height - 8, "tick": f"{tick:g}"}
            for tick in ticks
        ],
    )
    return fill(
        '<figure><svg viewBox="0 0 $width $height" role="img" aria-label="$title">$marks'
        '<line class="guess" x1="$x" x2="$x" y1="4" y2="$bottom"/>$rows</svg></figure>',
        width=ROWS_WIDTH,
        height=height,
        title=title,
        marks=marks,
        x=f"{x(whole):.1f}",
        bottom=height - 24,
        rows=drawn,
    )


def _row(number: int, row: tuple[str, str, Interval], x: Callable[[float], float]) -> Html:
    name, note, one = row
    y = number * ROW_HEIGHT + ROW_HEIGHT / 2 + 4
    stem = (
        fill(
            '<line class="stem" x1="$low" x2="$high" y1="$y" y2="$y"/>',
            low=f"{x(one.low):.1f}",
            high=f"{x(one.high):.1f}",
            y=f"{y:.1f}",
        )
        if math.isfinite(one.low)
        else Html("")
    )
    dot = (
        fill(
            '<circle class="dot" cx="$x" cy="$y" r="4.5"><title>$told</title></circle>',
            x=f"{x(one.value):.1f}",
            y=f"{y:.1f}",
            told=f"{figure(one.value)} ({between(one)})" if between(one) else figure(one.value),
        )
        if math.isfinite(one.value)
        else Html("")
    )
    return fill(
        '<text class="name" x="0" y="$above">$name</text><text class="axis" x="0" y="$below">$note</text>'
        '$stem$dot<text class="name" x="$right" y="$middle" text-anchor="end">$value</text>',
        above=f"{y - 2:.1f}",
        below=f"{y + 12:.1f}",
        middle=f"{y + 4:.1f}",
        right=ROWS_WIDTH,
        name=name,
        note=note,
        stem=stem,
        dot=dot,
        value=figure(one.value),
    )


def _path(axes: _Axes, curve: Curve) -> Html:
    steps = " L".join(f"{axes.x(x):.1f} {axes.y(y):.1f}" for x, y in curve)
    return fill('<path class="line" d="M$steps"/>', steps=steps)


def _dots(axes: _Axes, points: Sequence[tuple[float, float, float, float, str]]) -> Html:
    """Draw (x, y, low, high, what is told) each; no stem where the ends are not known."""
    stems = "".join(
        axes.line("bin", (x, low), (x, high)) for x, _, low, high, _ in points if math.isfinite(low)
    )
    dots = fill_each(
        '<circle class="dot" cx="$x" cy="$y" r="4"><title>$told</title></circle>',
        [{"x": f"{axes.x(x):.1f}", "y": f"{axes.y(y):.1f}", "told": told} for x, y, _, _, told in points],
    )
    return Html(stems + dots)


def _cells(axes: _Axes, picture: ValuePicture) -> Html:
    """Draw the share of rows in each cell, the fullest darkest; by square roots, so that thin ones show."""
    fullest = max(max(row) for row in picture.cells)
    drawn: list[dict[str, object]] = []
    for (low, high), row in zip(pairwise(picture.true_edges), picture.cells, strict=True):
        for (left, right), part in zip(pairwise(picture.predicted_edges), row, strict=True):
            if part:
                drawn.append(
                    {
                        "x": f"{axes.x(left):.1f}",
                        "y": f"{axes.y(high):.1f}",
                        "width": f"{axes.x(right) - axes.x(left):.1f}",
                        "height": f"{axes.y(low) - axes.y(high):.1f}",
                        "dark": f"{_DARKEST * math.sqrt(part / fullest):.3f}",
                    }
                )
    return fill_each(
        '<rect class="cell" x="$x" y="$y" width="$width" height="$height" opacity="$dark"/>', drawn
    )


def _share(value: float, ticks: Sequence[float]) -> float:
    """0 at the first tick, 1 at the last; values beyond lie on the edge."""
    return min(max((value - ticks[0]) / (ticks[-1] - ticks[0]), 0.0), 1.0)
