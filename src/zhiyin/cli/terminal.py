"""Where commands write: results to stdout, progress to stderr."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.table import Table

from zhiyin.domain.processes import is_first_process
from zhiyin.evaluation.evaluation import Evaluation
from zhiyin.evaluation.intervals import Interval
from zhiyin.evaluation.labels.figures import LabelFigures
from zhiyin.evaluation.labels.words import figure_name, shown_figures
from zhiyin.evaluation.plots import figure

_WIDTH_OF_FILES = 110

OUT = Console(width=None if sys.stdout.isatty() else _WIDTH_OF_FILES, quiet=not is_first_process())
ERR = Console(stderr=True, width=None if sys.stderr.isatty() else _WIDTH_OF_FILES)

_SHOWN_METRICS = ("recall", "ndcg", "mrr", "coverage", "novelty", "diversity", "gini")


def command_line() -> str:
    """The command as it was typed, for reports."""
    return shlex.join(["zhiyin", *sys.argv[1:]])


@contextmanager
def going_on_when_repeated() -> Iterator[None]:
    """Around work that keeps what it has finished: who stops it is told so."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt("Stopped. What was finished is kept, and the same command goes on.") from None


def metrics_table(columns: dict[str, Evaluation]) -> Table:
    """Show recommenders beside each other, the main metrics with their 95 % intervals.

    A recommender without vectors of texts has no diversity, say: a dash stands there.
    """
    first = next(iter(columns.values()))
    k = first.settings.longest
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("", *columns):
        table.add_column(heading, no_wrap=True)
    for metric in (f"{name}_at_{k}" for name in _SHOWN_METRICS):
        cells = [
            told_interval(one.interval(metric)) if metric in one.metrics else "–" for one in columns.values()
        ]
        if any(metric in one.metrics for one in columns.values()):
            table.add_row(metric, *cells)
    return table


def figures_table(figures: LabelFigures) -> Table:
    """Show how well a task is predicted, for everybody and by length of history."""
    shown = shown_figures(figures)
    table = Table(figures.task, figures.counted)
    for name in shown:
        table.add_column(figure_name(name), justify="right")
    for part in (figures.whole, *figures.by_history):
        told = (figure(part.figures[name].value) for name in shown)
        table.add_row(part.label, f"{part.n_rows:,}", *told)
    return table


def told_interval(interval: Interval) -> str:
    """Write a mean and half of its 95 % interval."""
    half = (interval.high - interval.low) / 2
    if not math.isfinite(half):
        return "–" if math.isnan(interval.value) else f"{interval.value:.4f}"
    if abs(interval.value) < 1:
        return f"{interval.value:.4f}".removeprefix("0") + f" [dim]±{half:.3f}[/dim]".replace("±0.", "±.")
    return f"{interval.value:.2f} [dim]±{half:.2f}[/dim]".replace("±0.", "±.")
