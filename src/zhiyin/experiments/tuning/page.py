"""What a search found, as one HTML page that loads nothing from anywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

from zhiyin.evaluation.frame import template
from zhiyin.evaluation.intervals import Interval
from zhiyin.evaluation.labels.run_report import lower_is_better
from zhiyin.evaluation.markup import Html, breakable, fill, fill_each
from zhiyin.evaluation.plots import Bar, bar_chart, figure, line_chart, percent
from zhiyin.experiments.tuning.final import kept_final
from zhiyin.experiments.tuning.space import short_names
from zhiyin.experiments.tuning.study import Attempt, AttemptState
from zhiyin.experiments.tuning.tuned import Tuned

PAGE_FILE = "report.html"
_SECTION = '<section><h2>$title</h2><p class="note">$note</p>$body</section>'
_CARD = '<div class="card">$body</div>'
_ROW = '<tr class="$kind"><th scope="row">$first</th>$cells</tr>'
_TABLE = '<div class="scroll"><table><thead><tr>$heads</tr></thead><tbody>$rows</tbody></table></div>'
_TO_GO_ON = "<h3>To go on, with a larger --trials</h3><pre>$command</pre>"
_TILE = (
    '<div class="tile"><div class="tile-name">$name</div><div class="tile-value">$value</div>'
    '<div class="tile-note">$note</div></div>'
)


def write_page(tuned: Tuned, out: Path, command: str) -> None:
    """Write the page of a search into its folder, with the figures on test events if they were asked."""
    page = tuning_page(tuned, command=command, final=kept_final(tuned, out))
    (out / PAGE_FILE).write_text(page, encoding="utf-8")


def tuning_page(tuned: Tuned, *, command: str = "", final: Mapping[str, Any] | None = None) -> str:
    """Return the page: what was gained, how the search went, which settings mattered, every trial.

    Args:
        tuned: The result.
        command: Command line that goes on with the search; empty when there is none.
        final: What `judge_finally` found on test events; None before they were looked at.
    """
    return fill(
        template("report.html"),
        lang="en",
        style=Html(template("report.css")),
        title=f"{tuned.subject.name} on {tuned.dataset}",
        report="search for settings",
        facts=f"{len(tuned.attempts)} trials · judged by {tuned.n_judging:,} validation users"
        f"{_others(tuned.n_fitting)} · seed {tuned.seed}",
        tiles=_tiles(tuned),
        sections=Html(
            "".join(
                (
                    _best(tuned, is_judged=final is not None),
                    _final(tuned, final),
                    _history(tuned),
                    _importance(tuned),
                    _trials(tuned, command),
                )
            )
        ),
    )


def _others(n_fitting: int) -> str:
    return f", weights fitted on {n_fitting:,} others" if n_fitting else ""


def _tiles(tuned: Tuned) -> Html:
    gain, words = tuned.gain, tuned.subject.words
    tiles = [
        (f"best {words.measure}", figure(tuned.best_value), words.unchanged if tuned.best is None else ""),
        ("as it stands", figure(tuned.unchanged), "with the settings given, nothing searched"),
    ]
    if gain is not None:
        tiles.append(
            ("gain", f"{gain.value:+.4f}", f"{gain.low:+.4f} to {gain.high:+.4f}, p = {gain.p_value:.3f}")
        )
    rows: list[dict[str, object]] = [
        dict(zip(("name", "value", "note"), tile, strict=True)) for tile in tiles
    ]
    return fill_each(_TILE, rows)


def _best(tuned: Tuned, *, is_judged: bool) -> Html:
    words = tuned.subject.words
    if not tuned.settings:
        return _section("Best settings", f"No trial was better than {words.unchanged}.", Html(""))
    line = f"{tuned.subject.command_words} {tuned.set_line}"
    note = "The best of many trials is partly the luckiest: on new events expect a part of the gain."
    if not is_judged:
        note += f" Once the choice is made, --final judges both on {words.tests}."
    return _section("Best settings", note, fill("<pre>$line</pre>", line=line))


def _final(tuned: Tuned, final: Mapping[str, Any] | None) -> Html:
    if final is None:
        return Html("")
    rows = [
        {
            "kind": "pipeline" if number == 0 else "",
            "first": pair["metric"],
            "cells": fill_each("<td>$cell</td>", [{"cell": cell} for cell in _told_pair(pair)]),
        }
        for number, pair in enumerate(final["pairs"])
    ]
    heads = fill_each(
        "<th>$name</th>", [{"name": name} for name in ("", "best", "as it stands", "difference")]
    )
    body = fill(_TABLE, heads=heads, rows=fill_each(_ROW, rows))
    note = f"Best settings against those as they stood, in pairs, on {tuned.subject.words.tests}."
    return _section("On new events", note, body)


def _told_pair(pair: Mapping[str, Any]) -> tuple[str, str, str]:
    less = "; less is better" if lower_is_better(pair["metric"]) else ""
    interval = f"{pair['low']:+.4f} to {pair['high']:+.4f}, p = {pair['p_value']:.3f}{less}"
    return figure(pair["first"]), figure(pair["second"]), f"{pair['value']:+.4f} ({interval})"


def _history(tuned: Tuned) -> Html:
    words = tuned.subject.words
    values = [
        (float(attempt.number), attempt.value) for attempt in tuned.attempts if attempt.value is not None
    ]
    points = [(0.0, tuned.unchanged), *values]
    best = list(accumulate((value for _, value in points), max))
    top = max(points, key=lambda point: (point[1], -point[0]))
    charts = [
        line_chart(points, title=f"{words.measure} of each trial", x_name="trial", best=(top[0], "best")),
        line_chart(
            [(point[0], value) for point, value in zip(points, best, strict=True)],
            title="best so far",
            x_name="trial",
        ),
    ]
    cards = Html("".join(fill(_CARD, body=chart) for chart in charts))
    note = f"Trial 0 is {words.unchanged}. {words.judged_by}"
    return _section("How the search went", note, fill('<div class="grid">$cards</div>', cards=cards))


def _importance(tuned: Tuned) -> Html:
    if not tuned.importance:
        return Html("")
    bars = [
        Bar(path, "", Interval(share, math.nan, math.nan), "pipeline")
        for path, share in tuned.importance.items()
    ]
    body = fill(_CARD, body=bar_chart(bars, longest=1.0, write=percent))
    note = "Share of each setting in what sets the best quarter of the trials apart from all (PED-ANOVA)."
    return _section("Which settings mattered", note, body)


def _trials(tuned: Tuned, command: str) -> Html:
    paths = list(tuned.space)
    heads = ["trial", tuned.subject.words.measure, *short_names(paths).values(), "seconds"]
    ordered = sorted(tuned.attempts, key=_best_first)
    rows = Html("".join(_row(attempt, paths, attempt == tuned.best) for attempt in ordered))
    head = fill_each("<th>$name</th>", [{"name": breakable(name)} for name in heads])
    body = fill(_TABLE, heads=head, rows=rows)
    if command:
        body = Html(body + fill(_TO_GO_ON, command=command))
    return _section("Every trial", "Best first; those that were pruned or failed come last.", body)


def _best_first(attempt: Attempt) -> tuple[bool, float, int]:
    return attempt.value is None, -(attempt.value or 0.0), attempt.number


def _row(attempt: Attempt, paths: Sequence[str], is_best: bool) -> Html:
    told = "" if attempt.state is AttemptState.FINISHED else f"{attempt.state.value}: {attempt.reason}"
    first = fill("$number<small>$told</small>", number=attempt.number, told=told)
    value = math.nan if attempt.value is None else attempt.value
    cells = [figure(value), *(attempt.settings[path] for path in paths), f"{attempt.seconds:.1f}"]
    return fill(
        _ROW,
        kind="pipeline" if is_best else "",
        first=first,
        cells=fill_each("<td>$cell</td>", [{"cell": cell} for cell in cells]),
    )


def _section(title: str, note: str, body: Html) -> Html:
    return fill(_SECTION, title=title, note=note, body=body)
