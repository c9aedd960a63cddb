"""Asking every source, and joining what they propose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from zhiyin.contracts import CandidateSource, Opinion
from zhiyin.domain import PAD, Barred, BoolArray, Candidates, IndexArray, Queries
from zhiyin.pipeline.stages import Stages

_NEW_ITEMS = 10
"""What each source proposes for the places that are kept for new items: as many as can be kept at all."""


def candidates_of(
    sources: Sequence[CandidateSource[Any]],
    queries: Queries,
    n: int,
    barred: Barred,
    stages: Stages,
    *,
    n_of_fallback: Mapping[str, int],
    of_new: Barred | None = None,
) -> Candidates:
    """Join the best allowed items of every source.

    Args:
        sources: Who is asked; each reads the histories once.
        queries: B queries.
        n: Items each source proposes.
        n_of_fallback: Source name → how many it proposes to a query for which another source has proposed
            ``n``; such sources fill what the others leave empty.
        barred: What may not be shown.
        of_new: The same, and all items that are not new; each source then proposes some new items, too.
        stages: Runs ``propose NAME`` and ``score NAME`` of each source; those that fill what others leave
            empty are never passed over for being slow, and where there is no such source none is.

    Returns:
        (B, N) candidates, each item once, in the order of the item index; one column a source, with the
        source's score for every candidate, whoever proposed it. NaN throughout for a source done without.
    """
    needed = n_of_fallback or {source.name for source in sources}
    opinions: dict[str, Opinion] = {}
    proposals = [np.empty((len(queries), 0), dtype=np.int32)]
    has_enough = np.zeros(len(queries), dtype=np.bool_)
    # Right after a batch the interpreter is busy sending it; what computes by itself for long goes on then.
    for source in sorted(sources, key=lambda source: (source.name in n_of_fallback, source.in_short_steps)):
        few = n_of_fallback.get(source.name, n)
        ask = partial(
            _asked, source, queries, n, barred, few=few, is_few=has_enough & (few < n), of_new=of_new
        )
        label = f"propose {source.name}"
        asked = stages.run(source.name, ask, label=label, is_needed=source.name in needed)
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
            score = partial(opinions[source.name].at, item_index)
            label = f"score {source.name}"
            column = stages.run(source.name, score, label=label, is_needed=source.name in needed)
        if column is None:
            column = np.full(item_index.shape, np.nan, dtype=np.float32)
        columns[source.name] = column
    return Candidates(item_index, columns)


def ask_reasons(
    sources: Sequence[CandidateSource[Any]],
    queries: Queries,
    item_index: IndexArray,
    stages: Stages,
) -> dict[str, IndexArray]:
    """Let every source name what speaks for the items of a slate.

    Args:
        sources: Who is asked.
        queries: B queries.
        item_index: (B, N) int32, the slates.
        stages: See `candidates_of`.

    Returns:
        Source name → (B, N) int32 items of the histories, -1 where there is no such reason.
    """
    reasons = {}
    for source in sources:
        because = partial(source.because, queries, item_index)
        reason = stages.run(source.name, because, label=f"reason {source.name}")
        if reason is not None:
            reasons[source.name] = reason
    return reasons


def _asked(
    source: CandidateSource[Any],
    queries: Queries,
    n: int,
    barred: Barred,
    *,
    few: int,
    is_few: BoolArray,
    of_new: Barred | None,
) -> tuple[Opinion, list[IndexArray]]:
    """Return an opinion and its best items: ``few`` where (B,) ``is_few`` says so, ``n`` elsewhere."""
    opinion = source.ask(queries)
    if not is_few.any():
        proposed = [opinion.best(n, barred)]
    else:
        head = opinion.best(few, barred)
        proposed = [head]
        if not is_few.all():
            rest = np.where(is_few[:, None], np.int32(PAD), opinion.best(n, barred))
            proposed = [np.where(is_few[:, None], head, np.int32(PAD)), rest]
    if of_new is not None:
        proposed.append(opinion.best(_NEW_ITEMS, of_new))
    return opinion, proposed


def _each_once(item_index: IndexArray) -> IndexArray:
    """Sort each row, drop doubles, and push the padding to the end."""
    ordered = np.sort(item_index.view(np.uint32), axis=1)  # -1 is the largest
    is_double = ordered[:, 1:] == ordered[:, :-1]
    ordered[:, 1:] |= is_double * _LAST
    ordered.sort(axis=1)
    width = int((ordered != _LAST).sum(axis=1).max(initial=0))
    return ordered[:, :width].view(np.int32)


_LAST = np.uint32(PAD & 0xFFFFFFFF)
