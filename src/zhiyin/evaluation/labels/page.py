"""One page that tells how a fine-tuning run went, by day and by night, on a laptop, a phone and paper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from zhiyin.evaluation.comparison import Difference
from zhiyin.evaluation.frame import card, fact_list, folded, grid, page, section, table, tile_row
from zhiyin.evaluation.intervals import Interval
from zhiyin.evaluation.labels import charts
from zhiyin.evaluation.labels.figures import WITHOUT_BETTER, LabelFigures, LabelKind
from zhiyin.evaluation.labels.pictures import ChancePicture, ValuePicture
from zhiyin.evaluation.labels.reading import read_report
from zhiyin.evaluation.labels.run_report import FinetuningReport, TaskReport, lower_is_better
from zhiyin.evaluation.labels.words import (
    between,
    count,
    duration,
    figure_name,
    figure_note,
    main_figure,
    memory,
    share,
)
from zhiyin.evaluation.markup import Html, fill, fill_each
from zhiyin.evaluation.plots import figure, line_chart

STYLE = (
    charts.STYLE
    + """
ul.reads { margin: 0; padding: 0; list-style: none; max-width: 52rem; }
ul.reads li { position: relative; padding: .35rem 0 .35rem 2rem; }
ul.reads li::before { position: absolute; left: 0; width: 1.3rem; text-align: center; font-weight: 700; }
ul.reads .good::before { content: "✓"; color: var(--accent); }
ul.reads .worry::before { content: "!"; color: var(--paper); background: var(--mark); border-radius: 99px;
  height: 1.3rem; line-height: 1.3rem; top: .5rem; }
ul.reads .plain::before { content: "·"; color: var(--muted); }
.told td:last-child, .told thead th:last-child {
  text-align: left; white-space: normal; min-width: 13rem; color: var(--muted); font-size: .8125rem; }
.better { color: var(--accent); font-weight: 650; }
.worse { color: var(--mark); font-weight: 650; }
figure { max-width: 34rem; }
.three figure { max-width: 25rem; }
.card > h3:empty, .card > .note:empty { display: none; }
@media (max-width: 40rem) { .told td:last-child, .told thead th:last-child { display: none; } }
.told + .grid, .scroll + details { margin-top: 1rem; }
.three .grid { grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr)); margin-top: 1rem; }
"""
)
FIRST = {
    LabelKind.CHANCE: ("roc_auc", "gauc", "log_loss"),
    LabelKind.VALUE: ("rmse", "mae", "r_squared"),
}
"""What is shown in large letters and against others; the first figures of a ranking."""
BY_HISTORY = {
    LabelKind.CHANCE: ("roc_auc", "log_loss"),
    LabelKind.VALUE: ("rmse", "mae"),
}


"""What is drawn by length of history; the first two figures of a ranking."""
MOST_TILES = 3


def write_finetuning_page(report: FinetuningReport, path: str | Path) -> Path:
    """Write the page as one HTML file that loads nothing from anywhere; its folder must be there."""
    written = Path(path)
    written.write_text(finetuning_page(report), encoding="utf-8")
    return written


def finetuning_page(report: FinetuningReport) -> str:
    """Return the page: what to know in plain words, learning curves, each task, costs and settings."""
    tasks = [part for task in report.tasks for part in _task(task)]
    return page(
        report.name,
        report="fine-tuning",
        facts=(report.base, report.shape, report.method, report.dataset, report.created),
        tiles=_tiles(report),
        sections=(_reads(report), _curves(report), *tasks, _behind(report)),
        style=STYLE,
    )


def _tiles(report: FinetuningReport) -> Html:
    tiles = [
        (shown, figure(one.value), between(one))
        for shown, one in (_of_one(report.tasks[0]) if len(report.tasks) == 1 else _of_each(report.tasks))
    ]
    costs = report.costs
    trained = f"{count(costs.n_trained)} of {count(costs.n_parameters)} parameters"
    return tile_row([*tiles, ("Trained", share(costs.share_trained), trained)])


def _of_one(task: TaskReport) -> list[tuple[str, Interval]]:
    figures = task.figures
    return [(figure_name(name), figures.figures[name]) for name in _first_names(figures)]


def _of_each(tasks: Sequence[TaskReport]) -> list[tuple[str, Interval]]:
    named = [(task.figures, main_figure(task.figures)) for task in tasks]
    return [
        (figure_name(f"{figures.task}/{name}"), figures.figures[name]) for figures, name in named[:MOST_TILES]
    ]


def _reads(report: FinetuningReport) -> Html:
    said = fill_each(
        '<li class="$tone">$text</li>',
        [{"tone": one.tone.value, "text": one.text} for one in read_report(report)],
    )
    return section(
        "In plain words",
        "✓ is as it should be, ! should be looked at. In brackets: 95 % intervals.",
        fill('<ul class="reads">$said</ul>', said=said),
    )


def _curves(report: FinetuningReport) -> Html:
    if len(report.epochs) < 2:
        return Html("")
    best = report.best_epoch
    kept = (float(best.epoch), "kept") if best is not None else None
    losses = [(float(epoch.epoch), epoch.train_loss) for epoch in report.epochs]
    drawn = [line_chart(losses, title="Training loss", x_name="epoch")]
    names = list(dict.fromkeys(name for epoch in report.epochs for name in epoch.validation))
    for name in names:
        points = [(float(epoch.epoch), epoch.validation.get(name, math.nan)) for epoch in report.epochs]
        mark = kept if name == report.chosen_by else None
        drawn.append(line_chart(points, title=f"Validation {figure_name(name)}", x_name="epoch", best=mark))
    note = "The loss may always fall; what counts is validation. The ring marks the weights that were kept."
    return section("How it learned", note, grid([card("", "", chart) for chart in drawn]))


def _task(task: TaskReport) -> tuple[Html, ...]:
    figures = task.figures
    rows = f"{figures.whole.n_rows:,} test {figures.counted} of {figures.whole.n_users:,} users"
    at = "" if figures.threshold is None else f" Threshold for yes: {figures.threshold:.3g}."
    return (
        section(
            f"Task: {figures.task}",
            f"{rows}. Intervals: users drawn anew with all their rows, the middle 95 %.{at}",
            Html(_figures(figures) + _pictures(task)),
        ),
        section(
            f"{figures.task}: by what is known of the user",
            "Events known of the user at that moment. The dashed line is the figure of all rows.",
            _by_history(figures),
        ),
        section(
            f"{figures.task}: against others",
            "This model minus the other, on the same rows with the same draws of users.",
            _against(task),
        ),
    )


def _figures(figures: LabelFigures) -> Html:
    rows = [
        (
            _with_reason(figure_name(name), figures.reasons.get(name, "")),
            figure(one.value),
            between(one) or "–",
            figure_note(name),
        )
        for name, one in figures.figures.items()
    ]
    # The last column is prose, not a number.
    heads = ("figure", "value", "95 % interval", "what it says")
    return fill('<div class="told">$table</div>', table=table(heads, rows))


def _pictures(task: TaskReport) -> Html:
    picture = task.picture
    if isinstance(picture, ChancePicture):
        cards = (
            card("ROC curve", "dashed: guessing", charts.roc_chart(picture.roc)),
            card(
                "Precision and recall",
                "dashed: guessing",
                charts.precision_chart(picture.precision_recall, picture.share_of_yes),
            ),
            card(
                "Calibration",
                "equally many rows in each dot; on the dashed line chances are honest",
                charts.calibration_chart(picture.bins),
            ),
        )
        return fill('<div class="three">$cards</div>', cards=grid(cards))
    if isinstance(picture, ValuePicture):
        note = (
            "darker: more rows; dots: mean label of rows predicted alike; on the dashed line they are right"
        )
        drawn = card("Predicted and true", note, charts.values_chart(picture))
        return fill('<div class="three">$cards</div>', cards=grid([drawn]))
    return Html("")


def _by_history(figures: LabelFigures) -> Html:
    if not figures.by_history:
        return Html("")
    names = BY_HISTORY.get(figures.kind, tuple(figures.figures)[:2])
    drawn = [
        card(
            figure_name(name),
            figure_note(name),
            charts.interval_chart(
                [
                    (_events(part.label), f"{count(part.n_rows)} {figures.counted}", part.figures[name])
                    for part in figures.by_history
                ],
                figures.figures[name].value,
                f"{figure_name(name)} by known events",
            ),
        )
        for name in names
    ]
    heads = ("figure", *(_events(part.label) for part in figures.by_history))
    rows = [
        (figure_name(name), *(_with_interval(part.figures[name]) for part in figures.by_history))
        for name in figures.figures
    ]
    counted = (f"{part.n_rows:,}, {part.n_users:,}" for part in figures.by_history)
    counts = (f"{figures.counted}, users", *counted)
    return Html(grid(drawn) + folded("All figures by known events", table(heads, [counts, *rows])))


def _against(task: TaskReport) -> Html:
    first = _first_names(task.figures)
    rest = [name for name in task.figures.figures if name not in (*first, *WITHOUT_BETTER)]
    shown, more = _differences(task, first), _differences(task, rest)
    return Html(shown + folded("All other figures", more)) if shown else Html("")


def _differences(task: TaskReport, names: Sequence[str]) -> Html:
    rows = [
        (
            figure_name(found.metric),
            other,
            figure(found.first),
            figure(found.second),
            _difference(found),
            f"{found.p_value:.4f}",
        )
        for name in names
        for other, differences in task.against.items()
        for found in differences
        if found.metric == name
    ]
    return table(("figure", "against", "this", "the other", "difference", "p"), rows) if rows else Html("")


def _behind(report: FinetuningReport) -> Html:
    costs = report.costs
    used = {
        "all parameters": f"{costs.n_parameters:,}",
        "trained parameters": f"{costs.n_trained:,} ({share(costs.share_trained)})",
        "time": duration(costs.seconds),
        "device": costs.device,
    }
    if costs.peak_memory_mb is not None:
        used["peak memory"] = memory(costs.peak_memory_mb)
    if costs.tokens_per_second is not None:
        used["tokens per second"] = f"{costs.tokens_per_second:,.0f}"
    command = fill("<h3>To do the same again</h3><pre>$command</pre>", command=report.command)
    body = Html(
        (command if report.command else "")
        + grid([card("Costs", "", fact_list(used)), card("Data", "", fact_list(report.data))])
        + folded(f"Settings ({len(report.settings)})", fact_list(report.settings))
        + folded(f"Versions ({len(report.versions)})", fact_list(report.versions))
    )
    return section("What is behind it", "", body)


def _difference(found: Difference) -> Html:
    better = (found.value < 0) == lower_is_better(found.metric)
    kind = ("better" if better else "worse") if found.is_certain else ""
    return fill(
        '<span class="$kind">$value</span><small>$low to $high</small>',
        kind=kind,
        value=f"{found.value:+.4f}",
        low=f"{found.low:+.4f}",
        high=f"{found.high:+.4f}",
    )


def _with_interval(one: Interval) -> Html:
    return fill("$value<small>$range</small>", value=figure(one.value), range=between(one))


def _with_reason(name: str, reason: str) -> Html:
    return (
        fill("$name<small>$reason</small>", name=name, reason=reason) if reason else fill("$name", name=name)
    )


def _events(label: str) -> str:
    return "1 event" if label == "1" else f"{label} events"


def _first_names(figures: LabelFigures) -> tuple[str, ...]:
    return FIRST.get(figures.kind, tuple(figures.figures)[:MOST_TILES])
