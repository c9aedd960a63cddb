"""One page that tells how good a recommender is: self-contained, on a laptop, a phone, by night, on paper."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from zhiyin.domain.errors import ConfigError
from zhiyin.evaluation.breakdown import Breakdown, SourceShare
from zhiyin.evaluation.frame import card, table, template
from zhiyin.evaluation.intervals import Interval
from zhiyin.evaluation.labels.figures import LabelFigures
from zhiyin.evaluation.labels.words import figure_name, shown_figures
from zhiyin.evaluation.markup import Html, breakable, fill, fill_each
from zhiyin.evaluation.plots import Bar, bar_chart, figure, line_chart, percent
from zhiyin.evaluation.reliability import reliability
from zhiyin.evaluation.report_data import (
    ExampleSlate,
    ReportData,
    ReportRow,
    Role,
    ShownItem,
    TrainingCurve,
)
from zhiyin.evaluation.report_words import WORDS, metric_name

UNKNOWN = Interval(math.nan, math.nan, math.nan)
BREAKDOWNS = ("history_length", "cold_items", "item_popularity")
LIST_METRICS = ("coverage", "novelty", "diversity", "gini", "popularity", "serendipity")
HISTORY_SHOWN = 6
TITLE_SHOWN = 110
"""Characters; some shops write whole descriptions into their titles."""

SECTION = '<section id="$id"><h2>$title</h2><p class="note">$note</p>$body</section>'
CARD = '<div class="card"><h3>$title</h3><p class="note">$note</p>$body</div>'


def write_report(data: ReportData, path: str | Path, *, lang: str = "en") -> Path:
    """Write the report as one HTML file that loads nothing from anywhere.

    Args:
        data: What to tell.
        path: Of the file; its folder must be there.
        lang: ``en`` or ``zh``.

    Raises:
        ConfigError: when there are no words for the language.
    """
    written = Path(path)
    written.write_text(render_report(data, lang=lang), encoding="utf-8")
    return written


def render_report(data: ReportData, *, lang: str = "en") -> str:
    """Return the report as HTML. Arguments and errors as for `write_report`."""
    if lang not in WORDS:
        raise ConfigError(
            f"There are no words for the language '{lang}'.", possible=f"Languages: {', '.join(WORDS)}."
        )
    page = _Page(data, lang)
    sections = (
        page.headline(),
        page.breakdowns(),
        page.slates(),
        page.sources(),
        page.calibration(),
        page.predictions(),
        page.curves(),
        page.examples(),
        page.behind(),
    )
    return fill(
        template("report.html"),
        lang=page.words["lang"],
        style=Html(template("report.css")),
        title=f"{data.recipe} {page.words['on']} {data.dataset}",
        report=page.words["report"],
        facts=" · ".join(page.facts()),
        tiles=page.tiles(),
        sections=Html("".join(sections)),
    )


class _Page:
    """The parts of one report in one language; a part without anything to tell is empty."""

    def __init__(self, data: ReportData, lang: str) -> None:
        self.data = data
        self.lang = lang
        self.words: Mapping[str, str] = WORDS[lang]
        cuts = [int(metric.rpartition("_at_")[2]) for row in data.rows for metric in row.metrics]
        self.cuts = sorted(set(cuts))

    def facts(self) -> list[str]:
        data = self.data
        queries = f"{data.n_queries:,} {self.words['queries']}" if data.n_queries else ""
        return [fact for fact in (data.protocol, queries, data.created) if fact]

    def tiles(self) -> Html:
        row = self._first(Role.PIPELINE) or (self.data.rows[0] if self.data.rows else None)
        if row is None:
            return Html("")
        names = [f"{name}_at_{self.cuts[-1]}" for name in ("recall", "ndcg", "mrr", "coverage")]
        return fill_each(
            '<div class="tile"><div class="tile-name">$name</div><div class="tile-value">$value</div>'
            '<div class="tile-note">$range</div><div class="tile-note">$note</div></div>',
            [
                {
                    "name": metric_name(name, self.lang),
                    "value": figure(row.metrics[name].value),
                    "range": _range(row.metrics[name]),
                    "note": self._against_floor(row, name),
                }
                for name in names
                if name in row.metrics
            ],
        )

    def headline(self) -> Html:
        if not self.data.rows:
            return Html("")
        names = [f"{name}_at_{k}" for k in self.cuts for name in ("recall", "ndcg")]
        names = [*names, f"mrr_at_{self.cuts[-1]}"] if self.cuts else names
        heads = fill_each("<th>$name</th>", [{"name": metric_name(name, self.lang)} for name in names])
        best = {name: max(_value(row, name) for row in self.data.rows) for name in names}
        rows = fill_each(
            '<tr class="$role"><th scope="row">$name<small>$told</small></th>$cells</tr>',
            [
                {
                    "role": row.role.value,
                    "name": breakable(row.name),
                    "told": self.words[row.role.value],
                    "cells": _cells(row, best),
                }
                for row in self.data.rows
            ],
        )
        table = fill(
            '<div class="scroll"><table><thead><tr><th>$first</th>$heads</tr></thead>'
            '<tbody>$rows</tbody></table></div><p class="note">$note</p>$plot',
            first=self.words["recommender"],
            heads=heads,
            rows=rows,
            note=self.words["interval_note"],
            plot=self._row_plot(f"ndcg_at_{self.cuts[-1]}", "") if self.cuts else "",
        )
        return self._section("headline", table, "repeat" if self.data.repeat else "headline")

    def breakdowns(self) -> Html:
        short_first = sorted(self.data.breakdowns, key=lambda breakdown: BREAKDOWNS.index(breakdown.by))
        cards = [self._breakdown(breakdown) for breakdown in short_first]
        return self._section("where", _columns(cards))

    def slates(self) -> Html:
        if not self.cuts:
            return Html("")
        names = [(name, f"{name}_at_{self.cuts[-1]}") for name in LIST_METRICS]
        cards = [
            self._row_plot(metric, self.words[f"{name}_note"])
            for name, metric in names
            if any(metric in row.metrics for row in self.data.rows)
        ]
        return self._section("slates", _grid(cards))

    def sources(self) -> Html:
        shares = self.data.sources
        if not shares:
            return Html("")
        cards = [
            self._shares("of_places", [(share, share.of_places) for share in shares]),
            self._shares("of_hits", [(share, share.of_hits) for share in shares]),
            self._shares("of_hits_alone", [(share, share.of_hits_alone) for share in shares]),
        ]
        return self._section("sources", _grid(cards))

    def calibration(self) -> Html:
        told = self.data.calibration
        return Html("") if told is None else self._section("chances", reliability(told, self.words))

    def predictions(self) -> Html:
        cards = [_predicted(figures) for figures in self.data.predictions]
        return self._section("predictions", Html("".join(cards)))

    def curves(self) -> Html:
        cards = [self._curve(curve) for curve in self.data.curves if curve.epochs]
        return self._section("curves", Html("".join(cards)))

    def examples(self) -> Html:
        cards = [self._example(example) for example in self.data.examples]
        return self._section("examples", _columns(cards))

    def behind(self) -> Html:
        command = fill(
            "<h3>$title</h3><pre>$command</pre>", title=self.words["command"], command=self.data.command
        )
        body = Html(
            (command if self.data.command else "")
            + _grid([self._list("data", self.data.data), self._list("costs", self.data.costs)])
            + self._folded("settings", self.data.settings)
            + self._folded("versions", self.data.versions)
        )
        return self._section("behind", body)

    def _first(self, role: Role) -> ReportRow | None:
        return next((row for row in self.data.rows if row.role is role), None)

    def _against_floor(self, row: ReportRow, metric: str) -> str:
        floor = self._first(Role.FLOOR)
        if floor is None or floor is row or metric.startswith("coverage"):
            return ""
        below = _value(floor, metric)
        return f"{_value(row, metric) / below:.1f} {self.words['times_floor']}" if below > 0 else ""

    def _row_plot(self, metric: str, note: str) -> Html:
        bars = [Bar(row.name, "", row.metrics.get(metric, UNKNOWN), row.role.value) for row in self.data.rows]
        return fill(CARD, title=metric_name(metric, self.lang), note=note, body=bar_chart(bars))

    def _breakdown(self, breakdown: Breakdown) -> Html:
        bars = [
            Bar(
                self.words.get(group.label, group.label),
                _compact(group.n_queries),
                Interval(group.value, group.low, group.high),
                Role.PIPELINE.value,
            )
            for group in breakdown.groups
            if group.n_queries or breakdown.by == "cold_items"
        ]
        note = f"{metric_name(breakdown.metric, self.lang)} · {self.words[f'{breakdown.by}_note']}"
        return fill(CARD, title=self.words[breakdown.by], note=note, body=bar_chart(bars))

    def _shares(self, what: str, shares: Sequence[tuple[SourceShare, float]]) -> Html:
        bars = [
            Bar(share.source, "", Interval(value, math.nan, math.nan), Role.SOURCE.value)
            for share, value in shares
        ]
        return fill(CARD, title=self.words[what], note="", body=bar_chart(bars, longest=1.0, write=percent))

    def _curve(self, curve: TrainingCurve) -> Html:
        epochs = curve.epochs
        measured = [(point.validation_ndcg, point.epoch) for point in epochs if point.validation_ndcg > 0]
        best = (float(max(measured)[1]), self.words["best"]) if measured else None
        x_name = self.words["epoch"]
        losses = [(float(point.epoch), point.train_loss) for point in epochs]
        ndcg = [(float(point.epoch), point.validation_ndcg) for point in epochs]
        charts = _grid(
            [
                line_chart(losses, title=self.words["train_loss"], x_name=x_name),
                line_chart(ndcg, title=self.words["validation_ndcg"], x_name=x_name, best=best),
            ]
        )
        return fill('<div class="card"><h3>$name</h3>$charts</div>', name=curve.name, charts=charts)

    def _example(self, example: ExampleSlate) -> Html:
        earlier = len(example.history) - HISTORY_SHOWN
        more = f"… {earlier} {self.words['earlier']}" if earlier > 0 else ""
        more = more if example.history else self.words["no_history"]
        history = fill_each(
            "<li>$title</li>", [{"title": _short(title)} for title in example.history[-HISTORY_SHOWN:]]
        )
        return fill(
            '<div class="card example"><h3>$user</h3>'
            '<h4>$history_word</h4><ul class="history">$more$history</ul>'
            "<h4>$recommended_word</h4><ol>$shown</ol>$taken</div>",
            user=example.user,
            history_word=self.words["history"],
            more=fill("<li>$more</li>", more=more) if more else Html(""),
            history=history,
            recommended_word=self.words["recommended"],
            shown=Html("".join(self._shown(item) for item in example.recommended)),
            taken=self._taken(example),
        )

    def _shown(self, item: ShownItem) -> Html:
        tags = fill_each('<span class="tag">$name</span>', [{"name": name} for name in item.proposed_by])
        hit = (
            fill('<span class="tag hit">✓ $word</span>', word=self.words["hit"])
            if item.was_taken
            else Html("")
        )
        kind = "taken" if item.was_taken else ""
        return fill(
            '<li class="$kind"><span class="item">$title</span> $tags</li>',
            kind=kind,
            title=_short(item.title),
            tags=Html(hit + tags),
        )

    def _taken(self, example: ExampleSlate) -> Html:
        if not example.taken:
            return Html("")
        taken = ", ".join(_short(title) for title in example.taken)
        return fill('<p class="really"><b>$word</b> $taken</p>', word=self.words["taken"], taken=taken)

    def _list(self, title: str, facts: Mapping[str, str]) -> Html:
        if not facts:
            return Html("")
        return fill(
            '<div class="card"><h3>$title</h3>$facts</div>', title=self.words[title], facts=_facts(facts)
        )

    def _folded(self, title: str, facts: Mapping[str, str]) -> Html:
        if not facts:
            return Html("")
        return fill(
            "<details><summary>$title</summary>$facts</details>",
            title=f"{self.words[title]} ({len(facts)})",
            facts=_facts(facts),
        )

    def _section(self, name: str, body: Html, note: str = "") -> Html:
        if not body:
            return Html("")
        note = self.words.get(f"{note or name}_note", "")
        return fill(SECTION, id=name, title=self.words[name], note=note, body=body)


def _grid(cards: Sequence[Html]) -> Html:
    shown = [card for card in cards if card]
    return fill('<div class="grid">$cards</div>', cards=Html("".join(shown))) if shown else Html("")


def _columns(cards: Sequence[Html]) -> Html:
    """Cards of different heights, one below the other in as many columns as fit."""
    shown = [card for card in cards if card]
    return fill('<div class="columns">$cards</div>', cards=Html("".join(shown))) if shown else Html("")


def _predicted(figures: LabelFigures) -> Html:
    """Show how well one task is predicted, for everybody and by length of history."""
    shown = shown_figures(figures)
    parts = (figures.whole, *figures.by_history)
    rows = [
        (part.label, f"{part.n_rows:,}", *(figure(part.figures[name].value) for name in shown))
        for part in parts
    ]
    return card(figures.task, "", table(("", "rows", *map(figure_name, shown)), rows))


def _facts(facts: Mapping[str, str]) -> Html:
    rows = fill_each(
        "<dt>$name</dt><dd>$value</dd>", [{"name": name, "value": value} for name, value in facts.items()]
    )
    return fill("<dl>$rows</dl>", rows=rows)


def _cells(row: ReportRow, best: Mapping[str, float]) -> Html:
    return fill_each(
        '<td class="$kind">$value<small>$range</small></td>',
        [
            {
                "kind": "best" if _value(row, name) == best[name] > 0 else "",
                "value": figure(row.metrics.get(name, UNKNOWN).value),
                "range": _range(row.metrics.get(name, UNKNOWN)),
            }
            for name in best
        ],
    )


def _value(row: ReportRow, metric: str) -> float:
    """0 where it was not measured, so that it never is the best."""
    value = row.metrics.get(metric, UNKNOWN).value
    return 0.0 if math.isnan(value) else value


def _short(title: str) -> str:
    return title if len(title) <= TITLE_SHOWN else f"{title[: TITLE_SHOWN - 1].rstrip()}…"


def _range(interval: Interval) -> str:
    if math.isnan(interval.low) or math.isnan(interval.high):
        return ""
    return f"{figure(interval.low)} – {figure(interval.high)}"


def _compact(n: int) -> str:
    """Write a number of queries shortly: 950, 2.3k, 22k."""
    if n < 1000:
        return f"n {n}"
    return f"n {n / 1000:.1f}k" if n < 10_000 else f"n {n / 1000:.0f}k"
