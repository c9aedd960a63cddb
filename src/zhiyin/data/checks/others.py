"""Users, facts and impressions."""

from __future__ import annotations

import numpy as np
import polars as pl

from zhiyin.data.checks.items import described_once
from zhiyin.data.checks.numbers import read_numbers
from zhiyin.data.checks.types import with_narrow_types
from zhiyin.data.files.raw import RawTable
from zhiyin.data.problems import Findings, rows_of


def check_users(raw: RawTable, findings: Findings) -> pl.DataFrame | None:
    """Return one row a user, ``user_id`` first; None when there are none."""
    described = described_once(raw, "user_id", findings)
    return None if described is None else described[0]


def check_facts(raw: RawTable, findings: Findings) -> pl.DataFrame | None:
    """Return facts as text, ``head``, ``relation`` and ``tail`` first, rows with a gap dropped."""
    ends = ("head", "relation", "tail")
    if raw.frame.is_empty():
        findings.warn(
            "no_rows", raw.label, "There is a header but no row.", done="taken as if it were not there"
        )
        return None
    frame = raw.frame.with_columns(pl.col(ends).cast(pl.String, strict=False).str.strip_chars())
    gap = frame.select(pl.any_horizontal(pl.col(ends).is_null() | (pl.col(ends) == ""))).to_series()
    if gap.any():
        rows = np.flatnonzero(gap.to_numpy())
        message = f"{rows_of(len(rows), 'has', 'have')} no head, relation or tail."
        findings.settle("missing_id", raw, rows, message)
        frame = frame.filter(~gap)
    return frame.select(*ends, pl.exclude(ends))


def check_impressions(raw: RawTable, findings: Findings) -> pl.DataFrame:
    """Return impressions as they are read, ids as text; only what cannot be is reported."""
    frame = with_narrow_types(raw)
    ids = [name for name in ("user_id", "item_id") if name in frame.columns]
    frame = frame.with_columns(pl.col(ids).cast(pl.String, strict=False))
    if "propensity" in frame.columns:
        chances, unreadable = read_numbers(frame["propensity"])
        wrong = unreadable | (chances <= 0) | (chances > 1)
        if wrong.any():
            rows = np.flatnonzero(wrong)
            findings.warn(
                "propensity_out_of_range",
                f"{raw.label}, column propensity",
                f"{rows_of(len(rows), 'holds', 'hold')} no probability above 0 and up to 1 "
                f"(row {raw.rows_named(rows)[0]}).",
                done="kept as it is",
                remedy="Off-policy estimates cannot use these rows.",
            )
        frame = frame.with_columns(pl.Series("propensity", chances))
    return frame
