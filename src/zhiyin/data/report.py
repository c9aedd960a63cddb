"""What a check found, as a value, as text for a terminal and as JSON."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import polars as pl

from zhiyin.data.dataset import Dataset
from zhiyin.data.problems import Problem, Severity
from zhiyin.domain import NO_TIMESTAMP
from zhiyin.domain.errors import DataError

_WIDTH = 100


@dataclass(frozen=True)
class Summary:
    """What a dataset holds, in numbers.

    Attributes:
        n_users: Users, those without any event included.
        n_items: Items of the catalogue.
        n_interactions: Events that are left after cleaning.
        n_interactions_read: Rows of the interactions before cleaning.
        event_kinds: Event kind → number of events.
        first_day: Day of the first event, ``YYYY-MM-DD``; None without times.
        last_day: Day of the last.
        density: Events divided by the number of pairs of user and item.
        events_per_user: Median over users with events.
        users_with_three: Users with at least three events, those that leave-last-out can test.
        text_coverage: Share of items with a title, a description or categories.
        cold_share: Share of items that no event touches.
        columns: Known and other column names of interactions and items.
    """

    n_users: int
    n_items: int
    n_interactions: int
    n_interactions_read: int
    event_kinds: Mapping[str, int]
    first_day: str | None
    last_day: str | None
    density: float
    events_per_user: float
    users_with_three: int
    text_coverage: float
    cold_share: float
    columns: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class CheckReport:
    """Everything that is wrong with the data of one location, and what it holds.

    Attributes:
        location: What was checked; passwords are not shown.
        tables: Table → rows that could be read.
        problems: Errors first, then warnings, then notes.
        summary: None where there are errors.
    """

    location: str
    tables: Mapping[str, int]
    problems: tuple[Problem, ...]
    summary: Summary | None = None

    @property
    def errors(self) -> tuple[Problem, ...]:
        """What must be mended before anything can be trained."""
        return self._of(Severity.ERROR)

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What was cleaned, or is strange."""
        return self._of(Severity.WARNING)

    @property
    def notes(self) -> tuple[Problem, ...]:
        """What is good to know."""
        return self._of(Severity.NOTE)

    def _of(self, severity: Severity) -> tuple[Problem, ...]:
        return tuple(problem for problem in self.problems if problem.severity is severity)

    @property
    def cleaned(self) -> dict[str, int]:
        """Cleaning rule → rows it was about."""
        counts: dict[str, int] = {}
        for problem in self.warnings:
            if problem.n_rows:
                counts[problem.kind] = counts.get(problem.kind, 0) + problem.n_rows
        return counts

    def as_error(self) -> DataError:
        """Return the error that carries the whole report."""
        return DataError(
            f"The data of {self.location} cannot be used.\n\n"
            + "\n".join(_paragraph(problem) for problem in self.problems)
        )

    def render(self) -> str:
        """Return the report as plain text, at most 100 columns wide where words allow."""
        parts = [f"Data of {self.location}"]
        if self.summary is not None:
            parts.append(_summary_text(self.summary, self.tables))
        elif self.tables:
            parts.append("\n".join(_line(name, f"{rows:,} rows") for name, rows in self.tables.items()))
        for title, problems in (
            ("Errors: nothing can be trained before these are mended", self.errors),
            ("Warnings: cleaned or strange", self.warnings),
            ("Notes", self.notes),
        ):
            if problems:
                body = "\n".join(_paragraph(problem) for problem in problems)
                parts.append(f"{title} ({len(problems)})\n\n{body}".rstrip())
        parts.append(self._verdict())
        return "\n\n".join(parts)

    def to_json(self) -> str:
        """Return the report as one JSON object."""
        content = {
            "location": self.location,
            "usable": not self.errors,
            "tables": dict(self.tables),
            "summary": None if self.summary is None else asdict(self.summary),
            "cleaned": self.cleaned,
            "problems": [asdict(problem) for problem in self.problems],
        }
        return json.dumps(content, ensure_ascii=False, indent=2)

    def _verdict(self) -> str:
        if self.errors:
            n = len(self.errors)
            return f"Not usable: {n} {'error' if n == 1 else 'errors'}."
        if not self.warnings:
            return "Ready to train."
        after = "after the cleaning named above" if self.cleaned else "with the warnings above in mind"
        return f"Ready to train, {after}."


def summary_of(dataset: Dataset, n_read: int, tables: Mapping[str, pl.DataFrame]) -> Summary:
    """Count what a dataset holds.

    Args:
        dataset: Indexed.
        n_read: Rows of the interactions before cleaning.
        tables: Table → clean frame, for the names of the columns.
    """
    histories = dataset.histories
    known = histories.timestamp[histories.timestamp != NO_TIMESTAMP]
    days = (known.min(), known.max()) if len(known) else None
    lengths = histories.lengths
    touched = dataset.item_counts > 0
    kinds = np.bincount(histories.event_index, minlength=len(dataset.event_kinds))
    table = dataset.catalogue.table
    texts = [pl.col(name).is_not_null() for name in ("title", "description", "categories") if name in table]
    return Summary(
        n_users=dataset.n_users,
        n_items=dataset.n_items,
        n_interactions=dataset.n_interactions,
        n_interactions_read=n_read,
        event_kinds={kind: int(n) for kind, n in zip(dataset.event_kinds, kinds, strict=True)},
        first_day=None if days is None else _day(int(days[0])),
        last_day=None if days is None else _day(int(days[1])),
        density=dataset.n_interactions / max(1, dataset.n_users * dataset.n_items),
        events_per_user=float(np.median(lengths[lengths > 0])) if histories.n_events else 0.0,
        users_with_three=int((lengths >= 3).sum()),
        text_coverage=float(table.select(pl.any_horizontal(texts).mean()).item()) if texts else 0.0,
        cold_share=float(1.0 - touched.mean()) if len(touched) else 0.0,
        columns={
            "context": tuple(dataset.context),
            **{name: tuple(frame.columns) for name, frame in tables.items()},
        },
    )


def _day(seconds: int) -> str:
    return str(np.datetime64(seconds, "s").astype("datetime64[D]"))


def _summary_text(summary: Summary, tables: Mapping[str, int]) -> str:
    dropped = summary.n_interactions_read - summary.n_interactions
    kinds = ", ".join(f"{kind} {n:,}" for kind, n in list(summary.event_kinds.items())[:8])
    span = (
        f"{summary.first_day} to {summary.last_day}" if summary.first_day else "not known; order of the rows"
    )
    usual = f", median {summary.events_per_user:g} a user, density {summary.density:.3%}"
    has_events = summary.n_interactions > 0
    lines = [
        _line("users", f"{summary.n_users:,}, of which {summary.users_with_three:,} with at least 3 events"),
        _line("items", f"{summary.n_items:,}, of which {summary.cold_share:.1%} without any event"),
        _line(
            "interactions",
            f"{summary.n_interactions:,}"
            + (f" ({dropped:,} dropped)" if dropped else "")
            + (usual if has_events else ""),
        ),
        *([_line("events", kinds), _line("time", span)] if has_events else []),
        _line("texts", f"{summary.text_coverage:.1%} of the items have a title, description or categories"),
    ]
    for name, columns in summary.columns.items():
        if columns:
            words = ", ".join(columns[:12]) + (f" and {len(columns) - 12} more" if len(columns) > 12 else "")
            rows = f"{tables[name]:,} rows: " if name in tables and name != "items" else ""
            lines.append(_line(name, rows + words))
    return "\n".join(lines)


def _line(name: str, text: str) -> str:
    return textwrap.fill(
        text, _WIDTH, initial_indent=f"  {name:<14}", subsequent_indent=" " * 16, break_long_words=False
    )


def _paragraph(problem: Problem) -> str:
    rows = ""
    if problem.rows:
        more = problem.n_rows - len(problem.rows)
        word = "row" if problem.n_rows == 1 else "rows"
        rows = f" ({word} {', '.join(problem.rows)}{f' and {more:,} more' if more else ''})"
    lines = _wrapped(f"{problem.place}: {problem.message}{rows}", "  ")
    if problem.done:
        lines += _wrapped(f"Done: {problem.done}.", "    ")
    for remedy in problem.remedy.splitlines():
        lines += [f"    {remedy}"] if remedy.startswith(" ") else _wrapped(remedy, "    ")
    return "\n".join(lines) + "\n"


def _wrapped(text: str, indent: str) -> list[str]:
    """Break long prose, but never a line to be copied into dataset.toml (it follows two blanks)."""
    prose, mark, code = text.partition("  ")
    lines = textwrap.wrap(
        prose, _WIDTH, initial_indent=indent, subsequent_indent=indent + "  ", break_long_words=False
    )
    if mark:
        lines[-1] = f"{lines[-1]}  {code}" if len(lines[-1]) + len(code) + 2 <= _WIDTH else lines[-1]
        if not lines[-1].endswith(code):
            lines.append(f"{indent}  {code.strip()}")
    return lines
