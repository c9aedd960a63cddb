"""Which event belongs to which slate."""

from __future__ import annotations

import polars as pl


def join_events(places: pl.DataFrame, events: pl.DataFrame, within_seconds: int) -> pl.DataFrame:
    """Give each event to the newest slate that showed its item to its user shortly before.

    An event belongs to one slate at most; one without such a slate was not brought about by a slate and is
    left out.

    Args:
        places: Columns ``slate``, ``user``, ``item_id``, ``timestamp`` (UTC seconds when it was shown), and
            others, which are kept. One row a place.
        events: Columns ``user``, ``item_id``, ``timestamp`` and ``value``.
        within_seconds: How long after a slate an event may come.

    Returns:
        One row an event that belongs to a slate: ``timestamp`` and ``value`` of the event, ``seconds`` since
        the slate, and the columns of the place; in the order of time.
    """
    acted_on = places.join(events.select("user", "item_id").unique(), on=["user", "item_id"], how="semi")
    shown = acted_on.with_columns(pl.col("timestamp").alias("shown_at")).sort(
        "timestamp", maintain_order=True
    )
    joined = events.sort("timestamp", maintain_order=True).join_asof(
        shown,
        on="timestamp",
        by=["user", "item_id"],
        strategy="backward",
        tolerance=within_seconds,
        check_sortedness=False,
    )
    belonging = joined.filter(pl.col("slate").is_not_null())
    return belonging.with_columns((pl.col("timestamp") - pl.col("shown_at")).alias("seconds"))
