"""What starts later can be moved and taken back; what could not be read back is refused."""

import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from zhiyin.domain.errors import ConfigError
from zhiyin.evaluation.live.figures import day
from zhiyin.evaluation.live.report_text import render_text
from zhiyin.online.trials.definition import KIND, Trial, parse_trial
from zhiyin.online.trials.running import report, start, started_trials, stop
from zhiyin.online.trials.trials import Trials
from zhiyin.stores.events import EventStore
from zhiyin.stores.opening import open_database
from zhiyin.stores.records import StoredDocument

ARMS = {"a": {"share": 0.5}, "b": {"share": 0.5, "diversity": 0.3}}


def test_a_stop_before_the_start_that_is_filled_in_is_refused(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path}/store.db")
    store = database.store()
    start(store, parse_trial({"name": "good", "arms": ARMS, "control": "a", "share_of_users": 0.5}), now=100)
    over = parse_trial({"name": "over", "arms": ARMS, "control": "a", "share_of_users": 0.5, "stop": 50})
    with pytest.raises(ConfigError, match="stops at 50, before it starts at 100"):
        start(store, over, now=100)
    assert [one.name for one in started_trials(store)] == ["good"]
    database.close()


DAY = 86_400


@pytest.mark.parametrize(
    "written",
    [
        "start = 1798761599",
        "start = 2026-12-31T23:59:59Z",
        "start = 2027-01-01T00:59:59+01:00",
        "start = 2026-12-31T23:59:59",
        'start = "2026-12-31T23:59:59Z"',
        'start = "1798761599"',
        'start = "20261231"\nstop = 1798761600',
        "start = 2026-12-31\nstop = 2027-01-01",
    ],
)
def test_moments_are_written_as_dates_or_seconds(written: str) -> None:
    trial = parse_trial({"name": "later", "arms": ARMS, "control": "a", **tomllib.loads(written)})
    assert trial.start == 1_798_761_599 or (trial.start, trial.stop) == (1_798_675_200, 1_798_761_600)


@pytest.mark.parametrize("moment", ["tomorrow", -1, "1969-12-31", 1.5, True, "17"])
def test_what_is_no_moment_is_refused(moment: object) -> None:
    with pytest.raises(ConfigError, match=r"experiment\.start") as refused:
        parse_trial({"name": "later", "arms": ARMS, "control": "a", "start": moment})
    assert moment != "tomorrow" or "a date such as 2026-12-31T23:59:59Z" in refused.value.problem


def test_the_report_of_what_has_not_begun_says_when_it_does(store: EventStore) -> None:
    start(store, parse_trial({"name": "later", "arms": ARMS, "control": "a", "start": 2 * DAY}), now=DAY)
    before, after = (render_text(report(store, "later", now=now)) for now in (DAY, 2 * DAY + 60))
    assert "It begins on 1970-01-03 00:00." in before
    assert "· from 1970-01-03 00:00\n" in before
    assert "Go on: " in after
    assert "1970-01-03 00:00 to 1970-01-03 00:01" in after


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EventStore]:
    database = open_database(f"sqlite:///{tmp_path}/store.db")
    yield database.store()
    database.close()


def trial(name: str = "later", **settings: object) -> Trial:
    return parse_trial({"name": name, "arms": ARMS, "control": "a", **settings})


def test_what_has_not_begun_may_be_changed_in_everything(store: EventStore) -> None:
    start(store, trial(start=1_000 + DAY), now=1_000)
    other = {"a": {"share": 0.9}, "b": {"share": 0.1, "diversity": 0.5}}
    changed = trial(start=1_005, arms=other, metric="conversion", share_of_users=0.2)
    moved = start(store, changed, now=1_001)
    assert started_trials(store) == [moved]
    assert moved.trial == changed
    assert moved.buckets == ((0, 2_000),)
    assert start(store, trial(share_of_users=0.3), now=1_002).start == 1_005, "it stays as planned"
    with pytest.raises(ConfigError, match="runs; changing start, arms"):
        start(store, trial(start=2_000, arms=other), now=1_006)


def test_what_is_taken_back_before_it_begins_frees_its_users_and_its_name(store: EventStore) -> None:
    start(store, trial(start=1_000 + DAY), now=1_000)
    with pytest.raises(ConfigError, match="other experiments hold them"):
        start(store, trial("another"), now=1_001)
    assert stop(store, "later", now=1_002).is_over(1_002)
    assert started_trials(store) == []
    start(store, trial("another", stop=1_500), now=1_003)
    assert start(store, trial(), now=1_600).start == 1_600


def test_a_start_too_far_ahead_is_refused(store: EventStore) -> None:
    for begin in (1_000 + 366 * DAY, 10**12, 10**18):
        with pytest.raises(ConfigError, match=r"(?s)more than a year from now.*at most; without one"):
            start(store, trial(start=begin), now=1_000)
    start(store, trial(start=1_000 + 365 * DAY), now=1_000)


def test_what_was_stopped_before_its_start_is_over_and_is_not_brought_back(store: EventStore) -> None:
    """Stopping kept such an experiment until its start once, and stores hold some."""
    planned = start(store, trial(start=1_000 + DAY), now=1_000)
    store.put_document(KIND, "later", replace(planned, stopped=1_000 + DAY).body()).result()
    assert Trials(store.documents(KIND), clock=lambda: 1_001).bundle_versions() == frozenset()
    start(store, trial("another"), now=1_001)
    with pytest.raises(ConfigError, match=r"(?s)has ended.*another name"):
        start(store, trial(), now=1_001)
    assert stop(store, "later", now=1_002).stopped == 1_000 + DAY


def test_a_stored_start_beyond_the_calendar_hides_nothing_and_can_be_taken_back(store: EventStore) -> None:
    far = trial("far", start=10**18)
    body = {"trial": far.model_dump(mode="json"), "buckets": [[0, 10_000]], "stopped": None}
    store.put_document(KIND, "far", body).result()
    assert Trials([StoredDocument(KIND, "far", body)], clock=lambda: 1_000).arm_for("ann") is None
    assert day(10**18) == "1000000000000000000 s"
    stop(store, "far", now=1_000)
    start(store, trial(), now=1_001)
