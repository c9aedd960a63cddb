"""What a curve over the number of labels tells, as plain values, and the page that shows it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from zhiyin.evaluation.frame import card, fact_list, folded, grid, page, section, table, tile_row
from zhiyin.evaluation.intervals import Interval
from zhiyin.evaluation.labels.words import between, duration, figure_name, figure_note
from zhiyin.evaluation.markup import Html, fill, fill_each
from zhiyin.evaluation.plots import figure, grid_lines, nice_ticks, step_names

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 420, 230, 48, 14, 14, 40
STYLE = """
.line.k1, .stem.k1 { stroke: var(--mark); stroke-dasharray: 5 4; }
.line.k2, .stem.k2 { stroke: var(--source); }
.dot.k1, svg text.k1 { fill: var(--mark); }
.dot.k2, svg text.k2 { fill: var(--source); }
svg text.k0 { fill: var(--bar); }
.stem { stroke: var(--bar); stroke-width: 1.4; opacity: .55; }
"""
_ORDER = ("roc_auc", "gauc", "log_loss", "rmse", "mae", "correlation", "ndcg_at_10", "mrr", "hit_rate_at_10")
_DRAWN, _SHOWN = 2, 3
"""Figures of a task that are drawn, and that stand in the table."""


@dataclass(frozen=True)
class FewShotPoint:
    """One method after so many labels.

    Attributes:
        method: How it foretells.
        n_labels: Rows with labels that it learned from; 0 for none.
        seconds: That it took, wall-clock.
        figures: Task → name such as ``roc_auc`` → value and 95 % interval on the test rows. Where nothing was
            learned only those that judge the order.
        n_epochs: Passes over the rows; 0 where nothing was trained.
    """

    method: str
    n_labels: int
    seconds: float
    figures: Mapping[str, Mapping[str, Interval]]
    n_epochs: int = 0

    def record(self) -> dict[str, Any]:
        """Everything as JSON can hold it, None where something is not a number."""
        figures = {
            task: {
                name: {end: value if math.isfinite(value) else None for end, value in asdict(one).items()}
                for name, one in some.items()
            }
            for task, some in self.figures.items()
        }
        return {
            "method": self.method,
            "n_labels": self.n_labels,
            "n_epochs": self.n_epochs,
            "seconds": round(self.seconds, 1),
            "figures": figures,
        }

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> FewShotPoint:
        """Read back what `record` wrote.

        Raises:
            KeyError: when something is missing.
        """
        figures = {
            task: {
                name: Interval(
                    *(math.nan if one[end] is None else one[end] for end in ("value", "low", "high"))
                )
                for name, one in some.items()
            }
            for task, some in record["figures"].items()
        }
        return cls(record["method"], record["n_labels"], record["seconds"], figures, record["n_epochs"])


@dataclass(frozen=True)
class FewShotReport:
    """Everything that the page tells.

    Attributes:
        name: Of the run.
        base: Name of the model.
        dataset: Name of the dataset.
        points: By number of labels.
        data: Fact such as ``test rows`` → its value.
        settings: Name → value.
        command: Command line that does the same again.
        created: Date and time as a reader wants to see it.
    """

    name: str
    base: str
    dataset: str
    points: tuple[FewShotPoint, ...]
    data: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    created: str = ""

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks."""
        return tuple(dict.fromkeys(task for point in self.points for task in point.figures))

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods."""
        return tuple(dict.fromkeys(point.method for point in self.points))

    def shown(self, task: str) -> list[str]:
        """Names of the figures of a task that a reader looks for first."""
        known = dict.fromkeys(name for point in self.points for name in point.figures.get(task, {}))
        first = [name for name in _ORDER if name in known]
        return (first or list(known))[:_SHOWN]

    def rows(self, task: str) -> list[tuple[str, ...]]:
        """Return a table of a task: labels, method, passes, seconds, then the figures that are shown."""
        return [
            (
                f"{point.n_labels:,}",
                point.method,
                str(point.n_epochs or "–"),
                duration(point.seconds),
                *(_with_interval(point.figures[task].get(name)) for name in self.shown(task)),
            )
            for point in self.points
            if task in point.figures
        ]


HEADS = ("labels", "method", "passes", "time")


def few_shot_page(report: FewShotReport) -> str:
    """Return the page: curves and a table for each task, then what is behind them."""
    return page(
        report.name,
        report="few labels",
        facts=(report.base, report.dataset, report.created),
        tiles=_tiles(report),
        sections=(*(_task(report, task) for task in report.tasks), _behind(report)),
        style=STYLE,
    )


def _tiles(report: FewShotReport) -> Html:
    task = report.tasks[0]
    name = report.shown(task)[0]
    ends = [report.points[0], report.points[-1]] if len(report.points) > 1 else [report.points[0]]
    return tile_row(
        [
            (
                f"{figure_name(name)}, {point.n_labels:,} labels",
                figure(point.figures[task][name].value) if name in point.figures[task] else "–",
                point.method,
            )
            for point in ends
        ]
    )


def _task(report: FewShotReport, task: str) -> Html:
    names = report.shown(task)
    charts = [
        card(figure_name(name), figure_note(name), _chart(report, task, name)) for name in names[:_DRAWN]
    ]
    heads = (*HEADS, *(figure_name(name) for name in names))
    note = (
        "Every point is judged on the same test rows, and the rows of a smaller number are among those of a "
        "larger one. Intervals: users drawn anew with all their rows, the middle 95 %; how much depends on "
        "which rows were drawn to learn from is not in them."
    )
    told = fill('<div class="told">$table</div>', table=table(heads, report.rows(task)))
    return section(f"Task: {task}", note, Html(grid(charts) + told))


def _behind(report: FewShotReport) -> Html:
    parts = folded("Data", fact_list(report.data)) + folded("Settings", fact_list(report.settings))
    command = fill("<pre>$command</pre>", command=report.command) if report.command else Html("")
    return section("Behind it", "", Html(command + parts))


def _chart(report: FewShotReport, task: str, name: str) -> Html:
    """Draw one line a method over the numbers of labels, which stand equally far apart."""
    known = [
        (report.methods.index(point.method), point.n_labels, point.figures[task][name])
        for point in report.points
        if name in point.figures.get(task, {}) and math.isfinite(point.figures[task][name].value)
    ]
    if not known:
        return Html("")
    steps = sorted({n for _, n, _ in known})
    ends = [end for _, _, one in known for end in (one.value, one.low, one.high) if math.isfinite(end)]
    ticks = nice_ticks(min(ends), max(ends))

    def x(n: int) -> float:
        share = steps.index(n) / (len(steps) - 1) if len(steps) > 1 else 0.5
        return LEFT + 14 + share * (WIDTH - LEFT - RIGHT - 28)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (value - ticks[0]) / (ticks[-1] - ticks[0]) * (HEIGHT - TOP - BOTTOM)

    drawn = []
    for place in range(len(report.methods)):
        points = [(x(n), one) for method, n, one in known if method == place]
        drawn.append(_line(place, [(at, y(one.value), y(one.low), y(one.high), one) for at, one in points]))
    axes = grid_lines([(y(tick), tick) for tick in ticks], left=LEFT, right=WIDTH - RIGHT)
    below = step_names([(x(n), f"{n:,}") for n in steps], below=HEIGHT - BOTTOM)
    return fill(
        '<figure><svg viewBox="0 0 $width $height" role="img" aria-label="$title">$axes$below$lines$names'
        "</svg></figure>",
        width=WIDTH,
        height=HEIGHT,
        title=f"{figure_name(name)} by number of labels",
        axes=axes,
        below=below,
        lines=Html("".join(drawn)),
        names=_names(report.methods),
    )


def _line(place: int, points: Sequence[tuple[float, float, float, float, Interval]]) -> Html:
    if not points:
        return Html("")
    path = " L".join(f"{x:.1f} {y:.1f}" for x, y, *_ in points)
    # Beside each other, so that the whiskers of two methods do not hide one another.
    aside = 3.0 * (place - 1)
    stems = fill_each(
        '<line class="stem k$place" x1="$x" x2="$x" y1="$low" y2="$high"/>',
        [
            {"place": place, "x": f"{x + aside:.1f}", "low": f"{low:.1f}", "high": f"{high:.1f}"}
            for x, _, low, high, _ in points
            if math.isfinite(low)
        ],
    )
    dots = fill_each(
        '<circle class="dot k$place" cx="$x" cy="$y" r="3.5"><title>$told</title></circle>',
        [
            {
                "place": place,
                "x": f"{x:.1f}",
                "y": f"{y:.1f}",
                "told": f"{figure(one.value)} ({between(one)})",
            }
            for x, y, _, _, one in points
        ],
    )
    return Html(fill('<path class="line k$place" d="M$path"/>', place=place, path=path) + stems + dots)


def _names(methods: Sequence[str]) -> Html:
    return fill_each(
        '<text class="k$place" x="$x" y="$y">$name</text>',
        [
            {
                "place": place,
                "x": LEFT + place * (WIDTH - LEFT - RIGHT) // max(len(methods), 1),
                "y": HEIGHT - 6,
                "name": method,
            }
            for place, method in enumerate(methods)
        ],
    )


def _with_interval(one: Interval | None) -> str:
    if one is None or math.isnan(one.value):
        return "–"
    inside = between(one)
    return f"{figure(one.value)} ({inside})" if inside else figure(one.value)
