"""Asking every source, and joining what they propose."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from zhiyin.contracts import CandidateSource, Opinion
from zhiyin.domain import PAD, Barred, BoolArray, Candidates, FloatArray, IndexArray, Queries
from zhiyin.pipeline.stages import Stages

ONLY_NEW = "item:only_new"
"""Column of candidates: 1 for those that stand there for kept places alone, else 0; float32."""
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
        of_new: The same, and all items that are not new; each source then proposes some new items, too, but
            for those that fill what others leave empty. Where none has an opinion of any, the last of the
            catalogue are taken.
        stages: Runs ``propose NAME`` and ``score NAME`` of each source; those that fill what others leave
            empty are never passed over for being slow, and where there is no such source none is.

    Returns:
        (B, N) candidates, each item once, in the order of the item index; one column a source, with the
        source's score for every candidate, whoever proposed it. NaN throughout for a source done without.
        With ``of_new`` the column `ONLY_NEW` is 1 where an item was proposed as a new one and not otherwise.
    """
    needed = n_of_fallback or {source.name for source in sources}
    opinions: dict[str, Opinion] = {}
    proposals = [np.empty((len(queries), 0), dtype=np.int32)]
    has_enough = np.zeros(len(queries), dtype=np.bool_)
    # Right after a batch the interpreter is busy sending it; what computes by itself for long goes on then.
    for source in sorted(sources, key=lambda source: (source.name in n_of_fallback, source.in_short_steps)):
        few = n_of_fallback.get(source.name, n)
        ask = partial(_asked, source, queries, n, barred, few=few, is_few=has_enough & (few < n))
        label = f"propose {source.name}"
        asked = stages.run(source.name, ask, label=label, is_needed=source.name in needed)
        if asked is not None:
            opinions[source.name], proposed = asked
            proposals += proposed
            if source.name not in n_of_fallback:
                has_enough |= (proposed[0] != PAD).sum(axis=1) >= n
    usual = item_index = _each_once(np.concatenate(proposals, axis=1))
    if of_new is not None:
        learned = {name: opinion for name, opinion in opinions.items() if name not in n_of_fallback}
        new_ones = _new_ones(learned, of_new, stages, needed=needed)
        item_index = _each_once(np.concatenate([usual, new_ones], axis=1))
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
    if of_new is not None:
        columns[ONLY_NEW] = _missing_from(usual, item_index)
    return Candidates(item_index, columns)


def without_new(candidates: Candidates) -> Candidates:
    """Return the candidates without those that only places for new items brought in, as padding."""
    if ONLY_NEW not in candidates.columns:
        return candidates
    return candidates.without(candidates.column(ONLY_NEW) == 1)


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


def _new_ones(
    opinions: Mapping[str, Opinion], of_new: Barred, stages: Stages, *, needed: Collection[str]
) -> IndexArray:
    """Return (B, M) the best new items of every opinion; where none has any, the last of the catalogue."""
    proposals = [np.empty((of_new.n_queries, 0), dtype=np.int32)]
    for name, opinion in opinions.items():
        propose = partial(opinion.best, _NEW_ITEMS, of_new)
        found = stages.run(name, propose, label=f"propose {name}", is_needed=name in needed)
        if found is not None:
            proposals.append(found)
    best = np.concatenate(proposals, axis=1)
    return np.concatenate([best, _last_new(of_new, is_wanted=(best == PAD).all(axis=1))], axis=1)


def _last_new(of_new: Barred, *, is_wanted: BoolArray) -> IndexArray:
    """Return (B, M) the last new items of the catalogue for the (B,) queries that want them."""
    is_open = of_new.open_to_all
    last = np.arange(of_new.n_items)[-_NEW_ITEMS:] if is_open is None else is_open[-_NEW_ITEMS:]
    rows = np.where(is_wanted[:, None], last.astype(np.int32), np.int32(PAD))
    return np.where(of_new.holds(rows), np.int32(PAD), rows)


def _missing_from(usual: IndexArray, item_index: IndexArray) -> FloatArray:
    """Return (B, N) float32, 1 for items that are not among (B, M) others; padding is 0."""
    stride = np.int64(max(int(item_index.max(initial=0)), int(usual.max(initial=0))) + 2)
    row = np.arange(len(item_index))[:, None] * stride
    is_missing: BoolArray = (item_index != PAD) & ~np.isin(item_index + row, usual + row)
    return is_missing.astype(np.float32)


def _each_once(item_index: IndexArray) -> IndexArray:
    """Sort each row, drop doubles, and push the padding to the end."""
    ordered = np.sort(item_index.view(np.uint32), axis=1)  # -1 is the largest
    is_double = ordered[:, 1:] == ordered[:, :-1]
    ordered[:, 1:] |= is_double * _LAST
    ordered.sort(axis=1)
    width = int((ordered != _LAST).sum(axis=1).max(initial=0))
    return ordered[:, :width].view(np.int32)


_LAST = np.uint32(PAD & 0xFFFFFFFF)
