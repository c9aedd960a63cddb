"""Where commands write: results to stdout, progress to stderr."""

from __future__ import annotations

import shlex
import sys

from rich.console import Console
from rich.table import Table

from zhiyin.evaluation.evaluation import Evaluation
from zhiyin.evaluation.intervals import Interval

OUT = Console(soft_wrap=True)
ERR = Console(stderr=True)

_SHOWN_METRICS = ("recall", "ndcg", "mrr", "coverage", "novelty", "diversity", "gini")


def command_line() -> str:
    """The command as it was typed, for reports."""
    return shlex.join(["zhiyin", *sys.argv[1:]])


def metrics_table(columns: dict[str, Evaluation]) -> Table:
    """Show recommenders beside each other, the main metrics with their 95 % intervals."""
    first = next(iter(columns.values()))
    k = first.settings.longest
    table = Table("", *columns, box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for metric in (f"{name}_at_{k}" for name in _SHOWN_METRICS):
        if metric in first.metrics:
            table.add_row(metric, *(_told(evaluation.interval(metric)) for evaluation in columns.values()))
    return table


def _told(interval: Interval) -> str:
    digits = 4 if abs(interval.value) < 1 else 2
    half = (interval.high - interval.low) / 2
    return f"{interval.value:.{digits}f} [dim]±{half:.{digits}f}[/dim]"
