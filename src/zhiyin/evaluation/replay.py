"""Quality over time as a picture: several lines, one point a period, as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from zhiyin.evaluation.markup import Html, fill, fill_each
from zhiyin.evaluation.plots import figure, nice_ticks

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 320, 56, 190, 34, 36
COLOURS = ("#7a7a7a", "#c0782a", "#3a7d5d", "#1f5f8b", "#8b3a62", "#555500")
DASHES = ("", "6 3", "2 3", "", "8 2 2 2", "4 4")

PAGE = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 $width $height" font-family="sans-serif" '
    'font-size="12" role="img" aria-label="$title"><rect width="$width" height="$height" fill="#fff"/>'
    '<text x="$left" y="20" font-size="14" font-weight="bold">$title</text>$grid$lines'
    '<text x="$right" y="$bottom" text-anchor="end">$x_name</text></svg>'
)


@dataclass(frozen=True)
class Curve:
    """One line: its name and its value in each period; NaN where there is none."""

    name: str
    values: Sequence[float]


def curves_svg(
    title: str,
    curves: Sequence[Curve],
    *,
    x_name: str = "period",
    x_labels: Sequence[str] | None = None,
) -> str:
    """Draw curves into one picture, named at their right end.

    Args:
        title: What y is.
        curves: At least one, with at least one finite value.
        x_name: What is counted along x.
        x_labels: What stands under each place; 1, 2, 3, … when None.
    """
    finite = [value for curve in curves for value in curve.values if math.isfinite(value)]
    ticks = nice_ticks(min(finite), max(finite))
    n_periods = max(len(curve.values) for curve in curves)

    def x(period: int) -> float:
        return LEFT + period / max(n_periods - 1, 1) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (value - ticks[0]) / (ticks[-1] - ticks[0]) * (HEIGHT - TOP - BOTTOM)

    levels = fill_each(
        '<line x1="$left" x2="$right" y1="$y" y2="$y" stroke="#ddd"/>'
        '<text x="$text" y="$below" text-anchor="end">$tick</text>',
        [
            {
                "left": LEFT,
                "right": WIDTH - RIGHT,
                "text": LEFT - 6,
                "y": f"{y(tick):.1f}",
                "below": f"{y(tick) + 4:.1f}",
                "tick": f"{tick:g}",
            }
            for tick in ticks
        ],
    )
    periods = fill_each(
        '<text x="$x" y="$y" text-anchor="middle">$period</text>',
        [
            {
                "x": f"{x(n):.1f}",
                "y": HEIGHT - BOTTOM + 18,
                "period": n + 1 if x_labels is None else x_labels[n],
            }
            for n in range(n_periods)
        ],
    )
    ends = _apart([y(_last(curve)) for curve in curves])
    lines = fill_each(
        '<path d="$path" fill="none" stroke="$colour" stroke-width="2" stroke-dasharray="$dash"/>'
        '<text x="$end" y="$name_y" fill="$colour">$name $value</text>',
        [
            {
                "path": " ".join(
                    f"{'M' if first else 'L'}{x(n):.1f} {y(value):.1f}" for first, n, value in _points(curve)
                ),
                "colour": COLOURS[place % len(COLOURS)],
                "dash": DASHES[place % len(DASHES)] or "none",
                "end": WIDTH - RIGHT + 8,
                "name_y": f"{ends[place] + 4:.1f}",
                "name": curve.name,
                "value": figure(_last(curve)),
            }
            for place, curve in enumerate(curves)
        ],
    )
    return fill(
        PAGE,
        width=WIDTH,
        height=HEIGHT,
        title=title,
        left=LEFT,
        right=WIDTH - RIGHT,
        bottom=HEIGHT - 4,
        grid=Html(levels + periods),
        lines=lines,
        x_name=x_name,
    )


def _points(curve: Curve) -> list[tuple[bool, int, float]]:
    known = [(n, value) for n, value in enumerate(curve.values) if math.isfinite(value)]
    return [(place == 0, n, value) for place, (n, value) in enumerate(known)]


def _last(curve: Curve) -> float:
    return [value for value in curve.values if math.isfinite(value)][-1]


def _apart(places: Sequence[float], least: float = 14.0) -> list[float]:
    """Move places apart, downwards, so that no two names overlap."""
    order = sorted(range(len(places)), key=lambda place: places[place])
    moved = list(places)
    for above, below in pairwise(order):
        moved[below] = max(moved[below], moved[above] + least)
    return moved
