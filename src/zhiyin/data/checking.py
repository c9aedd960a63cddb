"""Reading, checking, cleaning and indexing a location, with everything that is wrong in one report."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl

from zhiyin.data.checks.columns import report_unused_names, with_known_names
from zhiyin.data.checks.interactions import Events, check_interactions, no_events
from zhiyin.data.checks.items import check_items
from zhiyin.data.checks.others import check_facts, check_impressions, check_users
from zhiyin.data.dataset import Dataset
from zhiyin.data.description import Description, read_description
from zhiyin.data.files.guidance import no_interactions
from zhiyin.data.files.left_out import refuse_a_log_left_out
from zhiyin.data.files.locate import locate
from zhiyin.data.files.raw import RawTable
from zhiyin.data.files.sql import is_database, read_database, without_password
from zhiyin.data.files.tables import read_table
from zhiyin.data.indexing import dataset_of
from zhiyin.data.known import TABLES
from zhiyin.data.problems import Findings, Problem, Severity
from zhiyin.data.report import CheckReport, Summary, summary_of
from zhiyin.domain import Progress, Silent
from zhiyin.domain.errors import DataError

_SILENT = Silent()
_CHECKS: dict[str, Callable[[RawTable, Findings], pl.DataFrame | None]] = {
    "items": check_items,
    "users": check_users,
    "facts": check_facts,
    "impressions": check_impressions,
}


def check(location: str | Path, *, now: float | None = None) -> CheckReport:
    """Say what a data folder, file or database holds, and all that is wrong with it.

    Args:
        location: A folder, a single file of interactions, or a database URL.
        now: The present, UTC seconds; the clock when None.
    """
    return inspect(location, now=now)[1]


def inspect(
    location: str | Path, *, now: float | None = None, progress: Progress = _SILENT
) -> tuple[Dataset | None, CheckReport]:
    """Read, check, clean and index.

    Returns:
        The dataset, None where there are errors; and the report.
    """
    findings = Findings()
    shown = without_password(str(location))
    try:
        with progress.stage("Reading the files"):
            raw, name = _raw_tables(location, findings)
    except DataError as error:
        findings.raised("unreadable", shown, error)
        return None, _report(shown, {}, findings, None)
    n_rows = {table: raw[table].frame.height for table in raw}
    with progress.stage("Checking the data"):
        tables, events = _clean(raw, time.time() if now is None else now, findings)
    if events is None or findings.has_errors:
        return None, _report(shown, n_rows, findings, None)
    with progress.stage("Indexing the data"):
        dataset = dataset_of(name, events, tables, findings.description)
        summary = summary_of(dataset, n_rows.get("interactions", 0), tables)
    return dataset, _report(shown, n_rows, findings, summary)


def _raw_tables(location: str | Path, findings: Findings) -> tuple[dict[str, RawTable], str]:
    if is_database(str(location)):
        return read_database(str(location)), without_password(str(location)).rsplit("/", 1)[-1]
    place = Path(location)
    folder = place if place.is_dir() else place.parent
    findings.description = read_description(folder) if place.exists() else Description()
    name = findings.description.name or Path(os.path.realpath(place)).name.split(".")[0]
    if findings.description.database:
        return read_database(findings.description.database), name
    found = locate(place, findings.description)
    is_first_day = "items" in found.tables and "impressions" not in found.tables
    if "interactions" not in found.tables and not is_first_day:
        raise no_interactions(place, found, findings.description)
    if found.others and place.is_dir():
        names = ", ".join(path.name for path in found.others)
        findings.note("not_read", str(place), f"These files belong to no table and were not read: {names}.")
    read = {table: read_table(table, paths, findings) for table, paths in found.tables.items()}
    raw = {table: one for table, one in read.items() if one is not None}
    if is_first_day and ("interactions" not in raw or raw["interactions"].frame.is_empty()):
        refuse_a_log_left_out(place, found, findings.description)
    return raw, name


def _clean(
    raw: dict[str, RawTable], now: float, findings: Findings
) -> tuple[dict[str, pl.DataFrame], Events | None]:
    report_unused_names(raw.values(), findings)
    is_first_day = "interactions" not in raw and not findings.has_errors
    named = {}
    for table in TABLES:
        if table in raw:
            known = with_known_names(raw.pop(table), findings)
            if known is not None:
                named[table] = known
    tables = {}
    for table, checked in _CHECKS.items():
        if table in named:
            clean = checked(named.pop(table), findings)
            if clean is not None:
                tables[table] = clean
    if is_first_day and "items" in tables:
        findings.warn(
            "no_interactions",
            "interactions",
            "There is no file of interactions, only a catalogue.",
            done="a shop in which nobody has done anything yet",
        )
        return tables, no_events(findings)
    if "interactions" not in named:
        if not findings.has_errors:
            findings.error(
                "no_rows", "items", "There is no row.", "At least one item, or one interaction, is needed."
            )
        return tables, None
    items = tables["items"]["item_id"] if "items" in tables else None
    if items is None:
        findings.note(
            "no_items", "items", "There is no items file: the catalogue is what the interactions touch."
        )
    return tables, check_interactions(named.pop("interactions"), items, now, findings)


def _report(shown: str, tables: dict[str, int], findings: Findings, summary: Summary | None) -> CheckReport:
    severities = list(Severity)
    problems: list[Problem] = sorted(
        findings.problems, key=lambda problem: severities.index(problem.severity)
    )
    return CheckReport(shown, tables, tuple(problems), summary)
