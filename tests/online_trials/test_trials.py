"""Experiments start, are followed by every process, hold their users, and end."""

from pathlib import Path

import pytest

from zhiyin.domain.errors import ConfigError
from zhiyin.evaluation.live.verdict import Decision, RailState
from zhiyin.online.trials.definition import KIND, parse_trial
from zhiyin.online.trials.running import report, start, started_trials, stop
from zhiyin.online.trials.trials import Trials
from zhiyin.stores.opening import open_database
from zhiyin.stores.records import StoredDocument

ARMS = {"now": {"share": 0.5}, "new": {"share": 0.5, "diversity": 0.3}}
USERS = [f"u{n}" for n in range(2_000)]


@pytest.fixture
def store(tmp_path: Path):
    database = open_database(f"sqlite:///{tmp_path / 'events.db'}")
    yield database.store("default")
    database.close()


def trial(name: str = "order", **settings):
    return parse_trial({"name": name, "arms": ARMS, "control": "now", **settings})


def test_every_process_follows_the_log(store) -> None:
    trials = Trials(store.documents(KIND), clock=lambda: 2_000)
    assert trials.arm_for("ann") is None
    before = store.position()
    start(store, trial(), now=1_000)
    changes = store.changes_after(before)
    trials.take(changes.documents)
    assert {trials.arm_for(user).arm for user in USERS} == {"now", "new"}
    assert trials.arm_for("ann").experiment == "order"
    stop(store, "order", now=1_500)
    trials.take(store.changes_after(changes.position).documents)
    assert all(trials.arm_for(user) is None for user in USERS)
    assert [one.stop for one in started_trials(store)] == [1_500]


def test_an_arm_says_what_differs() -> None:
    arms = {
        "now": {"share": 0.5},
        "new": {
            "share": 0.5,
            "bundle": "abc",
            "diversity": 0.0,
            "boost": [{"filter": {"brand": "Tea"}, "by": 2.0}],
        },
    }
    trials = Trials([body(trial(arms=arms, start=0), [[0, 10_000]])])
    found = {trials.arm_for(user).arm: trials.arm_for(user) for user in USERS}
    assert found["now"].bundle_version is None
    assert dict(found["now"].settings) == {}
    assert found["new"].bundle_version == "abc"
    assert dict(found["new"].settings) == {
        "diversity": 0.0,
        "boost": ({"filter": {"brand": "Tea"}, "by": 2.0},),
    }
    assert trials.bundle_versions() == {"abc"}


def body(found, buckets, stopped=None) -> StoredDocument:
    return StoredDocument(
        KIND, found.name, {"trial": found.model_dump(mode="json"), "buckets": buckets, "stopped": stopped}
    )


def test_interleaving_names_both_arms() -> None:
    trials = Trials([body(trial(kind="interleaving", start=0), [[0, 10_000]])])
    found = trials.arm_for("ann")
    assert (found.arm, found.rival.arm) == ("now", "new")
    assert dict(found.rival.settings) == {"diversity": 0.3}


def test_the_clock_opens_and_closes() -> None:
    now = [0.0]
    trials = Trials([body(trial(start=10, stop=20), [[0, 10_000]])], clock=lambda: now[0])
    seen = {}
    for moment in (9, 10, 19, 20):
        now[0] = moment
        seen[moment] = trials.arm_for("ann") is not None
        assert len(trials.running()) == seen[moment]
    assert seen == {9: False, 10: True, 19: True, 20: False}


def test_where_two_want_the_same_user_the_older_one_has_them() -> None:
    older = body(trial("older", start=5), [[0, 4_000]])
    newer = body(trial("newer", start=6), [[0, 10_000]])
    for documents in ([older, newer], [newer, older]):
        trials = Trials(documents)
        names = [trials.arm_for(user).experiment for user in USERS]
        assert abs(names.count("older") / len(USERS) - 0.4) < 0.05
        assert set(names) == {"older", "newer"}


def test_visitors_without_id_are_held_by_their_session_or_not_at_all() -> None:
    trials = Trials([body(trial(start=0), [[0, 10_000]])])
    assert trials.arm_for(None) is None
    assert trials.arm_for(None, "cookie") == trials.arm_for(None, "cookie")
    assert {trials.arm_for(None, f"cookie{n}").arm for n in range(50)} == {"now", "new"}


def test_experiments_share_the_users_out(store) -> None:
    start(store, trial("one", share_of_users=0.6), now=1_000)
    with pytest.raises(ConfigError, match=r"(?s)wants 0.5 of all users.*At most 0\.4 "):
        start(store, trial("two", share_of_users=0.5), now=1_001)
    start(store, trial("two", share_of_users=0.4), now=1_001)
    trials = Trials(store.documents(KIND), clock=lambda: 1_002)
    assert {trials.arm_for(user).experiment for user in USERS} == {"one", "two"}
    stop(store, "one", now=1_003)
    start(store, trial("three", share_of_users=0.6), now=1_004)


def test_taking_in_more_users_moves_nobody(store) -> None:
    start(store, trial(share_of_users=0.1), now=1_000)
    before = Trials(store.documents(KIND), clock=lambda: 2_000)
    held = {user: arm for user in USERS if (arm := before.arm_for(user)) is not None}
    start(store, trial(share_of_users=0.7), now=1_100)
    after = Trials(store.documents(KIND), clock=lambda: 2_000)
    assert all(after.arm_for(user) == arm for user, arm in held.items())
    assert sum(after.arm_for(user) is not None for user in USERS) > 5 * len(held)


@pytest.mark.parametrize(
    "changed",
    [
        {"metric": "conversion"},
        {"control": "new"},
        {"share_of_users": 0.4},
        {"arms": {"now": {"share": 0.2}, "new": {"share": 0.8, "diversity": 0.3}}},
    ],
)
def test_what_would_spoil_the_figures_is_refused(store, changed: dict) -> None:
    start(store, trial(), now=1_000)
    with pytest.raises(ConfigError, match=next(iter(changed))):
        start(store, trial(**changed), now=1_100)


def test_the_name_of_an_ended_experiment_is_taken(store) -> None:
    start(store, trial(), now=1_000)
    stop(store, "order", now=1_100)
    with pytest.raises(ConfigError, match="has ended"):
        start(store, trial(), now=1_200)
    with pytest.raises(ConfigError, match=r"(?s)no experiment 'odrer'.*Experiments: order"):
        stop(store, "odrer")


def test_a_bundle_must_be_stored(store) -> None:
    arms = {"now": {"share": 0.5}, "new": {"share": 0.5, "bundle": "nowhere"}}
    with pytest.raises(ConfigError, match=r"(?s)'nowhere'.*Stored versions: none"):
        start(store, trial(arms=arms))


def test_a_report_of_nothing_says_so(store) -> None:
    start(store, trial(guard_rails=[{"metric": "empty_slates", "worst_change": 0.1}]), now=1_000)
    found = report(store, "order", now=2_000)
    assert found.decision is Decision.GO_ON
    assert "has 0 users" in found.sentence


def test_an_experiment_from_before_slow_answers_were_noted_says_so_also_when_it_is_changed(store) -> None:
    rails = [{"metric": "slow_answers", "worst_change": 0.1}]
    begun = start(store, trial(guard_rails=rails, share_of_users=0.2), now=1_000)
    assert report(store, "order", now=2_000).guard_rails[0].state is RailState.OPEN
    older = {name: value for name, value in begun.body().items() if name != "notes_slow_answers"}
    store.put_document(KIND, "order", older).result()
    assert report(store, "order", now=2_000).guard_rails[0].state is RailState.UNKNOWN
    assert not start(store, trial(guard_rails=rails), now=1_500).notes_slow_answers
    stop(store, "order", now=2_500)
    assert start(store, trial("later"), now=3_000).notes_slow_answers


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"arms": {"now": {"share": 1.0}}}, "2 to 5"),
        ({"arms": {"now": {"share": 0.5}, "new": {"share": 0.6}}}, "add up to 1.1"),
        ({"arms": {"now": {"share": 0.5}, "a,b": {"share": 0.5}}}, "no comma"),
        ({"control": "old"}, "'old', which is no arm"),
        ({"metric": "crt"}, "Did you mean 'ctr'"),
        ({"guard_rails": [{"metric": "latency", "worst_change": 0.1}]}, "slow_answers"),
        ({"guard_rails": [{"metric": "ctr", "worst_change": 0.0}]}, "greater than 0"),
        ({"kind": "abc"}, "'ab' or 'interleaving'"),
        ({"start": 10, "stop": 9}, "before it starts"),
        ({"kind": "interleaving", "arms": {n: {"share": 0.25} for n in "abcd"}, "control": "a"}, "exactly 2"),
        ({"shares": 1}, "'experiment.shares' is not known"),
        ({"measuring": {"click_minuts": 5}}, "Did you mean 'click_minutes'"),
    ],
)
def test_what_is_wrong_with_a_definition_is_said(settings: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        trial(**settings)


def test_a_definition_survives_the_store(store) -> None:
    asked = trial(metric="conversion", measuring={"click_minutes": 5}, stop=5_000, salt="s")
    started = start(store, asked, now=1_000)
    assert started_trials(store) == [started]
    assert started.trial == asked.model_copy(update={"start": 1_000})
