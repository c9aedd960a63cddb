"""Bringing the columns of a table under the names that Zhiyin knows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from zhiyin.data.description import FILE_NAME
from zhiyin.data.files.raw import RawTable
from zhiyin.data.known import KNOWN, REQUIRED, column_for, plain, stands_for
from zhiyin.data.problems import Findings
from zhiyin.domain.errors import did_you_mean


def with_known_names(raw: RawTable, findings: Findings) -> RawTable | None:
    """Rename columns as ``dataset.toml`` says, and look for required ones under other names.

    A required column that is missing is an error. Where another column looks like it, checking goes on with
    that one, so that the report is complete at once.

    Returns:
        The table, or None when a required column is missing and nothing looks like it.
    """
    raw = _with_tidy_header(raw, findings)
    raw = _renamed(raw, findings)
    header = raw.frame.columns
    for name in REQUIRED[raw.name]:
        if name not in header:
            guess = _report_missing(raw, name, header, findings)
            raw = raw if guess is None else replace(raw, frame=raw.frame.rename({guess: name}))
    _hint_at_other_names(raw, findings)
    if not set(REQUIRED[raw.name]) <= set(raw.frame.columns):
        return None
    for column in raw.frame.columns:
        name, mark, _ = column.partition("_duplicated_")
        if mark and name in raw.frame.columns:
            findings.warn(
                "duplicate_column",
                raw.label,
                f"The column '{name}' is there twice.",
                done=f"the second is called '{column}'",
                remedy="Give each column a name of its own.",
            )
    return raw


def report_unused_names(tables: Iterable[RawTable], findings: Findings) -> None:
    """Report lines of ``[columns]`` that name a column which no table has."""
    there = [column for raw in tables for column in raw.frame.columns]
    for name, column in findings.description.columns.items():
        if column not in there:
            findings.error(
                "unknown_column",
                FILE_NAME,
                f"[columns] says that '{name}' is the column '{column}', which no table has."
                f"{did_you_mean(column, there)}",
            )


def _with_tidy_header(raw: RawTable, findings: Findings) -> RawTable:
    columns = raw.frame.columns
    tidy: dict[str, str] = {}
    for column in columns:
        name = column.strip().lstrip("\ufeff")
        wanted = name.casefold() if name.casefold() in KNOWN[raw.name] else name
        if wanted != column and wanted not in columns and wanted not in tidy.values():
            tidy[column] = wanted
    for column, name in tidy.items():
        findings.warn(
            "untidy_header", raw.label, f"The header names a column {column!r}.", done=f"read as '{name}'"
        )
    return replace(raw, frame=raw.frame.rename(tidy)) if tidy else raw


def _renamed(raw: RawTable, findings: Findings) -> RawTable:
    own = findings.description.table_columns.get(raw.name, {})
    wanted = {
        name: column
        for name, column in {**_everywhere(raw, findings.description.columns), **own}.items()
        if name != column
    }
    renames = {}
    for name, column in wanted.items():
        if column not in raw.frame.columns:
            findings.error(
                "unknown_column",
                raw.label,
                f"{FILE_NAME} says that '{name}' is the column '{column}', which is not there."
                f"{did_you_mean(column, raw.frame.columns)}",
                f"The columns are {', '.join(raw.frame.columns)}.",
            )
        elif name in raw.frame.columns and name not in wanted.values():
            findings.error(
                "unknown_column",
                raw.label,
                f"{FILE_NAME} says that '{name}' is the column '{column}', but there is a '{name}' too.",
                f"Take the line out of {FILE_NAME}, or rename one of the two columns.",
            )
        else:
            renames[column] = name
    return replace(raw, frame=raw.frame.rename(renames)) if renames else raw


def _everywhere(raw: RawTable, columns: Mapping[str, str]) -> dict[str, str]:
    there = set(raw.frame.columns)
    return {name: column for name, column in columns.items() if name in KNOWN[raw.name] and column in there}


def _report_missing(raw: RawTable, name: str, header: list[str], findings: Findings) -> str | None:
    """Report a required column that is not there, and return the one that looks like it."""
    columns = [column for column in raw.frame.columns if column not in KNOWN[raw.name]]
    guess = column_for(name, columns)
    listed = ", ".join(header)
    if guess is None:
        findings.error(
            "missing_column",
            raw.label,
            f"There is no column '{name}'. The columns are {listed}.",
            f'Name it in {FILE_NAME}:  [columns.{raw.name}]  {name} = "…"',
        )
        return None
    findings.error(
        "missing_column",
        raw.label,
        f"There is no column '{name}'. The columns are {listed}. Is it '{guess}'?",
        f'Name it in {FILE_NAME}:  [columns.{raw.name}]  {name} = "{guess}"',
    )
    return guess


_WORTH_A_HINT = {
    "interactions": ("timestamp", "event", "value"),
    "items": ("title", "description", "categories"),
    "users": (),
    "facts": (),
    "impressions": (),
}


def _hint_at_other_names(raw: RawTable, findings: Findings) -> None:
    for name in _WORTH_A_HINT[raw.name]:
        if name in raw.frame.columns:
            continue
        likely = [
            column
            for column in raw.frame.columns
            if column not in KNOWN[raw.name] and (stands_for(column) == name or plain(column) == plain(name))
        ]
        if likely:
            role = "context" if raw.name == "interactions" else "an attribute"
            findings.note(
                "other_name",
                raw.label,
                f"There is no '{name}', but '{likely[0]}' looks like one; it is kept as {role}.",
                f'If it is one, write in {FILE_NAME}:  [columns.{raw.name}]  {name} = "{likely[0]}"',
            )
