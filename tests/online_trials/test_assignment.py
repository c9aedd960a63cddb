"""Users are spread evenly, stay where they are, and experiments do not know of each other."""

import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, chisquare

from zhiyin.online.trials.assignment import N_BUCKETS, ArmRanges, Buckets, free_buckets, n_free
from zhiyin.online.trials.definition import KIND
from zhiyin.online.trials.trials import Trials
from zhiyin.stores.records import StoredDocument

USERS = [f"user-{n}" for n in range(40_000)]
GOLDEN = [156, 8074, 830]
"""Users of running experiments would change their arm if these changed."""


def test_buckets_are_even() -> None:
    of = Buckets("salt").of
    counts = np.bincount([of(user) // 100 for user in USERS], minlength=100)
    assert chisquare(counts).pvalue > 0.001


def test_two_salts_are_independent() -> None:
    first, second = Buckets("one"), Buckets("two")
    table = np.zeros((5, 5))
    for user in USERS:
        table[first.of(user) // 2_000, second.of(user) // 2_000] += 1
    assert chi2_contingency(table).pvalue > 0.001


def test_a_bucket_is_the_same_in_every_process_and_version() -> None:
    assert [Buckets("salt").of(user) for user in ("ann", "用户", "\ud800")] == GOLDEN
    code = "from zhiyin.online.trials.assignment import Buckets; print(Buckets('salt').of('ann'))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(other.stdout) == GOLDEN[0]


@settings(max_examples=25)
@given(
    st.lists(st.floats(0.05, 1.0), min_size=2, max_size=5),
    st.lists(st.floats(0.05, 1.0), min_size=5, max_size=5),
)
def test_a_change_of_shares_moves_only_what_lies_between_the_borders(
    before: list[float], after: list[float]
) -> None:
    names = [f"arm{n}" for n in range(len(before))]
    old, new = (
        ArmRanges(
            {name: share / sum(shares[: len(before)]) for name, share in zip(names, shares, strict=False)}
        )
        for shares in (before, after)
    )
    places = np.array([[ranges.place(bucket) for ranges in (old, new)] for bucket in range(N_BUCKETS)])
    moved = int((places[:, 0] != places[:, 1]).sum())
    borders = [np.flatnonzero(np.diff(places[:, side])) for side in (0, 1)]
    assert moved <= sum(abs(a - b) for a, b in zip(*borders, strict=False)) + len(before)
    for side, shares in ((0, before), (1, after[: len(before)])):
        counts = np.bincount(places[:, side], minlength=len(before)) / N_BUCKETS
        np.testing.assert_allclose(counts, np.array(shares) / sum(shares), atol=2e-4)


RANGE = st.tuples(st.integers(0, 9_999), st.integers(1, 3_000)).map(lambda r: (r[0], min(sum(r), N_BUCKETS)))


@given(st.lists(RANGE, max_size=6), st.integers(1, N_BUCKETS))
def test_free_buckets_are_free(taken: list[tuple[int, int]], wanted: int) -> None:
    held = np.zeros(N_BUCKETS, dtype=bool)
    for begin, end in taken:
        held[begin:end] = True
    assert n_free(taken) == (~held).sum()
    found = free_buckets(taken, wanted)
    assert (found is None) == (wanted > (~held).sum())
    if found is not None:
        chosen = np.concatenate([np.arange(begin, end) for begin, end in found])
        assert len(chosen) == len(set(chosen.tolist())) == wanted
        assert not held[chosen].any()


def document(name: str, buckets: list[list[int]], **others) -> StoredDocument:
    trial = {
        "name": name,
        "arms": {"now": {"share": 0.5}, "new": {"share": 0.5, "diversity": 0.3}},
        "control": "now",
        "start": 100,
        **others,
    }
    return StoredDocument(KIND, name, {"trial": trial, "buckets": buckets, "stopped": None})


def test_users_are_where_the_shares_say_and_stay_there() -> None:
    arms = {"a": {"share": 0.2}, "b": {"share": 0.3}, "c": {"share": 0.5}}
    one = document("one", [[0, 5_000]], arms=arms, control="a")
    trials, again = Trials([one]), Trials([one])
    found = [trials.arm_for(user) for user in USERS]
    assert found == [again.arm_for(user) for user in USERS]
    held = [assigned.arm for assigned in found if assigned is not None]
    assert abs(len(held) / len(USERS) - 0.5) < 0.01
    expected = np.array([0.2, 0.3, 0.5]) * len(held)
    assert chisquare([held.count(arm) for arm in "abc"], expected).pvalue > 0.001


def test_a_new_experiment_on_the_same_users_mixes_the_arms_of_the_old_one() -> None:
    old, new = (Trials([document(name, [[0, N_BUCKETS]])]) for name in ("old", "new"))
    table = np.zeros((2, 2))
    for user in USERS:
        table[int(old.arm_for(user).arm == "now"), int(new.arm_for(user).arm == "now")] += 1
    assert chi2_contingency(table).pvalue > 0.001


def test_the_same_salt_gives_the_same_arms() -> None:
    old, new = (Trials([document(name, [[0, N_BUCKETS]], salt="kept")]) for name in ("old", "new"))
    assert all(old.arm_for(user).arm == new.arm_for(user).arm for user in USERS[:2_000])


@pytest.mark.parametrize("n_experiments", [1, 20])
def test_more_than_a_hundred_thousand_assignments_a_second(n_experiments: int) -> None:
    width = N_BUCKETS // n_experiments
    trials = Trials([document(f"e{n}", [[n * width, (n + 1) * width]]) for n in range(n_experiments)])
    best = min(_seconds(trials) for _ in range(5))
    assert len(USERS) / best > 100_000


def _seconds(trials: Trials) -> float:
    begin = time.perf_counter()
    for user in USERS:
        trials.arm_for(user)
    return time.perf_counter() - begin
