"""A bundle: whether it can be read, is what was written, and is new enough."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from zhiyin.domain.errors import ZhiyinError
from zhiyin.experiments.doctor.findings import Finding, Mark, judged
from zhiyin.pipeline.bundle import load_bundle, read_card

_OLD_DAYS = 30


def look_at_bundle(folder: Path) -> Iterator[Finding]:
    """Load a bundle as the service would; every file is compared with its digest."""
    try:
        card = read_card(folder)
        pipeline = load_bundle(folder)
    except ZhiyinError as error:
        yield Finding("bundle", Mark.BAD, error.problem, error.remedy)
        return
    n_items = len(pipeline.catalogue_or_raise())
    told = f"{folder}: recipe {pipeline.config.recipe}, {n_items:,} items, {len(pipeline.users):,} users"
    yield Finding("bundle", Mark.GOOD, f"{told}, {len(card['files'])} files as they were written")
    created = card.get("created")
    if not isinstance(created, datetime):
        yield Finding("bundle age", Mark.ABSENT, "its card does not tell")
        return
    days = (datetime.now(UTC) - created).total_seconds() / 86_400
    yield judged(
        "bundle age",
        f"{days:.1f} days, by Zhiyin {card.get('zhiyin', '?')}",
        is_well=days <= _OLD_DAYS,
        remedy="Taste moves on: train it again, or let zhiyin loop do so.",
    )
