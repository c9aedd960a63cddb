"""Slates in the shop's words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from zhiyin.contracts import CHANCE, SCORE
from zhiyin.domain import Candidates, Catalogue, IndexArray, Recommendation
from zhiyin.pipeline.merge import TREND, TREND_PART
from zhiyin.pipeline.ranker_stage import RANKER, RANKER_PART, prediction_columns
from zhiyin.pipeline.reranking import LANGUAGE, LANGUAGE_PART
from zhiyin.presentation.reasons import Evidence, reasons_for

_PART_OF_STAGE = {TREND: TREND_PART, LANGUAGE: LANGUAGE_PART, RANKER: RANKER_PART}


def explained(
    catalogue: Catalogue, slate: Candidates, sources: Sequence[str], because: Mapping[str, IndexArray]
) -> list[list[Recommendation]]:
    """Return each slate's items with reasons, and with what each source and stage added to the score.

    Args:
        catalogue: Of all items.
        slate: (B, n), best first.
        sources: Names of those that may have spoken.
        because: Source → (B, n) the item of the history that it points at.
    """
    return [
        [
            _explained(catalogue, slate, sources, because, row, int(place))
            for place in np.flatnonzero(slate.is_item[row])
        ]
        for row in range(len(slate))
    ]


def _explained(
    catalogue: Catalogue,
    slate: Candidates,
    sources: Sequence[str],
    because: Mapping[str, IndexArray],
    row: int,
    place: int,
) -> Recommendation:
    parts = {
        source: _at(slate, f"{source}:part", row, place)
        for source in sources
        if f"{source}:part" in slate.columns and not np.isnan(_at(slate, source, row, place))
    }
    for stage, column in _PART_OF_STAGE.items():
        if column in slate.columns and not np.isnan(_at(slate, column, row, place)):
            parts[stage] = _at(slate, column, row, place)
    # 0 is an item that nobody has taken, and the like: nothing speaks for it. What an item is worth to the
    # shop is no reason for the user.
    speaking = {
        source: part
        for source, part in parts.items()
        if source != RANKER and (source not in sources or _at(slate, source, row, place) != 0)
    }
    pointed_at = {source: int(index[row, place]) for source, index in because.items()}
    told = prediction_columns(slate.columns)
    return Recommendation(
        item_id=catalogue.items.id(int(slate.item_index[row, place])),
        rank=place + 1,
        score=_at(slate, SCORE, row, place),
        reasons=reasons_for(Evidence(speaking, pointed_at), catalogue),
        sources=parts,
        chance=_at(slate, CHANCE, row, place) if CHANCE in slate.columns else None,
        predictions={task: _at(slate, column, row, place) for task, column in told.items()},
    )


def _at(slate: Candidates, column: str, row: int, place: int) -> float:
    return float(slate.column(column)[row, place])
