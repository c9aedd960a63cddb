"""Team drafts are fair, quick, and need far fewer users than showing one arm to each."""

import time

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from zhiyin.domain import PAD
from zhiyin.evaluation.live.interleaving import FIRST, SECOND, team_draft
from zhiyin.evaluation.live.judging import judge
from zhiyin.evaluation.live.ledger import read_ledger
from zhiyin.evaluation.live.question import MeasuringSettings, Question
from zhiyin.evaluation.live.verdict import Decision

SLATE = st.lists(st.integers(0, 30), max_size=15, unique=True)


@given(SLATE, SLATE, st.integers(1, 12), st.integers(0, 1_000))
def test_a_draft_is_a_fair_slate(first: list[int], second: list[int], n: int, seed: int) -> None:
    slates = [np.array([*slate, PAD], dtype=np.int32) for slate in (first, second)]
    drafted = team_draft(*slates, n, np.random.default_rng(seed))
    items = drafted.item_index.tolist()
    assert len(items) == len(set(items)) == min(n, len({*first, *second}))
    assert set(items) <= {*first, *second}
    for team, slate in ((FIRST, first), (SECOND, second)):
        placed = [item for item, of in zip(items, drafted.team.tolist(), strict=True) if of == team]
        assert placed == [item for item in slate if item in placed]
    if min(len(first), len(second)) >= n and not {*first} & {*second}:
        assert abs((drafted.team == FIRST).sum() - (drafted.team == SECOND).sum()) <= n % 2


def test_each_side_begins_as_often() -> None:
    rng = np.random.default_rng(0)
    slate = np.arange(5, dtype=np.int32)
    firsts = sum(int(team_draft(slate, slate, 5, rng).team[0] == FIRST) for _ in range(4_000))
    assert abs(firsts - 2_000) < 4 * np.sqrt(1_000)


def test_the_arms_are_written_as_the_store_keeps_them() -> None:
    drafted = team_draft(
        np.array([1, 2], dtype=np.int32), np.array([], dtype=np.int32), 2, np.random.default_rng(0)
    )
    assert drafted.arms("now", "new") == "now,now"


def test_ten_places_take_less_than_a_tenth_of_a_millisecond() -> None:
    rng = np.random.default_rng(0)
    first, second = (rng.permutation(100)[:10].astype(np.int32) for _ in range(2))
    times = []
    for _ in range(300):
        begin = time.perf_counter()
        team_draft(first, second, 10, rng)
        times.append(time.perf_counter() - begin)
    assert np.median(times) < 100e-6


def test_clicks_are_credited_to_the_arm_that_placed_the_item(memory) -> None:
    for user in range(3):
        memory.show(f"u{user}", 1_000, ("x", "y", "z"), "new,now,new")
    memory.act("u0", "x", 1_010)  # new
    memory.act("u0", "x", 1_020)  # again: counts once
    memory.act("u0", "y", 1_030)  # now
    memory.act("u1", "z", 1_030)  # new
    memory.act("u2", "z", 9_030)  # too late
    question = Question("e", {"now": 0.5, "new": 0.5}, "now", "ctr", 500, is_interleaving=True)
    report = judge(read_ledger(memory, question, 20_000), question)
    assert report.comparisons[0].arm_value == (2 - 1) / 3
    assert report.arms[0].n_users == 3
    assert report.kind == "interleaving"
    assert report.decision is Decision.GO_ON


N_VISITS = 4


def traffic(store, better: float, n_users: int, *, mixed: bool, seed: int) -> None:
    """Slates of ten from two rankings; items of the rival are clicked ``better`` times as often.

    As in real shops, some users click a lot and many hardly ever.
    """
    rng = np.random.default_rng(seed)
    chance = 0.06 / np.arange(1, 11) ** 0.6
    slates = np.arange(20, dtype=np.int32).reshape(2, 10)
    for user in range(n_users):
        habit = rng.gamma(0.4, 2.5)
        side = int(rng.integers(2))
        for visit in range(N_VISITS):
            at = 1_000 + user * N_VISITS + visit
            items, arm = slates[side], ("now", "new")[side]
            if mixed:
                drafted = team_draft(*slates, 10, rng)
                items, arm = drafted.item_index, drafted.arms("now", "new")
            store.show(f"u{user}", at, tuple(f"i{item}" for item in items.tolist()), arm)
            worth = np.where(items >= 10, better, 1.0)
            for item in items[rng.random(10) < np.minimum(habit * chance * worth, 1)].tolist():
                store.act(f"u{user}", f"i{item}", at)


def users_until_certain(store, *, mixed: bool) -> float:
    """How many users it took until the better ranking was found; infinite when it was not."""
    rules = MeasuringSettings(planned_users=2_000, least_users=100)
    shares = {"now": 0.5, "new": 0.5}
    question = Question("e", shares, "now", "ctr", 500, is_interleaving=mixed, measuring=rules)
    found = judge(read_ledger(store, question, 1_000 + len(store.impressions)), question).comparisons[0]
    certain = [look.n_users for look in found.looks if look.p_value < 0.05 and look.difference.value > 0]
    return certain[0] if certain else np.inf


def test_interleaving_finds_the_better_ranking_with_far_fewer_users(memory) -> None:
    needed = {True: [], False: []}
    for seed in range(4):
        for mixed, n_users in ((True, 1_500), (False, 3_500)):
            store = type(memory)()
            traffic(store, 1.25, n_users, mixed=mixed, seed=seed)
            needed[mixed].append(users_until_certain(store, mixed=mixed))

    assert np.median(needed[True]) < 1_000
    assert np.mean(needed[False]) > 2.5 * np.mean(needed[True])


def test_equal_rankings_are_not_told_apart(memory) -> None:
    called = 0
    preferences = []
    for seed in range(12):
        store = type(memory)()
        traffic(store, 1.0, 200, mixed=True, seed=seed)
        rules = MeasuringSettings(planned_users=2_000, least_users=100)
        question = Question(
            "e", {"now": 0.5, "new": 0.5}, "now", "ctr", 500, is_interleaving=True, measuring=rules
        )
        found = judge(read_ledger(store, question, 30_000), question).comparisons[0]
        called += found.p_value < 0.05
        preferences.append(found.difference.value)
    assert called <= 1
    assert abs(np.mean(preferences)) < 4 * np.std(preferences) / np.sqrt(12)
