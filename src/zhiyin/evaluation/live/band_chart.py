"""How an interval narrowed, as SVG: the estimate as a line, its interval as a band, zero as a border."""

from __future__ import annotations

import math
from collections.abc import Sequence

from zhiyin.evaluation.live.figures import day
from zhiyin.evaluation.live.verdict import Look
from zhiyin.evaluation.markup import Html, fill, fill_each
from zhiyin.evaluation.plots import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, nice_ticks

STYLE = """
figure { max-width: 34rem; }
.band { fill: var(--accent-soft); }
.zero { stroke: var(--mark); stroke-dasharray: 4 3; }
.verdict {
  border-left: 4px solid var(--accent); padding: .6rem 1rem; font-size: 1.125rem; background: var(--card);
}
.verdict.stop, .verdict.refused { border-color: var(--mark); }
.broken { color: var(--mark); font-weight: 650; }
"""
"""Rules beyond those of the template of the reports."""

_LATER = 0.8
"""Share of the looks, the newest, that choose the scale; the first intervals may be as wide as they like."""


def band_chart(looks: Sequence[Look], *, title: str) -> Html:
    """Draw what was known at each look.

    Args:
        looks: Oldest first; those at which nothing was known are left out.
        title: What is drawn; also read aloud.

    Returns:
        Nothing where nothing was ever known.
    """
    known = [look for look in looks if math.isfinite(look.difference.low)]
    if not known:
        return Html("")
    later = known[-max(1, int(_LATER * len(known))) :]
    ticks = nice_ticks(
        min(0.0, *(look.difference.low for look in later)),
        max(0.0, *(look.difference.high for look in later)),
    )
    first, last = known[0].time, max(known[-1].time, known[0].time + 1)

    def x(time: int) -> float:
        return LEFT + 8 + (time - first) / (last - first) * (WIDTH - LEFT - RIGHT - 16)

    def y(value: float) -> float:
        inside = min(max(value, ticks[0]), ticks[-1])
        return HEIGHT - BOTTOM - (inside - ticks[0]) / (ticks[-1] - ticks[0]) * (HEIGHT - TOP - BOTTOM)

    def path(places: Sequence[tuple[int, float]]) -> str:
        return " L".join(f"{x(time):.1f} {y(value):.1f}" for time, value in places)

    upper = [(look.time, look.difference.high) for look in known]
    lower = [(look.time, look.difference.low) for look in reversed(known)]
    middle = [(look.time, look.difference.value) for look in known]
    return fill(
        '<figure><figcaption>$title</figcaption><svg viewBox="0 0 $width $height" role="img" '
        'aria-label="$title"><path class="band" d="M$band Z"/>$grid'
        '<line class="zero" x1="$left" x2="$right" y1="$zero" y2="$zero"/>'
        '<path class="line" d="M$line"/>$dates</svg></figure>',
        title=title,
        width=WIDTH,
        height=HEIGHT,
        band=path([*upper, *lower]),
        grid=_grid(ticks, [y(tick) for tick in ticks]),
        left=LEFT,
        right=WIDTH - RIGHT,
        zero=f"{y(0.0):.1f}",
        line=path(middle),
        dates=_dates(first, last),
    )


def _grid(ticks: Sequence[float], heights: Sequence[float]) -> Html:
    return fill_each(
        '<line class="grid" x1="$left" x2="$right" y1="$y" y2="$y"/>'
        '<text class="axis" x="$text" y="$below" text-anchor="end">$tick</text>',
        [
            {
                "left": LEFT,
                "right": WIDTH - RIGHT,
                "text": LEFT - 6,
                "y": f"{height:.1f}",
                "below": f"{height + 4:.1f}",
                "tick": f"{tick:g}",
            }
            for tick, height in zip(ticks, heights, strict=True)
        ],
    )


def _dates(first: int, last: int) -> Html:
    ends = ((first, LEFT + 8, "start"), (last, WIDTH - RIGHT - 8, "end"))
    return fill_each(
        '<text class="axis" x="$x" y="$y" text-anchor="$anchor">$date</text>',
        [
            {
                "x": x,
                "y": HEIGHT - BOTTOM + 16,
                "anchor": anchor,
                "date": day(at),
            }
            for at, x, anchor in ends
        ],
    )
