"""Asking every source, and joining what they propose."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zhiyin.contracts import CandidateSource, best_of, scores_at
from zhiyin.domain import PAD, BoolArray, Candidates, FloatArray, IndexArray, Queries

_log = logging.getLogger(__name__)


def ask(
    sources: Sequence[CandidateSource[Any]], queries: Queries, failures: dict[str, int] | None
) -> dict[str, FloatArray]:
    """Let every source score the catalogue.

    Args:
        sources: Who is asked.
        queries: B queries.
        failures: Where failures are counted by source name; a failing source is then skipped. None lets
            the error through, as training and evaluation want it.

    Returns:
        Source name → (B, I) float32; without the sources that failed.
    """
    opinions = {}
    for source in sources:
        try:
            opinions[source.name] = source.score_all(queries)
        except Exception:
            if failures is None:
                raise
            failures[source.name] = failures.get(source.name, 0) + 1
            _log.exception("source %s failed and was skipped", source.name)
    return opinions


def ask_reasons(
    sources: Sequence[CandidateSource[Any]],
    queries: Queries,
    item_index: IndexArray,
    failures: dict[str, int] | None,
) -> dict[str, IndexArray]:
    """Let every source name what speaks for the items of a slate; failures are treated as in `ask`.

    Args:
        sources: Who is asked.
        queries: B queries.
        item_index: (B, N) int32, the slates.
        failures: See `ask`.

    Returns:
        Source name → (B, N) int32 items of the histories, -1 where there is no such reason.
    """
    reasons = {}
    for source in sources:
        try:
            reasons[source.name] = source.because(queries, item_index)
        except Exception:
            if failures is None:
                raise
            failures[source.name] = failures.get(source.name, 0) + 1
            _log.exception("source %s failed to give reasons and was skipped", source.name)
    return reasons


def union(opinions: Mapping[str, FloatArray], names: Sequence[str], barred: BoolArray, n: int) -> Candidates:
    """Join the ``n`` best allowed items of every source.

    Args:
        opinions: Source name → (B, I) float32.
        names: Every source of the pipeline; one that has no opinions gets a column of NaN.
        barred: (B, I) bool, items that may not be shown.
        n: Proposals of each source.

    Returns:
        (B, N) candidates, each item once, in the order of the item index; one column a source, with the
        source's score for every candidate, whoever proposed it.
    """
    proposals = []
    for scores in opinions.values():
        width = scores.shape[1]
        allowed = np.where(barred[:, :width], np.float32(np.nan), scores)
        proposals.append(best_of(allowed, n, column=SOURCE_SCORE).item_index)
    item_index = _each_once(np.concatenate(proposals, axis=1)) if proposals else _nothing(len(barred))
    unheard = np.full(item_index.shape, np.nan, dtype=np.float32)
    columns = {name: scores_at(opinions[name], item_index) if name in opinions else unheard for name in names}
    return Candidates(item_index, columns)


SOURCE_SCORE = "source_score"


def _nothing(n_queries: int) -> IndexArray:
    return np.full((n_queries, 0), PAD, dtype=np.int32)


def _each_once(item_index: IndexArray) -> IndexArray:
    """Sort each row, drop doubles, and push the padding to the end."""
    last = np.iinfo(np.int32).max
    ordered = np.sort(np.where(item_index == PAD, last, item_index), axis=1)
    doubled = np.zeros_like(ordered, dtype=np.bool_)
    doubled[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    packed = np.sort(np.where(doubled, last, ordered), axis=1)
    width = int((packed != last).sum(axis=1).max(initial=0))
    packed = packed[:, :width]
    return np.where(packed == last, PAD, packed).astype(np.int32)
