"""The report of an experiment as one page that loads nothing from anywhere."""

from __future__ import annotations

from pathlib import Path

from zhiyin.evaluation.frame import section, table, template
from zhiyin.evaluation.live.band_chart import STYLE, band_chart
from zhiyin.evaluation.live.figures import p_value, percent, period, signed, with_p
from zhiyin.evaluation.live.report_text import arm_cells, change_of, notes
from zhiyin.evaluation.live.verdict import Comparison, RailState, TrialReport
from zhiyin.evaluation.markup import Html, breakable, fill, fill_each
from zhiyin.evaluation.plots import figure


def write_page(report: TrialReport, path: str | Path) -> Path:
    """Write the page; its folder must be there. Returns the path."""
    written = Path(path)
    written.write_text(render_page(report), encoding="utf-8")
    return written


def render_page(report: TrialReport) -> str:
    """Return the report as HTML: the decision, the interval narrowing over time, guard-rails, all metrics."""
    verdict = fill(
        '<section><p class="verdict $kind">$sentence</p></section>',
        kind=report.decision.name.lower(),
        sentence=report.sentence,
    )
    sections = (verdict, _over_time(report), _metrics(report), _guard_rails(report), _arms(report))
    return fill(
        template("report.html"),
        lang="en",
        style=Html(template("report.css") + STYLE),
        title=report.name,
        report="experiment",
        facts=f"{report.kind} · {period(report.start, report.until)} · {report.decision.value}",
        tiles=_tiles(report),
        sections=Html("".join(sections)),
    )


def _tiles(report: TrialReport) -> Html:
    tiles = [
        (f"{one.metric}, {one.arm}", signed(change_of(one).value), _range(one), with_p(one.p_value))
        for one in report.comparisons
    ]
    n_users = sum(arm.n_users for arm in report.arms)
    n_slates = sum(arm.n_slates for arm in report.arms)
    tiles.append(("users", f"{n_users:,}", f"{n_slates:,} slates", ""))
    return fill_each(
        '<div class="tile"><div class="tile-name">$name</div><div class="tile-value">$value</div>'
        '<div class="tile-note">$range</div><div class="tile-note">$note</div></div>',
        [dict(zip(("name", "value", "range", "note"), tile, strict=True)) for tile in tiles],
    )


def _over_time(report: TrialReport) -> Html:
    charts = [
        fill('<div class="card">$chart</div>', chart=chart)
        for one in report.comparisons
        if (chart := band_chart(one.looks, title=f"{one.metric}: {one.arm} against {report.control}"))
    ]
    if not charts:
        return Html("")
    return section(
        "The difference over time",
        "The band holds the true difference at all moments at once; it is decided when it leaves the line.",
        fill('<div class="grid">$charts</div>', charts=Html("".join(charts))),
    )


def _metrics(report: TrialReport) -> Html:
    rows = [
        (
            breakable(one.metric),
            one.arm,
            figure(one.arm_value),
            figure(one.control_value),
            signed(change_of(one).value),
            _range(one),
            p_value(one.p_value),
        )
        for one in (*report.comparisons, *report.others)
    ]
    heads = ("metric", "arm", "value", "control", "change", "interval", "p")
    return section("Metrics", notes(report)[0], table(heads, rows))


def _guard_rails(report: TrialReport) -> Html:
    if not report.guard_rails:
        return Html("")
    rows = [
        (
            breakable(rail.metric),
            rail.arm,
            figure(rail.arm_value),
            figure(rail.control_value),
            percent(rail.worst_change),
            signed(max(rail.worst_likely, 0.0)),
            fill('<span class="$state">$state</span>', state=rail.state.value)
            if rail.state is RailState.BROKEN
            else rail.state.value,
        )
        for rail in report.guard_rails
    ]
    heads = ("guard-rail", "arm", "value", "control", "accepted", "may be worse by", "state")
    note = (
        "Held: worse by more than is accepted is ruled out. Broken: it is certain. Open: nobody can say yet. "
        "Unknown: nobody counted."
    )
    return section("Guard-rails", note, table(heads, rows))


def _arms(report: TrialReport) -> Html:
    rows = [arm_cells(arm) for arm in report.arms]
    heads = ("arm", "share", "users", "slates", "items shown")
    return section("Arms", " ".join(notes(report)[1:]), table(heads, rows))


def _range(one: Comparison) -> str:
    change = change_of(one)
    return f"{signed(change.low)} to {signed(change.high)}"
