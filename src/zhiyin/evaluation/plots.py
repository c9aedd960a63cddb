"""Plots as markup: they take the colours of the page, by day and by night, and need no plotting library."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from zhiyin.evaluation.intervals import Interval
from zhiyin.evaluation.markup import Html, breakable, fill, fill_each

BAR = """
<div class="bar-label">$label<small>$note</small></div>
<div class="bar-track" title="$told"><span class="bar $kind" style="width:$width"></span>$whisker</div>
<div class="bar-value">$value</div>"""

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 420, 210, 48, 14, 14, 34


@dataclass(frozen=True)
class Bar:
    """One bar: its name, a small note, where it ends, and a CSS class that colours it."""

    label: str
    note: str
    interval: Interval
    kind: str = ""


def figure(value: float) -> str:
    """Write a metric as a reader wants it: 0.1121, 9.43, 1,250; a dash for NaN."""
    if math.isnan(value):
        return "–"
    if abs(value) < 1:
        return f"{value:.4f}"
    return f"{value:.2f}" if abs(value) < 100 else f"{value:,.0f}"


def told(interval: Interval) -> str:
    """Write a value with its interval."""
    if math.isnan(interval.low) or math.isnan(interval.high):
        return figure(interval.value)
    return f"{figure(interval.value)} [{figure(interval.low)} – {figure(interval.high)}]"


def percent(value: float) -> str:
    """Write a share as a reader wants it: 43 %; a dash for NaN."""
    return "–" if math.isnan(value) else f"{value:.0%}".replace("%", " %")


def bar_chart(
    bars: Sequence[Bar], *, longest: float | None = None, write: Callable[[float], str] = figure
) -> Html:
    """Draw bars from zero, with whiskers from the low to the high end of the interval.

    Args:
        bars: Top first.
        longest: What a bar of the full width stands for; by default the longest of them.
        write: How the value behind a bar is written.
    """
    if longest is None:
        ends = [end for bar in bars for end in (bar.interval.value, bar.interval.high) if math.isfinite(end)]
        longest = max([*ends, 0.0]) or 1.0
    drawn = fill_each(
        BAR,
        [
            {
                "label": breakable(bar.label),
                "note": bar.note,
                "told": told(bar.interval),
                "kind": bar.kind,
                "width": _percent(bar.interval.value, longest),
                "whisker": _whisker(bar.interval, longest),
                "value": write(bar.interval.value),
            }
            for bar in bars
        ],
    )
    return fill('<div class="bars">$bars</div>', bars=drawn)


def line_chart(
    points: Sequence[tuple[float, float]], *, title: str, x_name: str, best: tuple[float, str] | None = None
) -> Html:
    """Draw one line as SVG.

    Args:
        points: (x, y); those whose y is not finite are left out.
        title: What y is; also read aloud.
        x_name: What x is.
        best: The x to mark with a ring, and what to call it.
    """
    points = [(x, y) for x, y in points if math.isfinite(y)]
    if not points:
        return Html("")
    scale = _Scale.around(points)
    path = " ".join(f"{'M' if n == 0 else 'L'}{scale.place(*point)}" for n, point in enumerate(points))
    dots = fill_each(
        '<circle class="dot" cx="$x" cy="$y" r="2.5"><title>$told</title></circle>',
        [
            {"x": f"{scale.x(x):.1f}", "y": f"{scale.y(y):.1f}", "told": f"{x_name} {x:g}: {figure(y)}"}
            for x, y in points
        ],
    )
    return fill(
        '<figure><figcaption>$title</figcaption><svg viewBox="0 0 $width $height" role="img" '
        'aria-label="$title">$grid<path class="line" d="$path"/>$dots$mark'
        '<text class="axis" x="$right" y="$bottom" text-anchor="end">$x_name</text></svg></figure>',
        title=title,
        width=WIDTH,
        height=HEIGHT,
        grid=scale.grid(),
        path=path,
        dots=dots,
        mark=_mark(scale, points, best),
        right=WIDTH - RIGHT,
        bottom=HEIGHT - 5,
        x_name=x_name,
    )


@dataclass(frozen=True)
class _Scale:
    """From values to places of the drawing."""

    x_ticks: Sequence[float]
    y_ticks: Sequence[float]
    x_range: tuple[float, float]

    @classmethod
    def around(cls, points: Sequence[tuple[float, float]]) -> _Scale:
        xs, ys = zip(*points, strict=True)
        first, last = min(xs), max(xs)
        x_ticks = [tick for tick in nice_ticks(first, last) if first <= tick <= last and tick == round(tick)]
        return cls(x_ticks, nice_ticks(min(ys), max(ys)), (first, last))

    def x(self, value: float) -> float:
        first, last = self.x_range
        share = (value - first) / (last - first) if last > first else 0.5
        return LEFT + 8 + share * (WIDTH - LEFT - RIGHT - 16)

    def y(self, value: float) -> float:
        low, high = self.y_ticks[0], self.y_ticks[-1]
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def place(self, x: float, y: float) -> str:
        return f"{self.x(x):.1f} {self.y(y):.1f}"

    def grid(self) -> Html:
        levels = grid_lines([(self.y(tick), tick) for tick in self.y_ticks], left=LEFT, right=WIDTH - RIGHT)
        steps = step_names([(self.x(tick), f"{tick:g}") for tick in self.x_ticks], below=HEIGHT - BOTTOM)
        return Html(levels + steps)


def grid_lines(levels: Iterable[tuple[float, float]], *, left: float, right: float) -> Html:
    """Draw a line from ``left`` to ``right`` for each pair of a height and the number there."""
    return fill_each(
        '<line class="grid" x1="$left" x2="$right" y1="$y" y2="$y"/>'
        '<text class="axis" x="$text" y="$below" text-anchor="end">$tick</text>',
        [
            {
                "left": left,
                "right": right,
                "text": left - 6,
                "y": f"{y:.1f}",
                "below": f"{y + 4:.1f}",
                "tick": f"{tick:g}",
            }
            for y, tick in levels
        ],
    )


def step_names(steps: Iterable[tuple[float, str]], *, below: float) -> Html:
    """Write names under the axis at ``below``, for each pair of a place in the drawing and a name."""
    return fill_each(
        '<text class="axis" x="$x" y="$y" text-anchor="middle">$name</text>',
        [{"x": f"{x:.1f}", "y": below + 16, "name": name} for x, name in steps],
    )


def nice_ticks(low: float, high: float, n: int = 4) -> list[float]:
    """Round numbers around ``low`` to ``high``, about ``n`` steps of 1, 2, 2.5 or 5 times a power of ten.

    Values closer together than a ten-thousandth of their size count as equal, as labels would be.
    """
    size = max(abs(low), abs(high))
    spread = high - low
    if spread <= 1e-4 * size or size < 1e-9:
        spread = size if size >= 1e-9 else 1.0
    power = 10.0 ** math.floor(math.log10(spread / n))
    step = next(times * power for times in (1, 2, 2.5, 5, 10) if times * power * n >= spread * 0.999)
    first = math.floor(low / step + 1e-9)
    last = max(math.ceil(high / step - 1e-9), first + 1)
    return [float(f"{tick * step:.10g}") for tick in range(first, last + 1)]


def _mark(scale: _Scale, points: Sequence[tuple[float, float]], best: tuple[float, str] | None) -> Html:
    marked = [(x, y) for x, y in points if best is not None and x == best[0]]
    if best is None or not marked:
        return Html("")
    x, y = scale.x(marked[0][0]), scale.y(marked[0][1])
    anchor = "end" if x > WIDTH * 0.7 else "start"
    return fill(
        '<circle class="ring" cx="$x" cy="$y" r="6"/>'
        '<text class="mark" x="$text" y="$above" text-anchor="$anchor">$name $value</text>',
        x=f"{x:.1f}",
        y=f"{y:.1f}",
        text=f"{x + (-10 if anchor == 'end' else 10):.1f}",
        above=f"{y + 18 if y < TOP + 24 else y - 10:.1f}",
        anchor=anchor,
        name=best[1],
        value=figure(marked[0][1]),
    )


def _percent(value: float, longest: float) -> str:
    return f"{100 * max(value, 0.0) / longest:.2f}%" if math.isfinite(value) else "0%"


def _whisker(interval: Interval, longest: float) -> Html:
    if not (math.isfinite(interval.low) and interval.high > interval.low):
        return Html("")
    return fill(
        '<span class="whisker" style="left:$left;width:$width"></span>',
        left=_percent(interval.low, longest),
        width=_percent(interval.high - max(interval.low, 0.0), longest),
    )
