"""The live click rate after courses of events whose rate is known."""

import random
import tracemalloc
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zhiyin.online.click_rate import INTERLEAVED, NO_EXPERIMENT, ClickRate, ClickRateSettings, Outcome


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def rate(clock: Clock) -> ClickRate:
    return ClickRate(clock=clock)


def test_a_slate_counts_once_however_often_it_is_clicked(rate: ClickRate, clock: Clock) -> None:
    rate.shown("anna", ["a", "b"])
    for item, kind in (("a", "view"), ("b", "view"), ("b", "purchase"), ("a", "order"), ("z", "view")):
        rate.happened("anna", item, kind, clock.now)
    rate.happened("bert", "a", "view", clock.now)
    assert rate.outcomes() == {NO_EXPERIMENT: Outcome(slates=1, clicks=1, conversions=1)}


def test_a_conversion_is_a_click_too_and_a_dislike_is_none(rate: ClickRate, clock: Clock) -> None:
    rate.shown("anna", ["a"])
    rate.shown("bert", ["a"])
    rate.happened("anna", "a", "purchase", clock.now)
    rate.happened("bert", "a", "dislike", clock.now)
    assert rate.outcomes() == {NO_EXPERIMENT: Outcome(2, 1, 1)}


def test_each_arm_counts_its_own(rate: ClickRate, clock: Clock) -> None:
    rate.shown("anna", ["a"], experiment="test", arm="new")
    rate.shown("bert", ["a"], experiment="test", arm="old")
    rate.shown("carl", ["a"], experiment="test", arm="new,old,new")
    rate.happened("anna", "a", "view", clock.now)
    rate.happened("carl", "a", "view", clock.now)
    assert rate.outcomes() == {
        ("test", "new"): Outcome(1, 1, 0),
        ("test", "old"): Outcome(1, 0, 0),
        ("test", INTERLEAVED): Outcome(1, 1, 0),
    }


def test_the_newest_slate_with_the_item_gets_the_click(rate: ClickRate, clock: Clock) -> None:
    rate.shown("anna", ["a", "b"], experiment="e", arm="first")
    rate.shown("anna", ["a"], experiment="e", arm="second")
    rate.happened("anna", "a", "view", clock.now)
    rate.happened("anna", "b", "view", clock.now)
    assert {arm: counts.clicks for (_, arm), counts in rate.outcomes().items()} == {"first": 1, "second": 1}


@pytest.mark.parametrize(
    ("after", "clicks"), [(-3_600, 0), (-7, 0), (-5, 1), (0, 1), (1_800, 1), (1_801, 0), (86_400, 0)]
)
def test_only_events_within_the_window_answer(
    rate: ClickRate, clock: Clock, after: float, clicks: int
) -> None:
    rate.shown("anna", ["a"])
    shown = clock.now
    clock.now += 2_000  # told late: what counts is when it happened
    rate.happened("anna", "a", "view", shown + after)
    assert rate.outcomes()[NO_EXPERIMENT].clicks == clicks


def test_an_erased_user_leaves_no_slate(rate: ClickRate, clock: Clock) -> None:
    rate.shown("anna", ["a"])
    rate.forget("anna")
    rate.forget("nobody")
    rate.happened("anna", "a", "view", clock.now)
    assert rate.n_remembered == 0
    assert rate.outcomes() == {NO_EXPERIMENT: Outcome(1, 0, 0)}


def test_old_slates_and_more_than_a_few_of_a_user_are_forgotten(clock: Clock) -> None:
    rate = ClickRate(ClickRateSettings(slates_per_user=2), clock)
    for item in "abc":
        rate.shown("anna", [item])
    assert rate.n_remembered == 2
    rate.happened("anna", "a", "view", clock.now)
    assert rate.outcomes()[NO_EXPERIMENT].clicks == 0
    clock.now += 1_801
    rate.shown("bert", ["a"])
    assert rate.n_remembered == 1


def test_processes_add_up_to_the_truth(clock: Clock) -> None:
    processes = [ClickRate(clock=clock) for _ in range(3)]
    dice = random.Random(7)
    for number in range(300):
        dice.choice(processes).shown(f"u{number}", ["a", "b"])
    for number in range(0, 300, 4):
        for process in processes:  # everybody follows the log
            process.happened(f"u{number}", "a", "view", clock.now)
    counts = [process.outcomes()[NO_EXPERIMENT] for process in processes]
    assert sum(count.slates for count in counts) == 300
    assert sum(count.clicks for count in counts) == 75


def test_more_slates_than_fit_cost_counts_but_not_the_rate(clock: Clock) -> None:
    rate = ClickRate(ClickRateSettings(capacity=2_000), clock)
    rng = random.Random(3)
    pending: list[str] = []
    counted = defaultdict(int)
    for number in range(40_000):
        clock.now += 0.05  # 2,000 seconds: all of them within about one window
        user = f"user-{number}"
        rate.shown(user, ["a", "b", "c"])
        if rng.random() < 0.2:
            pending.append(user)
        if len(pending) > 50:
            rate.happened(pending.pop(0), "b", "view", clock.now)
        assert rate.n_remembered <= 2_000
        if number == 20_000:
            counted["slates"], counted["clicks"] = (
                rate.outcomes()[NO_EXPERIMENT].slates,
                rate.outcomes()[NO_EXPERIMENT].clicks,
            )
    counts = rate.outcomes()[NO_EXPERIMENT]
    assert rate.share < 1
    late = (counts.clicks - counted["clicks"]) / (counts.slates - counted["slates"])
    assert late == pytest.approx(0.2, abs=0.05)


def test_memory_is_bounded(clock: Clock) -> None:
    rate = ClickRate(ClickRateSettings(capacity=4_000), clock)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number in range(30_000):
            rate.shown(f"user-{number}", [f"item-{number}-{place}" for place in range(10)])
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert used < 4_000 * 700


@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 3), st.integers(0, 4), st.integers(0, 400)), max_size=60)
)
def test_it_equals_the_plain_account(course: list[tuple[bool, int, int, int]]) -> None:
    clock = Clock()
    settings = ClickRateSettings(window_seconds=1_000, slates_per_user=3)
    rate = ClickRate(settings, clock)
    shown: list[dict] = []
    for is_slate, user, item, wait in course:
        clock.now += wait
        if is_slate:
            rate.shown(f"u{user}", [f"i{item}", f"i{(item + 1) % 5}"])
            shown.append({"user": user, "items": {item, (item + 1) % 5}, "at": clock.now, "clicked": False})
        else:
            rate.happened(f"u{user}", f"i{item}", "view", clock.now)
            own = [slate for slate in shown if slate["user"] == user][-3:]
            for slate in reversed(own):
                if item in slate["items"] and clock.now - slate["at"] <= 1_000:
                    slate["clicked"] = True
                    break
    expected = Outcome(len(shown), sum(slate["clicked"] for slate in shown), 0)
    assert rate.outcomes().get(NO_EXPERIMENT, Outcome()) == expected
