"""Kinds of events: view, purchase, rating, … as the data calls them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from zhiyin.data.description import FILE_NAME
from zhiyin.data.files.raw import RawTable
from zhiyin.data.kinds import NO_KINDS, USUAL_KIND
from zhiyin.data.order import first_appearances
from zhiyin.data.problems import Findings, rows_of
from zhiyin.domain import PAD, BoolArray, IndexArray
from zhiyin.domain.errors import did_you_mean

_LARGEST_NUMBER_OF_KINDS = 1_000

Kinds = tuple[tuple[str, ...], npt.NDArray[np.int16], BoolArray]


def read_kinds(raw: RawTable, findings: Findings) -> Kinds:
    """Read the column ``event``.

    Returns:
        The kinds in the order of their first appearance; (T,) int16 into them; (T,) bool where the row
        names none.
    """
    n_rows = raw.frame.height
    if "event" not in raw.frame.columns:
        return _one_kind(n_rows, raw, findings)
    distinct, index = first_appearances(raw.frame["event"].cast(pl.String))
    written = distinct.to_list()
    names = [name.strip() for name in written]
    if len(set(names)) > _LARGEST_NUMBER_OF_KINDS:
        findings.error(
            "not_an_event",
            f"{raw.label}, column event",
            f"There are {len(names):,} different events, such as '{names[0]}'; usual are a few words.",
            f'Name the right column in {FILE_NAME}:  [columns.interactions]  event = "…"',
        )
        return _one_kind(n_rows, raw, findings)
    if findings.description.action("untidy_name") == "normalise":
        names = _one_spelling(names)
        _report_untidy(raw, written, names, index, findings)
    unnamed = np.array([not name for name in names] + [True])[index]
    if unnamed.any():
        rows = np.flatnonzero(unnamed)
        message = f"{rows_of(len(rows), 'names', 'name')} no event."
        findings.settle("missing_event", raw, rows, message, column="event")
    named = [name or USUAL_KIND for name in names]
    kinds = tuple(dict.fromkeys([*named, USUAL_KIND] if PAD in index else named))
    kind_of = np.array([kinds.index(name) for name in [*named, kinds[-1]]], dtype=np.int16)
    _check_weights(kinds, raw, findings)
    return kinds, kind_of[index], unnamed


def _one_kind(n_rows: int, raw: RawTable, findings: Findings) -> Kinds:
    kinds = NO_KINDS
    _check_weights(kinds, raw, findings)
    return kinds, np.zeros(n_rows, dtype=np.int16), np.zeros(n_rows, dtype=np.bool_)


def _one_spelling(names: list[str]) -> list[str]:
    first: dict[str, str] = {}
    return [first.setdefault(name.casefold(), name) for name in names]


def _report_untidy(
    raw: RawTable, written: list[str], names: list[str], index: IndexArray, findings: Findings
) -> None:
    untidy = [new not in (old, "") for new, old in zip(names, written, strict=True)]
    if any(untidy):
        rows = np.flatnonzero(np.array([*untidy, False])[index])
        findings.settle(
            "untidy_name",
            raw,
            rows,
            f"{rows_of(len(rows), 'spells', 'spell')} an event with blanks, or otherwise than before.",
            column="event",
            sentence="the spelling that came first was used",
        )


def _check_weights(kinds: tuple[str, ...], raw: RawTable, findings: Findings) -> None:
    for kind in findings.description.event_weights:
        if kind not in kinds:
            findings.warn(
                "unknown_event",
                FILE_NAME,
                f"[events] weighs '{kind}', which does not occur in {raw.label}.{did_you_mean(kind, kinds)}",
                done="ignored",
                remedy=f"The events are {', '.join(kinds)}.",
            )
