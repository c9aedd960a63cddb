"""Each decision where the truth is known, and the words it is told in."""

import json

import numpy as np
import pytest

from zhiyin.domain.errors import ConfigError, RequestError
from zhiyin.evaluation.live.judging import judge
from zhiyin.evaluation.live.ledger import LATE, read_ledger
from zhiyin.evaluation.live.measures import measure
from zhiyin.evaluation.live.planning import share_mismatch, users_needed
from zhiyin.evaluation.live.question import GuardRail, MeasuringSettings, Question
from zhiyin.evaluation.live.report_page import render_page, write_page
from zhiyin.evaluation.live.report_text import render_text
from zhiyin.evaluation.live.sequences import half_width, mixing_precision
from zhiyin.evaluation.live.verdict import Decision, RailState, TrialReport

RULES = MeasuringSettings(planned_users=3_000, least_users=100, worth_while=0.1)


def fill(
    memory,
    rates: dict[str, float],
    *,
    n_users: int = 3_000,
    empty: dict[str, float] | None = None,
    late: dict[str, float] | None = None,
    seed: int = 0,
):
    """Users of equally large arms who see two slates each and click at the arm's rate."""
    rng = np.random.default_rng(seed)
    arms = list(rates)
    for user in range(n_users):
        arm = arms[int(rng.integers(len(arms)))]
        habit = rng.gamma(4, 0.25)
        for visit in range(2):
            at = 1_000 + 10 * user + 5 * visit
            if late and rng.random() < late.get(arm, 0.0):
                memory.show(f"u{user}", at, ("x",), arm + LATE)
                continue
            is_empty = rng.random() < (empty or {}).get(arm, 0.0)
            memory.show(f"u{user}", at, () if is_empty else ("x", "y"), arm)
            if not is_empty and rng.random() < min(habit * rates[arm], 1):
                memory.act(f"u{user}", "x", at + 1)
    return memory


def judged(memory, rates: dict[str, float], *, rails=(), shares=None, rules=RULES, **others) -> TrialReport:
    shares = shares or dict.fromkeys(rates, 1 / len(rates))
    control = next(iter(rates))
    question = Question("e", shares, control, "ctr", 500, None, tuple(rails), measuring=rules, **others)
    return judge(read_ledger(memory, question, 40_000), question)


def test_a_better_arm_is_shipped(memory) -> None:
    rates = {"now": 0.2, "new": 0.3}
    report = judged(fill(memory, rates), rates, rails=[GuardRail(metric="empty_slates", worst_change=0.1)])
    assert report.decision is Decision.SHIP
    found = report.comparisons[0]
    assert found.difference.low < 0.1 < found.difference.high
    assert found.p_value < 0.05
    assert report.sentence.startswith("Ship 'new': ctr of 'new' is 0.")
    assert report.guard_rails[0].state is RailState.HELD  # nobody ever saw an empty slate


def test_a_worse_arm_is_not(memory) -> None:
    rates = {"now": 0.3, "new": 0.2}
    report = judged(fill(memory, rates), rates)
    assert report.decision is Decision.KEEP
    assert "Keep 'now'" in report.sentence


def test_equal_arms_go_on_until_nothing_worth_while_can_be_left(memory) -> None:
    rates = {"now": 0.5, "new": 0.5}
    few = judged(fill(memory, rates, n_users=400), rates)
    assert few.decision is Decision.GO_ON
    assert few.advice.users_per_arm > 400
    assert "more days" in few.sentence
    many = judged(
        fill(type(memory)(), rates, n_users=6_000), rates, rules=RULES.model_copy(update={"worth_while": 0.2})
    )
    assert many.decision is Decision.KEEP
    assert "no arm can be better" in many.sentence


def test_a_broken_guard_rail_stops_even_the_better_arm(memory) -> None:
    rates = {"now": 0.2, "new": 0.4}
    fill(memory, rates, empty={"now": 0.1, "new": 0.25})
    report = judged(memory, rates, rails=[GuardRail(metric="empty_slates", worst_change=0.2)])
    assert report.decision is Decision.STOP
    assert report.guard_rails[0].state is RailState.BROKEN
    assert report.guard_rails[0].worst_likely > 0.2
    assert "Stop 'new': empty_slates is 0.2" in report.sentence


def test_an_open_guard_rail_holds_the_winner_back(memory) -> None:
    rates = {"now": 0.2, "new": 0.3}
    fill(memory, rates, empty={"now": 0.05, "new": 0.05})
    report = judged(memory, rates, rails=[GuardRail(metric="empty_slates", worst_change=0.02)])
    assert report.decision is Decision.GO_ON
    assert "not yet certain that empty_slates did not suffer" in report.sentence
    wide = judged(memory, rates, rails=[GuardRail(metric="empty_slates", worst_change=1.0)])
    assert wide.guard_rails[0].state is RailState.HELD
    assert wide.decision is Decision.SHIP


@pytest.mark.parametrize(
    ("slow", "worst_change", "state"),
    [(0.1, 0.9, RailState.HELD), (0.4, 0.2, RailState.BROKEN), (0.11, 0.02, RailState.OPEN)],
)
def test_slow_answers_are_those_in_whose_place_another_slate_stood(
    memory, slow: float, worst_change: float, state: RailState
) -> None:
    rates = {"now": 0.2, "new": 0.2}
    fill(memory, rates, late={"now": 0.1, "new": slow})
    report = judged(memory, rates, rails=[GuardRail(metric="slow_answers", worst_change=worst_change)])
    [rail] = report.guard_rails
    assert rail.state is state
    assert (rail.control_value, rail.arm_value) == pytest.approx((0.1, slow), abs=0.02)
    assert sum(arm.n_slates for arm in report.arms) < 2 * 3_000, "what stood in is no slate of an arm"
    assert sum(arm.n_users for arm in report.arms) == 3_000


def test_an_arm_of_which_nothing_is_in_time_is_stopped_and_loses_no_users(memory) -> None:
    rates = {"now": 0.2, "new": 0.3}
    fill(memory, rates, late={"new": 1.0})
    report = judged(memory, rates, rails=[GuardRail(metric="slow_answers", worst_change=0.1)])
    assert report.decision is Decision.STOP
    assert "slow_answers is 1.00 against 0.0000 of the control" in report.sentence
    assert report.share_p_value > 0.001


def test_slow_answers_that_nobody_noted_hold_no_decision_back(memory) -> None:
    rates = {"now": 0.2, "new": 0.3}
    slow = GuardRail(metric="slow_answers", worst_change=0.1)
    fill(memory, rates)
    alone = judged(memory, rates, rails=[slow], knows_slow_answers=False)
    assert alone.decision is Decision.SHIP
    assert alone.sentence.endswith("; slow_answers was not counted.")
    assert alone.guard_rails[0].state is RailState.UNKNOWN
    assert alone.to_json()["guard_rails"][0]["arm_value"] is None
    for text in (render_text(alone), render_page(alone)):
        assert "Slow answers are not known" in text
        assert "unknown" in text
    empty = GuardRail(metric="empty_slates", worst_change=0.1)
    both = judged(memory, rates, rails=[slow, empty], knows_slow_answers=False)
    assert both.sentence.endswith("and every guard-rail held; slow_answers was not counted.")
    known = judged(memory, rates, rails=[slow])
    assert known.sentence.endswith("and every guard-rail held.")
    assert "not known" not in render_text(known)


def test_guard_rails_rarely_break_where_nothing_is_wrong(memory) -> None:
    rates = {"now": 0.3, "new": 0.3}
    rails = [
        GuardRail(metric="ctr", worst_change=0.001),
        GuardRail(metric="empty_slates", worst_change=0.001),
    ]
    broken = 0
    for seed in range(20):
        store = fill(type(memory)(), rates, n_users=500, empty={"now": 0.1, "new": 0.1}, seed=seed)
        broken += judged(store, rates, rails=rails).decision is Decision.STOP
    assert broken <= 2


def test_arms_that_lost_users_are_not_judged(memory) -> None:
    rates = {"now": 0.2, "new": 0.4}
    report = judged(fill(memory, rates), rates, shares={"now": 0.45, "new": 0.55})
    assert report.share_p_value < 0.001
    assert report.decision is Decision.REFUSED
    assert "were expected" in report.sentence


def test_several_arms_are_corrected_and_the_best_is_shipped(memory) -> None:
    rates = {"now": 0.2, "same": 0.2, "good": 0.28, "best": 0.36}
    report = judged(fill(memory, rates, n_users=5_000), rates)
    assert report.decision is Decision.SHIP
    assert report.sentence.startswith("Ship 'best'")
    found = {one.arm: one for one in report.comparisons}
    assert found["same"].p_value > 0.05
    assert max(found["best"].p_value, found["good"].p_value) < 0.05
    raw = found["same"].looks[-1].p_value
    assert found["same"].p_value >= raw


def test_too_few_users_conclude_nothing(memory) -> None:
    rates = {"now": 0.05, "new": 0.9}
    report = judged(fill(memory, rates, n_users=150), rates)
    assert report.decision is Decision.GO_ON
    assert "nothing is concluded below 100" in report.sentence


def test_a_report_of_one_moment_is_the_look_of_that_moment(memory) -> None:
    """Whoever looked earlier saw what the picture shows."""
    rates = {"now": 0.2, "new": 0.3}
    fill(memory, rates)
    whole = judged(memory, rates)
    moment = whole.comparisons[0].looks[24]
    question = Question("e", {"now": 0.5, "new": 0.5}, "now", "ctr", 500, measuring=RULES)
    then = judge(read_ledger(memory, question, moment.time, n_looks=25), question).comparisons[0]
    assert then.difference.value == pytest.approx(moment.difference.value)


def test_shares_by_hand() -> None:
    assert share_mismatch([500, 500], [0.5, 0.5]) == 1.0
    assert share_mismatch([5_321, 4_679], [0.5, 0.5]) < 1e-9
    assert share_mismatch([1_010, 990], [0.5, 0.5]) == pytest.approx(0.6547, abs=1e-4)
    assert share_mismatch([0, 0], [0.5, 0.5]) == 1.0


def test_advice_is_what_it_takes() -> None:
    """With as many users as advised, the change is found about four times in five."""
    needed = users_needed(0.2, 0.4, 0.25)
    assert users_needed(0.2, 0.4, 0.125) == pytest.approx(4 * needed, rel=0.01)
    assert needed > 2 * (0.4 * (1.96 + 0.84) / 0.05) ** 2  # one look needs fewer
    error = 0.4 * np.sqrt(2 / needed)
    width = half_width(error, needed, alpha=0.05, precision=mixing_precision(0.05, needed))
    found = np.random.default_rng(0).normal(0.05, error, 4_000) > width
    assert abs(found.mean() - 0.8) < 0.03
    with pytest.raises(RequestError, match="above 0"):
        users_needed(0.0, 0.4, 0.25)


def test_the_report_is_told_as_text_page_and_json(memory, tmp_path) -> None:
    rates = {"now": 0.2, "<b>new</b>": 0.3}
    rail = GuardRail(metric="empty_slates", worst_change=0.1)
    report = judged(fill(memory, rates), rates, rails=[rail])
    text = render_text(report)
    assert report.sentence in text
    assert "empty_slates  <b>new</b>" in text
    page = write_page(report, tmp_path / "report.html").read_text("utf-8")
    assert page == render_page(report)
    assert "&lt;b&gt;new&lt;/b&gt;" in page
    assert "<b>new</b>" not in page
    assert page.count("<svg") == 1
    assert "http://" not in page
    assert "https://" not in page
    read = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert read["decision"] == "ship"
    assert read["comparisons"][0]["change"]["value"] == pytest.approx(report.comparisons[0].change.value)
    assert read["comparisons"][0]["looks"][0]["difference"]["low"] is None  # nothing was known yet
    assert len(read["comparisons"][0]["looks"]) == 50


def test_a_misspelt_metric_is_named() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'conversion'"):
        measure("conversions")
