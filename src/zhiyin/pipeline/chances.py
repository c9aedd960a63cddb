"""From scores that order well to the chance that an item comes next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from zhiyin.contracts import SCORE, ComponentState
from zhiyin.domain import BoolArray, Candidates, FloatArray, IndexArray
from zhiyin.pipeline.circumstances import Circumstances
from zhiyin.pipeline.merge import Merge

_FEWEST_FOUND = 20
"""Examples whose target was proposed; with fewer, nothing is said rather than something wrong."""
_BENDS = (0.5, 0.9, 0.99)
"""Shares of the candidates whose scores lie below each place where the slope may change."""
_LEAST_SLOPE = 1e-3
"""No slope falls below it, so that the order of the scores stays."""
_STRAIGHT = 20.0
"""Examples' worth of the belief that the line has no bends: the last pieces rest on few scores."""
_ELSEWHERE_LIMIT = 60.0
_FAR = 1e6
"""Scores that lie further than this from a bend count as so far."""

_QUERIES_AT_ONCE = 512
"""Queries whose candidates are scored at once while chances are fitted."""

_Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Chances:
    """Turns the scores of all candidates of a query into chances, without touching their order.

    With scores s over the N candidates of a query, and a rising line g of a few straight pieces::

        chance[i] = exp(g(s[i])) / (exp(elsewhere) + Σ_j exp(g(s[j])))

    ``elsewhere`` stands for whatever was not proposed, so chances of a query sum to less than 1. The weights
    of the merge were chosen for the order at the top; slopes and ``elsewhere`` are fitted afterwards, by
    likelihood. With one piece it is temperature scaling (Guo et al., "On Calibration of Modern Neural
    Networks", 2017) with an outside option (McFadden, "Conditional logit analysis of qualitative choice
    behavior", 1974).

    Attributes:
        bends: Scores at which the slope changes, rising; K - 1 of them.
        slopes: K slopes above 0, that of the lowest scores first.
        elsewhere: Logit of everything that is no candidate.
    """

    bends: tuple[float, ...]
    slopes: tuple[float, ...]
    elsewhere: float

    @classmethod
    def fitted(cls, scores: FloatArray, is_item: BoolArray, is_target: BoolArray) -> Self | None:
        """Fit slopes and ``elsewhere``; None where too few targets were proposed to learn them from.

        Args:
            scores: (B, N) float32, of queries that the scores were not fitted on.
            is_item: (B, N) bool, False for padding.
            is_target: (B, N) bool, at most one a row: the item that came next. A row without one came from
                elsewhere.
        """
        if is_target.sum() < _FEWEST_FOUND:
            return None
        bends: _Numbers = np.quantile(scores[is_item], _BENDS).astype(np.float64)
        answers = _Answers(np.where(is_item, scores, 0.0), bends, is_item, is_target)
        best = minimize(
            answers.loss,
            np.append(np.ones(len(bends) + 1), np.log(is_item.sum(axis=1).mean())),
            jac=True,
            method="L-BFGS-B",
            bounds=[(_LEAST_SLOPE, None)] * (len(bends) + 1) + [(-_ELSEWHERE_LIMIT, _ELSEWHERE_LIMIT)],
        )
        *slopes, elsewhere = best.x.tolist()
        return cls(tuple(bends.tolist()), tuple(slopes), elsewhere)

    def of(self, candidates: Candidates) -> FloatArray:
        """Return (B, N) float32 from 0 to 1, NaN for padding; N are all candidates of the merge, not a slate.

        Args:
            candidates: (B, N) with ``score`` as the merge wrote it.
        """
        logits = np.interp(candidates.column(SCORE), *self._line)
        highest = np.fmax.reduce(logits, axis=1, initial=self.elsewhere, keepdims=True)
        odds = np.exp(logits - highest)
        total = np.add.reduce(odds, axis=1, where=candidates.is_item, keepdims=True)
        total += np.exp(self.elsewhere - highest)
        chances: FloatArray = (odds / total).astype(np.float32)
        return chances

    @cached_property
    def _line(self) -> tuple[_Numbers, _Numbers]:
        """Corners of g, from far below the first bend, where it is 0, to far above the last."""
        scores = np.array([self.bends[0] - _FAR, *self.bends, self.bends[-1] + _FAR])
        steps = np.diff(scores) * self.slopes
        return scores, np.concatenate([[-steps[0], 0.0], np.cumsum(steps[1:])])

    def state(self) -> ComponentState:
        """Return all numbers."""
        return ComponentState({}, asdict(self))

    @classmethod
    def from_state(cls, state: ComponentState) -> Self:
        """Read what `state` returned."""
        facts = state.facts
        bends, slopes = (tuple(map(float, facts[name])) for name in ("bends", "slopes"))
        return cls(bends, slopes, float(facts["elsewhere"]))


def scores_unseen(
    merge: Merge,
    candidates: Candidates,
    targets: IndexArray,
    circumstances: Circumstances,
    *,
    penalty: float,
    seed: int,
) -> FloatArray:
    """Return scores of examples by weights that have not seen them: each half by the weights of the other.

    Weights of a half may be larger or smaller than those of all examples, and `Chances` reads all scores on
    one scale. So each score by the weights of a half becomes the one that stands as high among all scores by
    the weights of all.

    Args:
        merge: Fitted on all examples; it stays as it is.
        candidates: (B, N) with one column a source.
        targets: (B,) int32, the item that came next.
        circumstances: Of these candidates.
        penalty: See `Merge.fit`.
        seed: Of the halves.

    Returns:
        (B, N) float32.
    """
    whole = _scores(merge, candidates, circumstances)
    if not merge.learns or not candidates.is_item.any():
        return whole
    is_found = (candidates.item_index == targets[:, None]).any(axis=1)
    is_first = np.random.default_rng(seed).permutation(len(targets)) % 2 == 0
    unseen = np.empty_like(whole)
    for kept in (is_first, ~is_first):
        half = copy(merge)
        half.weights = merge.weights.copy()
        read = kept & is_found  # nothing else is learned from, and need not be copied
        part = candidates.of_queries(read)
        half.fit(part, targets[read], circumstances.of_queries(read), penalty=penalty)
        scores = _scores(half, candidates, circumstances)
        others = np.flatnonzero(~kept)
        rising, rising_by_all = _rising(scores), _rising(whole)
        for start in range(0, len(others), _QUERIES_AT_ONCE):
            rows = others[start : start + _QUERIES_AT_ONCE]
            unseen[rows] = _stand_alike(scores[rows], rising, rising_by_all)
    return unseen


def _stand_alike(scores: FloatArray, rising: FloatArray, other: FloatArray) -> FloatArray:
    """Return, for scores (b, N) among (M,) rising ones, which of (M,) others stands as high; NaN stays.

    Equal scores stand in the middle of their places.
    """
    place = np.searchsorted(rising, scores) + np.searchsorted(rising, scores, side="right") - 1
    place = np.minimum(place // 2, len(rising) - 1)
    return np.where(np.isnan(scores), np.float32(np.nan), other[place])


def _scores(merge: Merge, candidates: Candidates, circumstances: Circumstances) -> FloatArray:
    """Score (B, N) candidates, some queries at a time: only the scores are kept."""
    scores = np.empty(candidates.item_index.shape, dtype=np.float32)
    for start in range(0, len(candidates), _QUERIES_AT_ONCE):
        rows = slice(start, start + _QUERIES_AT_ONCE)
        merged = merge.apply(candidates.of_queries(rows), circumstances.of_queries(rows))
        scores[rows] = merged.column(SCORE)
    return scores


def _rising(scores: FloatArray) -> FloatArray:
    """All scores of (B, N), smallest first, without padding."""
    return np.sort(scores[~np.isnan(scores)])


def _pieces(scores: FloatArray, bends: Sequence[float]) -> Iterator[FloatArray]:
    """Yield K times (B, N): how far each score reaches into each piece, counted from the first bend."""
    edges = np.asarray(bends, dtype=scores.dtype)
    yield np.minimum(scores - edges[0], 0)
    for low, high in pairwise(edges):
        yield np.clip(scores - low, 0, high - low)
    yield np.maximum(scores - edges[-1], 0)


class _Answers:
    """Scores with a known answer.

    Args:
        scores: (B, N), anything for padding.
        bends: (K - 1,) where slopes change.
        is_item: (B, N) bool.
        is_target: (B, N) bool.
    """

    def __init__(self, scores: FloatArray, bends: _Numbers, is_item: BoolArray, is_target: BoolArray) -> None:
        self._scores, self._bends, self._is_padding = scores, bends.tolist(), ~is_item
        self._found = is_target.any(axis=1)
        self._one_example = float(scores[is_item].var())
        self._of_target = np.zeros((len(scores), len(bends) + 1))
        self._of_target[self._found] = self._pieces_of(scores[is_target])

    def loss(self, numbers: _Numbers) -> tuple[float, _Numbers]:
        """Return the sum of the negative log-likelihood for K slopes and ``elsewhere``, and its gradient.

        The belief that scores are log odds as they are weighs as much as an example, the belief in a straight
        line as much as `_STRAIGHT`. One more example came from elsewhere, a part of it in every query:
        nothing is ever told for certain.
        """
        slopes, elsewhere = numbers[:-1], numbers[-1]
        of_any, expected = np.empty(len(self._of_target)), np.zeros(len(slopes))
        for start in range(0, len(of_any), _QUERIES_AT_ONCE):
            rows = slice(start, start + _QUERIES_AT_ONCE)
            of_any[rows], expected_here = self._of_all(rows, slopes, elsewhere)
            expected += expected_here
        share = np.exp(elsewhere - of_any)
        of_next = np.where(self._found, self._of_target @ slopes, elsewhere)
        loss = float((of_any - of_next).sum() + (of_any - elsewhere).mean())
        away, turns = slopes - 1, np.diff(slopes)
        loss += 0.5 * self._one_example * float((away**2).sum() + _STRAIGHT * (turns**2).sum())
        by_slopes = expected * (1 + 1 / len(share)) - self._of_target.sum(axis=0)
        by_slopes += self._one_example * (away - _STRAIGHT * np.diff(turns, prepend=0.0, append=0.0))
        by_elsewhere = float((share - ~self._found).sum() + share.mean() - 1)
        return loss, np.append(by_slopes, by_elsewhere)

    def _of_all(self, rows: slice, slopes: _Numbers, elsewhere: float) -> tuple[_Numbers, _Numbers]:
        """Return (b,) the logarithm of all odds of some queries, and (K,) the pieces expected in them."""
        pieces = self._pieces_of(self._scores[rows])
        odds = pieces @ slopes
        odds[self._is_padding[rows]] = -np.inf
        highest = np.maximum(odds.max(axis=1, initial=-np.inf), elsewhere)
        odds -= highest[:, None]
        np.exp(odds, out=odds)
        total = odds.sum(axis=1) + np.exp(elsewhere - highest)
        odds /= total[:, None]
        return highest + np.log(total), odds.ravel() @ pieces.reshape(-1, len(slopes))

    def _pieces_of(self, scores: FloatArray) -> _Numbers:
        """Return (…, K): how far each score reaches into each piece."""
        return np.stack(list(_pieces(scores.astype(np.float64), self._bends)), axis=-1)
