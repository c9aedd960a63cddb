"""The picture of a calibration: what was said against what happened."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from zhiyin.evaluation.calibration import Bin, Calibration
from zhiyin.evaluation.markup import Html, fill, fill_each
from zhiyin.evaluation.plots import figure

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 420, 300, 56, 14, 14, 38
_LOWEST = -5
"""Power of ten; chances and shares below are drawn on the edge."""


def reliability(calibration: Calibration, words: Mapping[str, str]) -> Html:
    """Draw the first places and all places, and set the table of both beside."""
    drawn = [
        (words["first_place"], calibration.error_at_first, calibration.first),
        (f"{words['all_places']} 1–{calibration.at}", calibration.error, calibration.places),
    ]
    cards = Html("".join(_card(name, error, bins, words) for name, error, bins in drawn if bins))
    facts = [
        (words["hits"], figure(calibration.hits)),
        (words["expected_hits"], figure(calibration.expected_hits)),
        (words["log_loss"], figure(calibration.log_loss)),
        (words["log_loss_of_frequencies"], figure(calibration.log_loss_of_frequencies)),
    ]
    rows = fill_each("<dt>$name</dt><dd>$value</dd>", [{"name": n, "value": v} for n, v in facts])
    return fill(
        '<div class="grid">$cards</div><div class="card summary"><dl>$rows</dl></div>', cards=cards, rows=rows
    )


def reliability_chart(bins: Sequence[Bin], *, x_name: str, y_name: str) -> Html:
    """Draw bins on two scales of powers of ten, with intervals and the diagonal of honest chances."""
    values = [value for part in bins for value in (part.chance, part.share, part.high) if value > 0]
    scale = _Powers.around(values)
    points = fill_each(
        '<line class="bin" x1="$x" x2="$x" y1="$low" y2="$high"/>'
        '<circle class="dot" cx="$x" cy="$y" r="3.5"><title>$told</title></circle>',
        [
            {
                "x": f"{scale.x(part.chance):.1f}",
                "y": f"{scale.y(part.share):.1f}",
                "low": f"{scale.y(part.low):.1f}",
                "high": f"{scale.y(part.high):.1f}",
                "told": f"{figure(part.chance)}: {figure(part.share)} (n {part.n:,})",
            }
            for part in bins
        ],
    )
    return fill(
        '<figure><figcaption>$y_name</figcaption><svg viewBox="0 0 $width $height" role="img" '
        'aria-label="$y_name">$grid<line class="honest" x1="$x1" y1="$y1" x2="$x2" y2="$y2"/>$points'
        '<text class="axis" x="$right" y="$bottom" text-anchor="end">$x_name</text></svg></figure>',
        width=WIDTH,
        height=HEIGHT,
        grid=scale.grid(),
        x1=f"{scale.x(10.0**scale.first):.1f}",
        y1=f"{scale.y(10.0**scale.first):.1f}",
        x2=f"{scale.x(10.0**scale.last):.1f}",
        y2=f"{scale.y(10.0**scale.last):.1f}",
        points=points,
        right=WIDTH - RIGHT,
        bottom=HEIGHT - 5,
        x_name=x_name,
        y_name=y_name,
    )


class _Powers:
    """The same powers of ten on both axes."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last

    @classmethod
    def around(cls, values: Sequence[float]) -> _Powers:
        last = min(math.ceil(math.log10(max(values, default=1.0)) - 1e-9), 0)
        first = max(math.floor(math.log10(min(values, default=0.1)) + 1e-9), _LOWEST)
        return cls(min(first, last - 1), last)

    def x(self, value: float) -> float:
        return LEFT + self._share(value) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - self._share(value) * (HEIGHT - TOP - BOTTOM)

    def grid(self) -> Html:
        ticks = [(10.0**power, f"{10.0**power:g}") for power in range(self.first, self.last + 1)]
        across = fill_each(
            '<line class="grid" x1="$left" x2="$right" y1="$y" y2="$y"/>'
            '<text class="axis" x="$text" y="$below" text-anchor="end">$tick</text>',
            [
                {
                    "left": LEFT,
                    "right": WIDTH - RIGHT,
                    "text": LEFT - 6,
                    "y": f"{self.y(value):.1f}",
                    "below": f"{self.y(value) + 4:.1f}",
                    "tick": tick,
                }
                for value, tick in ticks
            ],
        )
        down = fill_each(
            '<text class="axis" x="$x" y="$y" text-anchor="middle">$tick</text>',
            [
                {"x": f"{self.x(value):.1f}", "y": HEIGHT - BOTTOM + 16, "tick": tick}
                for value, tick in ticks[1:]
            ],
        )
        return Html(across + down)

    def _share(self, value: float) -> float:
        power = math.log10(max(value, 10.0**self.first))
        return (min(power, self.last) - self.first) / (self.last - self.first)


def _card(name: str, error: float, bins: Sequence[Bin], words: Mapping[str, str]) -> Html:
    rows = fill_each(
        "<tr><td>$n</td><td>$chance</td><td>$share<small>$range</small></td></tr>",
        [
            {
                "n": f"{part.n:,}",
                "chance": figure(part.chance),
                "share": figure(part.share),
                "range": f"{figure(part.low)} – {figure(part.high)}",
            }
            for part in bins
        ],
    )
    return fill(
        '<div class="card"><h3>$name</h3><p class="note">$error_name $error</p>$chart'
        "<details><summary>$table</summary><table><thead><tr><th>n</th><th>$told</th><th>$happened</th></tr>"
        "</thead><tbody>$rows</tbody></table></details></div>",
        name=name,
        error_name=words["calibration_error"],
        error=figure(error),
        chart=reliability_chart(bins, x_name=words["told"], y_name=words["happened"]),
        table=words["bins"],
        told=words["told"],
        happened=words["happened"],
        rows=rows,
    )
