"""From a ledger to a report: intervals, guard-rails and the decision."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from zhiyin.evaluation.intervals import Interval
from zhiyin.evaluation.live.deciding import decide
from zhiyin.evaluation.live.ledger import MIXED, Ledger
from zhiyin.evaluation.live.measures import MEASURES, PREFERENCE, SLOW_ANSWERS, Measure
from zhiyin.evaluation.live.moments import Contrast, Moments, contrast
from zhiyin.evaluation.live.planning import Advice, expected_shares, share_mismatch, users_needed
from zhiyin.evaluation.live.question import GuardRail, Question
from zhiyin.evaluation.live.sequences import (
    always_valid_p,
    half_width,
    holm,
    information,
    mixing_precision,
    one_sided_margin,
)
from zhiyin.evaluation.live.verdict import (
    ArmFigures,
    Comparison,
    Decision,
    Look,
    RailResult,
    RailState,
    TrialReport,
)

Array = npt.NDArray[np.float64]
_DAY = 86_400


def judge(ledger: Ledger, question: Question) -> TrialReport:
    """Say what an experiment has shown.

    Args:
        ledger: From `zhiyin.evaluation.live.ledger.read_ledger`.
        question: What was asked.
    """
    return _Judge(ledger, question).report()


class _Judge:
    def __init__(self, ledger: Ledger, question: Question) -> None:
        self.ledger = ledger
        self.question = question
        self.rules = question.measuring
        self.measure = PREFERENCE if question.is_interleaving else MEASURES[question.metric]
        alone = PREFERENCE if question.is_interleaving else SLOW_ANSWERS
        self.moments = {measure.name: ledger.moments(measure) for measure in (*MEASURES.values(), alone)}

    def report(self) -> TrialReport:
        question, ledger = self.question, self.ledger
        comparisons = self._comparisons(self.measure)
        rails = tuple(
            self._rail(rail, arm) for rail in question.guard_rails for arm in range(1, len(ledger.arms))
        )
        report = TrialReport(
            name=question.name,
            kind="interleaving" if question.is_interleaving else "ab",
            metric=self.measure.name,
            control=question.control,
            start=question.start,
            until=int(ledger.look_times[-1]),
            decision=Decision.GO_ON,
            sentence="",
            arms=self._arms(),
            comparisons=comparisons,
            guard_rails=rails,
            others=self._others(),
            share_p_value=self._share_p_value(),
            n_moved=ledger.n_moved,
            advice=self._advice(),
        )
        decision, sentence = decide(report, self.rules)
        return replace(report, decision=decision, sentence=sentence)

    def _comparisons(self, measure: Measure) -> tuple[Comparison, ...]:
        if self.question.is_interleaving:
            rival = next(arm for arm in self.question.shares if arm != self.question.control)
            return (self._compare(measure, np.ones(1), rival, 1),)
        n_arms = len(self.ledger.arms)
        found = [
            self._compare(measure, _against(arm, n_arms), self.ledger.arms[arm], n_arms - 1)
            for arm in range(1, n_arms)
        ]
        corrected = holm([comparison.p_value for comparison in found]).tolist()
        return tuple(replace(one, p_value=p) for one, p in zip(found, corrected, strict=True))

    def _compare(self, measure: Measure, weights: Array, arm: str, n_rivals: int) -> Comparison:
        moments = self.moments[measure.name]
        found = self._contrast(moments, weights, adjust=self.rules.use_history and bool(measure.before))
        alpha = self.rules.alpha / n_rivals
        precision = mixing_precision(alpha, self.rules.planned_users)
        informed = information(found.standard_error, found.weight, found.n_users)
        width = half_width(found.standard_error, informed, alpha=alpha, precision=precision)
        p_value = always_valid_p(found.estimate, found.standard_error, informed, precision=precision)
        looks = tuple(
            Look(
                int(time), int(n), Interval(float(value), float(value - half), float(value + half)), float(p)
            )
            for time, n, value, half, p in zip(
                self.ledger.look_times, found.n_users, found.estimate, width, p_value, strict=True
            )
        )
        ratio = moments.ratio()[:, -1]
        is_mixed = self.question.is_interleaving
        arm_value = float(ratio[0] if is_mixed else ratio[self.ledger.arms.index(arm)])
        control_value = 0.0 if is_mixed else float(ratio[0])
        return Comparison(
            measure.name, arm, control_value, arm_value, looks[-1].difference, looks[-1].p_value, looks
        )

    def _contrast(self, moments: Moments, weights: Array, *, adjust: bool) -> Contrast:
        """As `contrast`; nothing is known while an arm has too few users."""
        found = contrast(moments, weights, adjust=adjust)
        least = moments.n_users[np.flatnonzero(weights)].min(axis=0)
        error = np.where(least >= self.rules.least_users, found.standard_error, np.nan)
        return replace(found, standard_error=error)

    def _rail(self, rail: GuardRail, arm: int) -> RailResult:
        """Test whether an arm is worse than the control by more than is accepted.

        With R the metric and δ the worst change, g = R_arm - (1 - δ) R_control where higher is better and
        (1 + δ) R_control - R_arm where lower is: below 0, the guard-rail is broken. Held needs g above 0 with
        error α, for each rail; to call any of them broken the errors of all share α.
        """
        measure = SLOW_ANSWERS if rail.metric == SLOW_ANSWERS.name else MEASURES[rail.metric]
        if measure is SLOW_ANSWERS and not self.question.knows_slow_answers:
            unknown = (math.nan, math.nan, rail.worst_change, math.nan, RailState.UNKNOWN)
            return RailResult(measure.name, self.ledger.arms[arm], *unknown)
        moments = self.moments[measure.name]
        sign = 1.0 if measure.higher_is_better else -1.0
        weights = np.zeros(len(self.ledger.arms))
        weights[arm], weights[0] = sign, -sign * (1.0 - sign * rail.worst_change)
        found = self._contrast(moments, weights, adjust=self.rules.use_history and bool(measure.before))
        informed = information(found.standard_error, found.weight, found.n_users)
        n_tests = len(self.question.guard_rails) * (len(self.ledger.arms) - 1)
        precision = mixing_precision(self.rules.alpha, self.rules.planned_users)
        low, high = (
            one_sided_margin(found.standard_error, informed, alpha=alpha, precision=precision)
            for alpha in (self.rules.alpha, self.rules.alpha / n_tests)
        )
        ratio = moments.ratio()[:, -1]
        control, value = float(ratio[0]), float(ratio[arm])
        worst_likely = (
            rail.worst_change - float(found.estimate[-1] - low[-1]) / control if control else np.nan
        )
        state, is_plain = RailState.OPEN, self._is_plain(found, moments, arm)
        if (found.estimate + high < 0).any() or (is_plain and found.estimate[-1] < 0):
            state = RailState.BROKEN
        elif found.estimate[-1] - low[-1] >= 0 or is_plain:
            state = RailState.HELD
        return RailResult(
            measure.name, self.ledger.arms[arm], control, value, rail.worst_change, float(worst_likely), state
        )

    def _is_plain(self, found: Contrast, moments: Moments, arm: int) -> bool:
        """Whether all users say the same, enough to tell, so that chance has no share in it.

        No empty slate in either arm, for one; or one arm whose every answer is slow.
        """
        enough = moments.n_users[[0, arm], -1] >= max(self.rules.least_users, 2)
        return bool(enough.all() and np.isfinite(found.estimate[-1]) and np.isnan(found.standard_error[-1]))

    def _others(self) -> tuple[Comparison, ...]:
        if self.question.is_interleaving:
            return ()
        n_arms = len(self.ledger.arms)
        return tuple(
            _without_past(self._compare(measure, _against(arm, n_arms), self.ledger.arms[arm], 1))
            for measure in MEASURES.values()
            if measure is not self.measure
            for arm in range(1, n_arms)
        )

    def _arms(self) -> tuple[ArmFigures, ...]:
        slates = self.moments["empty_slates"]
        return tuple(
            ArmFigures(
                arm,
                1.0 if arm == MIXED else expected_shares(self.question.shares, self.ledger.arms)[place],
                int(slates.n_users[place, -1]),
                int(slates.first[place, -1, 1]),
                self.ledger.n_items_shown[place],
            )
            for place, arm in enumerate(self.ledger.arms)
        )

    def _share_p_value(self) -> float:
        if self.question.is_interleaving:
            return 1.0
        shares = expected_shares(self.question.shares, self.ledger.arms)
        return share_mismatch(self.moments[self.measure.name].n_users[:, -1].tolist(), shares)

    def _advice(self) -> Advice | None:
        if self.question.is_interleaving:
            return None
        moments = self.moments[self.measure.name]
        control = np.eye(len(self.ledger.arms))[0]
        alone = contrast(moments, control, adjust=False)
        mean, n_users = float(alone.estimate[-1]), float(alone.n_users[-1])
        deviation = float(alone.standard_error[-1]) * max(n_users - 1.0, 0.0) ** 0.5
        if not (mean > 0 and deviation > 0):
            return None
        needed = users_needed(mean, deviation, self.rules.worth_while, alpha=self.rules.alpha)
        days = (self.ledger.look_times[-1] - self.question.start) / _DAY
        rate = n_users / days if days > 0 else np.nan
        return Advice(self.rules.worth_while, needed, float(max(needed - n_users, 0.0) / rate))


def _without_past(one: Comparison) -> Comparison:
    return replace(one, looks=one.looks[-1:])


def _against(arm: int, n_arms: int) -> Array:
    """(A,) float64: an arm minus the control, which is the first."""
    weights: Array = np.zeros(n_arms)
    weights[[arm, 0]] = 1.0, -1.0
    return weights
