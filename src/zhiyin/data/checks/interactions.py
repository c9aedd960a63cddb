"""What users did: checked, cleaned and turned into arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from zhiyin.data.checks.duplicates import report_duplicates
from zhiyin.data.checks.event_kinds import read_kinds
from zhiyin.data.checks.ids import Ids, read_ids, report_missing
from zhiyin.data.checks.moments import Moments, check_moments, read_moments
from zhiyin.data.checks.numbers import read_numbers
from zhiyin.data.checks.types import with_narrow_types
from zhiyin.data.description import FILE_NAME
from zhiyin.data.files.raw import RawTable
from zhiyin.data.kinds import NO_KINDS
from zhiyin.data.known import KNOWN
from zhiyin.data.problems import Findings, rows_of
from zhiyin.domain import BoolArray, FloatArray


@dataclass(frozen=True, eq=False)
class Events:
    """Interactions as arrays, in the order of the file.

    Attributes:
        users: One user id a row.
        items: One item id a row.
        moments: Times; None when the order of the file is all there is.
        kinds: Names of the event kinds.
        kind: (T,) int16 into them.
        value: (T,) float32, NaN where there is none; None when there is no such column.
        context: The other columns, (T,) each.
    """

    users: Ids
    items: Ids
    moments: Moments | None
    kinds: tuple[str, ...]
    kind: npt.NDArray[np.int16]
    value: FloatArray | None
    context: Mapping[str, pl.Series]

    @classmethod
    def none(cls, kinds: tuple[str, ...]) -> Events:
        """Return no event, of the kinds that are to come."""
        return cls(Ids.none(), Ids.none(), None, kinds, np.empty(0, dtype=np.int16), None, {})

    def __len__(self) -> int:
        return len(self.kind)

    def kept(self, keep: BoolArray) -> Events:
        """Return the events marked in (T,) bool."""
        moments = self.moments
        if moments is not None:
            same = moments.order is moments.seconds
            seconds = moments.seconds[keep]
            order = seconds if same else moments.order[keep]
            moments = Moments(seconds, order, moments.unreadable[keep], moments.per_second)
        return Events(
            self.users.kept(keep),
            self.items.kept(keep),
            moments,
            self.kinds,
            self.kind[keep],
            None if self.value is None else self.value[keep],
            {name: column.filter(pl.Series(keep)) for name, column in self.context.items()},
        )


def check_interactions(
    raw: RawTable, items: pl.Series | None, now: float, findings: Findings
) -> Events | None:
    """Check and clean the interactions.

    Args:
        raw: With known column names.
        items: The ids of the items file; None when there is none.
        now: The present, UTC seconds.
        findings: Where to report.

    Returns:
        The events, or None when they cannot be used.
    """
    if raw.frame.is_empty():
        return _no_row(raw, items, findings)
    users = read_ids(raw, "user_id", findings)
    item_ids = read_ids(raw, "item_id", findings)
    moments = read_moments(raw, "timestamp", findings) if "timestamp" in raw.frame.columns else None
    if users is None or item_ids is None:
        return None
    dropping = _Dropping(raw, findings)
    missing = report_missing(raw, "user_id", users, findings)
    dropping.add("missing_id", missing | report_missing(raw, "item_id", item_ids, findings))
    if moments is not None:
        moments, drop = check_moments(raw, "timestamp", moments, now, findings)
        dropping.drop |= drop
    elif "timestamp" not in raw.frame.columns:
        findings.note(
            "no_timestamps",
            raw.label,
            "There is no column 'timestamp': the order of the rows is taken as time.",
        )
    kinds, kind, unnamed = read_kinds(raw, findings)
    dropping.add("missing_event", unnamed)
    value = _values(raw, dropping, findings)
    if items is not None:
        dropping.add("unknown_item", _unknown_items(raw, item_ids, items, findings))
    context = {
        column.name: column
        for column in with_narrow_types(raw).get_columns()
        if column.name not in KNOWN["interactions"]
    }
    events = Events(users, item_ids, moments, kinds, kind, value, context)
    dropping.add("duplicate_event", report_duplicates(raw, _compared(events), events.context, findings))
    return dropping.apply(events)


def no_events(findings: Findings) -> Events:
    """Return no event; of which kinds later ones are, ``event_weights`` of the description may say.

    The usual kind comes first: without events to count, it is what words that are not known are taken for.
    """
    return Events.none(tuple(dict.fromkeys((*NO_KINDS, *findings.description.event_weights))))


def _no_row(raw: RawTable, items: pl.Series | None, findings: Findings) -> Events | None:
    said = "There is a header but no row."
    if items is None:
        findings.error("no_rows", raw.label, said, "At least one interaction, or a file of items, is needed.")
        return None
    findings.warn("no_rows", raw.label, said, done="a shop in which nobody has done anything yet")
    return no_events(findings)


def _compared(events: Events) -> dict[str, npt.NDArray[np.generic]]:
    columns: dict[str, npt.NDArray[np.generic]] = {
        "user": events.users.place,
        "item": events.items.place,
        "event": events.kind,
    }
    if events.moments is not None:
        columns["time"] = events.moments.order
    if events.value is not None:
        columns["value"] = events.value
    return columns


class _Dropping:
    """Rows to drop, and which of them nobody asked to drop."""

    def __init__(self, raw: RawTable, findings: Findings) -> None:
        self.raw = raw
        self.findings = findings
        self.drop: BoolArray = np.zeros(raw.frame.height, dtype=np.bool_)
        self.unasked: BoolArray = np.zeros(raw.frame.height, dtype=np.bool_)

    def add(self, rule: str, rows: BoolArray) -> None:
        """Drop rows if their rule says so."""
        if self.findings.description.action(rule) != "drop":
            return
        self.drop |= rows
        if rule not in self.findings.description.cleaning:
            self.unasked |= rows

    def apply(self, events: Events) -> Events | None:
        """Return what is left; None when that is nothing, or far less than there was."""
        n_dropped = int(self.drop.sum())
        if n_dropped == 0:
            return events
        share = float(self.unasked.mean())
        allowed = self.findings.description.largest_dropped_share
        if share > allowed:
            self.findings.error(
                "too_much_dropped",
                self.raw.label,
                f"{share:.0%} of the rows would be dropped; above {allowed:.0%} the file itself is wrong.",
                f"Mend the file. If it is right so, write in {FILE_NAME}:  "
                f"[cleaning]  largest_dropped_share = {min(1.0, round(share + 0.005, 2)):g}",
            )
            return None
        if n_dropped == len(self.drop):
            self.findings.error("no_rows", self.raw.label, "No row is left after cleaning.")
            return None
        return events.kept(~self.drop)


def _values(raw: RawTable, dropping: _Dropping, findings: Findings) -> FloatArray | None:
    if "value" not in raw.frame.columns:
        return None
    series = raw.frame["value"]
    numbers, unreadable = read_numbers(series)
    if unreadable.any():
        rows = np.flatnonzero(unreadable)
        findings.settle(
            "unreadable_value",
            raw,
            rows,
            f"{rows_of(len(rows), 'holds', 'hold')} no finite number, as in {series[int(rows[0])]!r}.",
            column="value",
        )
        dropping.add("unreadable_value", unreadable)
        if len(rows) > len(series) // 2:
            findings.error(
                "not_a_value",
                f"{raw.label}, column value",
                f"{len(rows) / len(series):.0%} of the values are no numbers, as {series[int(rows[0])]!r}.",
                f"A kind of event goes into the column 'event':  [columns.interactions] in {FILE_NAME}",
            )
    description = findings.description
    low = -np.inf if description.minimum is None else description.minimum
    high = np.inf if description.maximum is None else description.maximum
    outside = (numbers < low) | (numbers > high)
    if outside.any():
        rows = np.flatnonzero(outside)
        action = findings.settle(
            "value_out_of_range",
            raw,
            rows,
            f"{rows_of(len(rows), 'lies', 'lie')} outside {low:g} to {high:g}, as {numbers[rows[0]]:g}.",
            column="value",
        )
        dropping.add("value_out_of_range", outside)
        if action == "clip":
            numbers = np.clip(numbers, low, high)
    return numbers.astype(np.float32)


def _unknown_items(raw: RawTable, ids: Ids, items: pl.Series, findings: Findings) -> BoolArray:
    unknown = ~ids.distinct.is_in(items.implode()).to_numpy()
    rows = np.append(unknown, False)[ids.place]
    if not unknown.any():
        return rows
    if unknown.all() and len(items):
        findings.error(
            "no_known_item",
            raw.label,
            f"Not one item is in the items file: an id here is '{ids.distinct[0]}', there '{items[0]}'.",
            "Write the ids the same way in both files.",
        )
        return rows
    n_unknown = int(unknown.sum())
    sample = ids.distinct.filter(pl.Series(unknown))[0]
    positions = np.flatnonzero(rows)
    findings.settle(
        "unknown_item",
        raw,
        positions,
        f"{rows_of(len(positions), 'is', 'are')} about items that the items file does not hold: "
        f"{n_unknown:,} of them, such as '{sample}'.",
        column="item_id",
    )
    return rows
