"""Asking every source, and joining what they propose."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np

from zhiyin.contracts import CandidateSource, Opinion
from zhiyin.domain import PAD, Barred, BoolArray, Candidates, IndexArray, Queries
from zhiyin.pipeline.timing import Observe, timed, unobserved

_log = logging.getLogger(__name__)
T = TypeVar("T")


def candidates_of(
    sources: Sequence[CandidateSource[Any]],
    queries: Queries,
    n: int,
    barred: Barred,
    failures: dict[str, int] | None,
    *,
    n_of_fallback: Mapping[str, int],
    observe: Observe = unobserved,
) -> Candidates:
    """Join the best allowed items of every source.

    Args:
        sources: Who is asked; each reads the histories once.
        queries: B queries.
        n: Items each source proposes.
        n_of_fallback: Source name → how many it proposes to a query for which another source has proposed
            ``n``; such sources fill what the others leave empty.
        barred: What may not be shown.
        failures: Where failures are counted by source name; a failing source is then skipped. None lets
            the error through, as training and evaluation want it.
        observe: Told how long ``propose NAME`` and ``score NAME`` took for each source.

    Returns:
        (B, N) candidates, each item once, in the order of the item index; one column a source, with the
        source's score for every candidate, whoever proposed it. NaN throughout for a source that failed.
    """
    opinions: dict[str, Opinion] = {}
    proposals = [np.empty((len(queries), 0), dtype=np.int32)]
    has_enough = np.zeros(len(queries), dtype=np.bool_)
    # Right after a batch the interpreter is busy sending it; what computes by itself for long goes on then.
    for source in sorted(sources, key=lambda source: (source.name in n_of_fallback, source.in_short_steps)):
        few = n_of_fallback.get(source.name, n)
        ask = partial(_asked, source, queries, n, barred, few=few, is_few=has_enough & (few < n))
        with timed(f"propose {source.name}", observe):
            asked = unless_it_fails(source.name, failures, ask)
        if asked is not None:
            opinions[source.name], proposed = asked
            proposals += proposed
            if source.name not in n_of_fallback:
                has_enough |= (proposed[0] != PAD).sum(axis=1) >= n
    item_index = _each_once(np.concatenate(proposals, axis=1))
    columns = {}
    for source in sources:
        column = None
        if source.name in opinions:
            opinion = opinions[source.name]
            with timed(f"score {source.name}", observe):
                column = unless_it_fails(source.name, failures, partial(opinion.at, item_index))
        if column is None:
            column = np.full(item_index.shape, np.nan, dtype=np.float32)
        columns[source.name] = column
    return Candidates(item_index, columns)


def ask_reasons(
    sources: Sequence[CandidateSource[Any]],
    queries: Queries,
    item_index: IndexArray,
    failures: dict[str, int] | None,
) -> dict[str, IndexArray]:
    """Let every source name what speaks for the items of a slate.

    Args:
        sources: Who is asked.
        queries: B queries.
        item_index: (B, N) int32, the slates.
        failures: See `candidates_of`.

    Returns:
        Source name → (B, N) int32 items of the histories, -1 where there is no such reason.
    """
    reasons = {}
    for source in sources:
        reason = unless_it_fails(source.name, failures, partial(source.because, queries, item_index))
        if reason is not None:
            reasons[source.name] = reason
    return reasons


def _asked(
    source: CandidateSource[Any], queries: Queries, n: int, barred: Barred, *, few: int, is_few: BoolArray
) -> tuple[Opinion, list[IndexArray]]:
    """Return an opinion and its best items: ``few`` where (B,) ``is_few`` says so, ``n`` elsewhere."""
    opinion = source.ask(queries)
    if not is_few.any():
        return opinion, [opinion.best(n, barred)]
    head = opinion.best(few, barred)
    if is_few.all():
        return opinion, [head]
    rest = np.where(is_few[:, None], np.int32(PAD), opinion.best(n, barred))
    return opinion, [np.where(is_few[:, None], head, np.int32(PAD)), rest]


def unless_it_fails(name: str, failures: dict[str, int] | None, answer: Callable[[], T]) -> T | None:
    """Return an answer; None where it failed and failures are counted."""
    try:
        return answer()
    except Exception:
        if failures is None:
            raise
        failures[name] = failures.get(name, 0) + 1
        _log.exception("source %s failed and was skipped", name)
        return None


def _each_once(item_index: IndexArray) -> IndexArray:
    """Sort each row, drop doubles, and push the padding to the end."""
    ordered = np.sort(item_index.view(np.uint32), axis=1)  # -1 is the largest
    is_double = ordered[:, 1:] == ordered[:, :-1]
    ordered[:, 1:] |= is_double * _LAST
    ordered.sort(axis=1)
    width = int((ordered != _LAST).sum(axis=1).max(initial=0))
    return ordered[:, :width].view(np.int32)


_LAST = np.uint32(PAD & 0xFFFFFFFF)
