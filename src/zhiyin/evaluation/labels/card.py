"""What a fine-tuned model says about itself, as Markdown beside its weights."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence

from zhiyin import __version__
from zhiyin.evaluation.intervals import Interval
from zhiyin.evaluation.labels.figures import LabelFigures
from zhiyin.evaluation.labels.page import BY_HISTORY
from zhiyin.evaluation.labels.reading import read_report
from zhiyin.evaluation.labels.run_report import FinetuningReport
from zhiyin.evaluation.labels.sentences import Tone
from zhiyin.evaluation.labels.words import between, duration, figure_name, memory, share
from zhiyin.evaluation.plots import figure


def model_card(report: FinetuningReport) -> str:
    """Return Markdown: what the model was made of, how well it predicts and for whom, its use and limits."""
    parts = [_head(report), _figures(report), _worries(report), _use(report), _settings(report)]
    return "\n".join(line for part in parts for line in part)


def _head(report: FinetuningReport) -> Iterator[str]:
    costs = report.costs
    used = [duration(costs.seconds), f"on {costs.device}"]
    if costs.peak_memory_mb is not None:
        used.append(f"with at most {memory(costs.peak_memory_mb)} of memory")
    yield from (
        "---",
        "library_name: zhiyin",
        f"base_model: {json.dumps(report.base)}",
        f"tags: [zhiyin, fine-tuning, {json.dumps(report.method)}, {json.dumps(report.shape)}]",
        "---",
        f"# {_plain(report.name)}",
        "",
        f"Made by Zhiyin {__version__} from `{_plain(report.base)}`: a {_plain(report.shape)}, fine-tuned by "
        f"`{_plain(report.method)}` on {_plain(report.dataset)}. Trained were {costs.n_trained:,} of "
        f"{costs.n_parameters:,} parameters ({share(costs.share_trained)}), {' '.join(used)}.",
        "",
    )
    if report.data:
        yield from ("## Data", "", *_table(("fact", "value"), list(report.data.items())), "")


def _figures(report: FinetuningReport) -> Iterator[str]:
    for task in report.tasks:
        figures = task.figures
        at = "" if figures.threshold is None else f" Threshold for yes: {figures.threshold:.3g}."
        yield from (
            f"## Task: {_plain(figures.task)}",
            "",
            f"{figures.whole.n_rows:,} test {figures.counted} of {figures.whole.n_users:,} users; "
            f"95 % intervals by drawing users anew.{at}",
            "",
        )
        rows = [
            (figure_name(name), figure(one.value), between(one) or figures.reasons.get(name, "–"))
            for name, one in figures.figures.items()
        ]
        yield from (*_table(("figure", "value", "95 % interval"), rows), "")
        yield from _by_history(figures)
        names = BY_HISTORY.get(figures.kind, tuple(figures.figures)[:2])
        for other, differences in task.against.items():
            told = "; ".join(
                f"{figure_name(one.metric)} {one.value:+.4f} ({one.low:+.4f} to {one.high:+.4f})"
                for one in differences
                if one.metric in names
            )
            yield from (f"Minus {_plain(other)}, on the same rows: {told}.", "")


def _by_history(figures: LabelFigures) -> Iterator[str]:
    if not figures.by_history:
        return
    names = BY_HISTORY.get(figures.kind, tuple(figures.figures)[:2])
    rows = [
        (part.label, f"{part.n_rows:,}", *(_told(part.figures[name]) for name in names))
        for part in figures.by_history
    ]
    heads = ("events known of the user", figures.counted, *(figure_name(name) for name in names))
    yield from (*_table(heads, rows), "")


def _worries(report: FinetuningReport) -> Iterator[str]:
    worries = [said.text for said in read_report(report) if said.tone is Tone.WORRY]
    if worries:
        yield from ("## To worry about", "", *(f"- {_plain(text)}" for text in worries), "")


def _use(report: FinetuningReport) -> Iterator[str]:
    tasks = " and ".join(_plain(task.figures.task) for task in report.tasks) or "what it was trained for"
    yield from (
        "## Use and limits",
        "",
        f"It predicts {tasks} from texts: what a user had before, the moment, and an item of the shop it was",
        f"trained on ({_plain(report.dataset)}). The figures hold for rows like the test rows: other shops,",
        "languages and seasons need figures of their own. It learned from what was shown and taken, so that",
        "what was never shown is judged by its words alone, and habits and prejudices of the log are in it.",
        "Do not decide about people with it.",
        "",
    )


def _settings(report: FinetuningReport) -> Iterator[str]:
    if report.command:
        yield from ("## Again", "", "```text", report.command, "```", "")
    for title, facts in (("Settings", report.settings), ("Versions", report.versions)):
        if facts:
            yield from (f"## {title}", "", *_table(("name", "value"), list(facts.items())), "")


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"| {' | '.join('---' if n == 0 else '---:' for n in range(len(heads)))} |"
    for row in rows:
        yield f"| {' | '.join(_plain(cell) for cell in row)} |"


def _told(one: Interval) -> str:
    if math.isnan(one.value):
        return "–"
    return f"{figure(one.value)} ({between(one)})" if between(one) else figure(one.value)


def _plain(text: str) -> str:
    """Keep a name on its line and inside its cell."""
    return " ".join(str(text).split()).replace("|", "\\|")
