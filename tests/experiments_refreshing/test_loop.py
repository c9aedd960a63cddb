"""Rounds of the loop, on a real store: what goes live, what is refused, what survives a kill."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import polars as pl
import pytest

from zhiyin.contracts import TrainingData
from zhiyin.domain.errors import BundleError, ConfigError, StoreError
from zhiyin.domain.pseudonyms import are_pseudonyms
from zhiyin.experiments.refreshing import rounds
from zhiyin.experiments.refreshing.judging import Decision
from zhiyin.experiments.refreshing.lease import KIND, Lease, LeaseHeld
from zhiyin.experiments.refreshing.loop import Customs, LearningLoop
from zhiyin.experiments.refreshing.settings import LoopConfig
from zhiyin.experiments.refreshing.versions import (
    REFUSED,
    active,
    clear_away,
    pin,
    pin_if_earlier,
    publish,
    release,
    rollback,
)
from zhiyin.online.live import Live
from zhiyin.online.trials.definition import parse_trial
from zhiyin.online.trials.running import start, stop, versions_tried
from zhiyin.pipeline.bundle import load_bundle, read_card, save_bundle
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.pipeline.recipes import recipe
from zhiyin.stores.events import BATCH_SCHEMA
from zhiyin.stores.opening import open_database
from zhiyin.stores.records import Event

QUICK = LoopConfig.parse({"lease_seconds": 5, "judging": {"fewest_events": 10}}, where="loop")


@pytest.fixture(autouse=True)
def _no_settling(monkeypatch):
    monkeypatch.setattr("zhiyin.experiments.refreshing.lease.SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(
        Lease.__init__, "__kwdefaults__", {**Lease.__init__.__kwdefaults__, "settle_seconds": 0.0}
    )


@pytest.fixture
def live(store, bundle):
    """A store whose bundle is in use; its version."""
    publish(store, bundle, activate=True)
    return active(store).version


def test_a_round_teaches_what_people_do_now(store, live, new_walks, tmp_path):
    """Everybody used to go on by one; now by three. After a round, three is what is recommended."""
    store.append_events(new_walks(200, step=3, seed=1)).result()
    position = store.position()
    done = LearningLoop(store, QUICK).round()
    assert done.decision is Decision.LIVE
    bundle = active(store)
    assert bundle.version == done.version != live
    assert position <= bundle.position <= store.position()
    store.fetch_bundle(bundle.version, tmp_path / "fetched")
    card = read_card(tmp_path / "fetched")["training"]
    assert card["parent"] == live
    assert card["position"] == bundle.position
    assert card["judging"]["decision"] == "live"
    assert [step.name for step in done.steps] == ["read", "watch", "refresh", "judge", "publish"]
    pipeline = load_bundle(tmp_path / "fetched")
    assert len(pipeline.users) == 120 + 200


def test_few_new_events_wait_for_the_next_round(store, live, new_walks):
    store.append_events(new_walks(10, step=1, seed=1)).result()
    done = LearningLoop(store, QUICK).round()
    assert done.decision is None
    assert "waiting for more" in done.steps[-1].message
    assert active(store).version == live


@pytest.mark.usefixtures("live")
def test_a_removed_user_is_reason_enough_for_a_round(store, new_walks, tmp_path):
    store.append_events(new_walks(40, step=1, seed=1)).result()
    store.delete_user("u5").result()
    config = QUICK.model_copy(update={"judging": QUICK.judging.model_copy(update={"fewest_events": 3})})
    done = LearningLoop(store, config).round()
    assert done.decision is Decision.LIVE
    store.fetch_bundle(done.version, tmp_path / "fetched")
    assert "u5" not in load_bundle(tmp_path / "fetched").users


@pytest.mark.usefixtures("live")
def test_a_removal_alone_goes_live_though_nothing_can_be_judged(store, tmp_path):
    store.delete_user("u5").result()
    done = LearningLoop(store, QUICK).round()
    assert done.decision is Decision.LIVE
    assert "0 events to judge by; it goes live because somebody was removed" in done.verdict.reason
    assert active(store).version == done.version
    store.fetch_bundle(done.version, tmp_path / "fetched")
    assert "u5" not in load_bundle(tmp_path / "fetched").users


def test_a_worse_candidate_is_kept_for_inspection_and_not_served(store, live, new_walks, monkeypatch):
    store.append_events(new_walks(200, step=1, seed=1)).result()

    def spoiled(grown, held, _config, **_):
        worse = Pipeline(recipe("popular"))
        worse.fit(TrainingData(held.split.train, worse.language))
        return rounds.Refreshed(worse, grown, held, 0.0)

    monkeypatch.setattr(rounds, "refresh", spoiled)
    done = LearningLoop(store, QUICK).round()
    assert done.decision is Decision.REFUSED
    assert active(store).version == live
    kept = {bundle.version: bundle for bundle in store.bundles()}[done.version]
    assert kept.facts[REFUSED] == done.verdict.reason
    assert "worse" in done.verdict.reason
    again = LearningLoop(store, QUICK).round()
    assert [step.name for step in again.steps] == ["read"]
    assert f"nothing came since version {done.version} was refused" in again.steps[0].message
    store.append_events(new_walks(1, step=1, seed=2)).result()
    assert LearningLoop(store, QUICK).round().decision is Decision.REFUSED


def test_only_the_last_three_stay_and_one_can_go_back(store, live, new_walks):
    versions = [live]
    for seed in range(4):
        store.append_events(new_walks(120, step=1, seed=seed)).result()
        done = LearningLoop(store, QUICK).round()
        assert done.decision is Decision.LIVE, done.steps
        versions.append(done.version)
    assert [bundle.version for bundle in store.bundles()] == versions[-3:]
    assert rollback(store) == versions[-2]
    assert active(store).version == versions[-2]
    assert rollback(store, versions[-1]) == versions[-1]
    with pytest.raises(StoreError, match="no version 'nonsense'"):
        rollback(store, "nonsense")


def test_after_going_back_the_loop_waits_until_it_is_released(store, live, new_walks):
    store.append_events(new_walks(120, step=1, seed=1)).result()
    LearningLoop(store, QUICK).round()
    assert rollback(store) == live
    waited = LearningLoop(store, QUICK).round()
    assert (waited.decision, active(store).version) == (None, live)
    assert "went back" in waited.steps[-1].message
    release(store)
    assert LearningLoop(store, QUICK).round().decision is Decision.LIVE


@pytest.mark.usefixtures("live")
def test_going_back_where_there_is_nothing_before(store):
    with pytest.raises(StoreError, match="no version before"):
        rollback(store)


def test_what_is_in_use_is_never_cleared_away(store, live):
    assert clear_away(store, keep=2) == []
    assert active(store).version == live


def test_what_an_arm_of_a_running_experiment_answers_with_is_not_cleared_away(store, live, new_walks):
    once_kept = QUICK.model_copy(update={"keep_versions": 1})
    arms = {"now": {"share": 0.5}, "old": {"share": 0.5, "bundle": live}}
    start(store, parse_trial({"name": "old", "kind": "ab", "metric": "ctr", "arms": arms, "control": "now"}))
    for step in (1, 2):
        store.append_events(new_walks(120, step=1, seed=step)).result()
        last = LearningLoop(store, once_kept, customs=Customs(needed=versions_tried)).round()
        assert last.decision is Decision.LIVE
    assert {bundle.version for bundle in store.bundles()} == {live, last.version}
    stop(store, "old")
    assert clear_away(store, keep=1, needed=versions_tried(store)) == [live]


def test_who_goes_back_while_a_round_learns_is_not_overruled(store, live, new_walks):
    store.append_events(new_walks(120, step=1, seed=1)).result()
    LearningLoop(store, QUICK).round()
    store.append_events(new_walks(120, step=1, seed=2)).result()

    def go_back(step):
        if step.name == "judge":
            rollback(store)

    learned = LearningLoop(store, QUICK, listen=go_back).round()
    assert (learned.version, active(store).version) == (None, live)
    assert "put in use meanwhile" in learned.steps[-1].message


@pytest.mark.parametrize("moment", ["stored", "activated"])
def test_who_goes_back_while_a_round_publishes_is_not_overruled(store, live, new_walks, monkeypatch, moment):
    """Storing a large bundle takes a while, and even activating takes a moment."""
    store.append_events(new_walks(120, step=1, seed=1)).result()
    assert LearningLoop(store, QUICK).round().version
    store.append_events(new_walks(120, step=1, seed=2)).result()
    publish, activate = rounds.publish, store.activate_bundle

    def going_back_once(*_):
        monkeypatch.setattr(store, "activate_bundle", activate)
        rollback(store)

    def publishing(*given, **options):
        version = publish(*given, **options)
        if moment == "stored":
            going_back_once()
        return version

    def activating(version):
        done = activate(version)
        going_back_once()
        # The one that goes back was first, but for what is written last.
        return activate(version) if version not in (live,) else done

    monkeypatch.setattr(rounds, "publish", publishing)
    if moment == "activated":
        monkeypatch.setattr(store, "activate_bundle", activating)
    told = LearningLoop(store, QUICK).round()
    assert (told.version, active(store).version) == (None, live)
    assert live in {bundle.version for bundle in store.bundles()}
    assert "put in use meanwhile" in told.steps[-1].message


def test_a_damaged_version_is_not_gone_back_to(store, live, new_walks, monkeypatch):
    store.append_events(new_walks(120, step=1, seed=1)).result()
    newer = LearningLoop(store, QUICK).round().version
    fetch = store.fetch_bundle

    def damaging(version, place):
        fetch(version, place)
        (place / "users.parquet").write_bytes(b"nothing")

    monkeypatch.setattr(store, "fetch_bundle", damaging)
    with pytest.raises(BundleError):
        rollback(store, live)
    assert active(store).version == newer
    assert pin(store) is None


def named(user_ids):
    return [f"p_{hashlib.md5(user.encode()).hexdigest()}" for user in user_ids]


@pytest.mark.usefixtures("live")
def test_people_of_a_log_with_pseudonyms_are_those_of_the_bundle(store, new_walks, tmp_path):
    events = [*new_walks(120, step=1, seed=1), *new_walks(1, step=1, seed=2)]
    events = [replace(event, user_id="u7") if event.user_id == "n2-0" else event for event in events]
    hidden = [replace(event, user_id=named([event.user_id])[0]) for event in events]
    store.append_events(hidden).result()
    store.delete_user(named(["u5"])[0]).result()
    with pytest.raises(ConfigError, match="ZHIYIN_SECRET"):
        LearningLoop(store, QUICK).round()
    customs = Customs(named=lambda ids: ids if are_pseudonyms(ids) else named(ids))
    done = LearningLoop(store, QUICK, customs=customs).round()
    assert done.decision is Decision.LIVE
    store.fetch_bundle(done.version, tmp_path / "next")
    after = load_bundle(tmp_path / "next")
    assert set(after.users.ids) == {*named([f"u{n}" for n in range(120) if n != 5])} | {
        event.user_id for event in hidden
    }
    assert after.histories.lengths[after.users.index(named(["u7"])[0])] == 2 * 8
    more = [replace(event, user_id=named([event.user_id])[0]) for event in new_walks(120, step=1, seed=3)]
    store.append_events(more).result()
    again = LearningLoop(store, QUICK, customs=customs).round()
    store.fetch_bundle(again.version, tmp_path / "third")
    assert set(load_bundle(tmp_path / "third").users.ids) == {*after.users.ids, *(e.user_id for e in more)}


def test_early_events_are_named_as_the_store_names_people(store, new_walks, tmp_path, bundle):
    pipeline = load_bundle(bundle)
    early = {
        "sequence": 1,
        "user_id": "u5",
        "item_id": "coming",
        "event": "view",
        "timestamp": 1,
        "value": None,
    }
    pipeline.early = pl.DataFrame([early], schema=BATCH_SCHEMA)
    publish(store, save_bundle(pipeline, tmp_path / "mixed", facts={"position": 77}), activate=True)
    assert active(store).position == 0, "a place in the log of another store"
    walks = [replace(event, user_id=named([event.user_id])[0]) for event in new_walks(120, step=1, seed=1)]
    store.append_events(walks).result()
    store.delete_user(named(["u5"])[0]).result()
    customs = Customs(named=lambda ids: [i if are_pseudonyms([i]) else named([i])[0] for i in ids])
    done = LearningLoop(store, QUICK, customs=customs).round()
    store.fetch_bundle(done.version, tmp_path / "next")
    assert load_bundle(tmp_path / "next").early.height == 0
    assert not {"u5", *named(["u5"])} & set(load_bundle(tmp_path / "next").users.ids)


@pytest.mark.usefixtures("live")
def test_events_on_items_that_come_later_wait_in_the_next_bundles(store, new_walks, tmp_path):
    moments = iter(range(1_750_000_000, 1_760_000_000))

    def taken(user_id):
        return Event(f"early-{user_id}", user_id, "coming", "view", next(moments))

    store.append_events([*new_walks(120, step=1, seed=1), taken("u1"), taken("gone"), taken("late")]).result()
    first = LearningLoop(store, QUICK).round()
    store.delete_user("gone").result()
    store.append_events(new_walks(120, step=1, seed=2)).result()
    second = LearningLoop(store, QUICK).round()
    for done, waiting in ((first, ["u1", "gone", "late"]), (second, ["u1", "late"])):
        store.fetch_bundle(done.version, tmp_path / done.version)
        pipeline = load_bundle(tmp_path / done.version)
        assert pipeline.early["user_id"].to_list() == waiting
    served = Live(pipeline, version=second.version, position=store.position())
    assert served.histories.of_user("u1").histories.lengths[0] == 8
    store.put_item("coming", {"title": "it came"}).result()
    served.catch_up(store, store.position())
    served.await_items()
    assert served.histories.of_user("u1").histories.lengths[0] == 9
    store.append_events(new_walks(120, step=1, seed=3)).result()
    third = LearningLoop(store, QUICK).round()
    store.fetch_bundle(third.version, tmp_path / "third")
    after = load_bundle(tmp_path / "third")
    assert after.early.height == 0
    for user, length in (("u1", 9), ("late", 1)):
        row = after.users.index(user)
        assert after.histories.lengths[row] == length
        assert (
            after.catalogue.items.id(after.histories.item_index[after.histories.offsets[row + 1] - 1])
            == "coming"
        )


def test_a_version_that_cannot_be_gone_back_to_undoes_no_going_back(store, live, new_walks, monkeypatch):
    for seed in (1, 2):
        store.append_events(new_walks(120, step=1, seed=seed)).result()
        assert LearningLoop(store, QUICK).round().version
    middle = rollback(store)

    def damaged(version, _):
        raise BundleError(f"The file of {version} is not what was stored.")

    monkeypatch.setattr(store, "fetch_bundle", damaged)
    with pytest.raises(BundleError):
        pin_if_earlier(store, live)
    assert pin(store).version == middle


def test_nothing_is_published_where_it_cannot_be_noted(store, live, new_walks):
    @contextmanager
    def refusing(_):
        raise StoreError("The audit log cannot be written.")
        yield

    store.append_events(new_walks(120, step=1, seed=1)).result()
    with pytest.raises(StoreError, match="audit log"):
        LearningLoop(store, QUICK, customs=Customs(activating=refusing)).round()
    assert [bundle.version for bundle in store.bundles()] == [live]


def test_without_a_bundle_it_says_what_to_do(store):
    with pytest.raises(StoreError, match="zhiyin publish"):
        LearningLoop(store, QUICK).round()


def test_what_an_unexpected_error_says_stays_out_of_the_steps(store, monkeypatch):
    """It may quote whom or what it met."""
    told, stop = [], threading.Event()

    def failing(*_):
        stop.set()
        raise ValueError("anna@example.com")

    loop = LearningLoop(store, QUICK, listen=told.append)
    monkeypatch.setattr(loop, "round", failing)
    loop.run(stop)
    assert [(step.name, "ValueError" in step.message, "anna" in step.message) for step in told] == [
        ("error", True, False)
    ]


def test_a_failing_round_is_told_and_the_next_one_waits_longer(store, monkeypatch):
    told, waits = [], []
    stop = threading.Event()

    def wait(seconds):
        waits.append(seconds)
        if len(waits) == 4:
            stop.set()
        return stop.is_set()

    monkeypatch.setattr(stop, "wait", wait)
    config = LoopConfig(every_minutes=1.0, longest_backoff_minutes=5.0)
    LearningLoop(store, config, listen=told.append).run(stop)
    assert [step.name for step in told] == ["error"] * 4
    assert [round(seconds, -1) for seconds in waits] == [120, 240, 300, 300]


def test_a_loop_that_finds_another_one_at_work_tries_again_at_its_usual_time(store, monkeypatch):
    told, waits = [], []
    stop = threading.Event()
    monkeypatch.setattr(stop, "wait", lambda seconds: (waits.append(seconds), stop.set()))
    with Lease(store, 5.0):
        LearningLoop(store, LoopConfig(every_minutes=1.0), listen=told.append).run(stop)
    assert [step.name for step in told] == ["wait"]
    assert waits == [pytest.approx(60, abs=5)]


def test_two_loops_do_not_work_at_once(store):
    with Lease(store, 5.0), pytest.raises(LeaseHeld, match="Another loop"), Lease(store, 5.0):
        pass
    with Lease(store, 5.0):
        assert len(store.documents(KIND)) == 1
    assert not store.documents(KIND)


def test_a_lease_of_a_dead_loop_runs_out(store):
    now = [1000.0]
    dead = Lease(store, 60.0, now=lambda: now[0])
    dead.__enter__()
    dead._stop.set()  # killed: it never renews, never gives back
    now[0] += 59
    with pytest.raises(LeaseHeld, match="runs out in 1 second"), Lease(store, 60.0, now=lambda: now[0]):
        pass
    now[0] += 2
    with Lease(store, 60.0, now=lambda: now[0]) as taken:
        assert not taken.is_lost


def test_a_lease_of_before_the_clock_was_set_back_holds_nobody_up(store):
    now = [1e9]
    dead = Lease(store, 60.0, now=lambda: now[0], settle_seconds=0.0)
    dead.__enter__()
    dead._stop.set()
    now[0] -= 3_000
    with pytest.raises(LeaseHeld), Lease(store, 60.0, now=lambda: now[0]):
        pass
    now[0] -= 30 * 86_400
    with Lease(store, 60.0, now=lambda: now[0], settle_seconds=0.0) as taken:
        assert not taken.is_lost


def test_a_holder_that_slept_too_long_learns_that_it_lost(store):
    with Lease(store, 0.3) as sleeper:
        store.put_document(KIND, "learning-loop", {"holder": "another", "until": time.time() + 60}).result()
        deadline = time.monotonic() + 5
        while not sleeper.is_lost and time.monotonic() < deadline:
            time.sleep(0.02)
        assert sleeper.is_lost
    assert store.documents(KIND)[0].body["holder"] == "another", "it does not give back what it has lost"


def test_killed_in_the_middle_leaves_what_is_served(tmp_path, bundle, new_walks):
    """A process that is killed while it trains; the next one takes over and finishes."""
    url = f"sqlite:///{tmp_path / 'killed.db'}"
    database = open_database(url)
    publish(database.store(), bundle, activate=True)
    database.store().append_events(new_walks(150, step=1, seed=1)).result()
    version = active(database.store()).version
    database.close()
    script = (
        "import sys, time\n"
        "from zhiyin.experiments.refreshing import loop, rounds\n"
        "from zhiyin.experiments.refreshing.settings import LoopConfig\n"
        "from zhiyin.stores.opening import open_database\n"
        "def slow(*a, **k):\n    print('training', flush=True)\n    time.sleep(60)\n"
        "rounds.refresh = slow\n"
        "config = LoopConfig.parse({'lease_seconds': 0.5, 'judging': {'fewest_events': 20}}, where='loop')\n"
        f"loop.LearningLoop(open_database({url!r}).store(), config).round()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "training"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    database = open_database(url)
    try:
        assert active(database.store()).version == version
        time.sleep(0.6)
        done = LearningLoop(database.store(), QUICK).round()
        assert done.decision is Decision.LIVE
    finally:
        database.close()


@pytest.mark.usefixtures("live")
def test_events_after_the_position_are_left_for_the_service(store, new_walks):
    store.append_events(new_walks(150, step=1, seed=1)).result()
    done = LearningLoop(store, QUICK).round()
    after = store.append_events([Event("later", "u0", "i1", "view", 1_800_000_000)])
    after.result()
    changes = store.changes_after(active(store).position)
    assert changes.events["user_id"].to_list() == ["u0"]
    assert done.version == active(store).version


def test_a_round_on_postgresql(postgres_url, bundle, new_walks):
    """The same on a store that several processes share."""
    database = open_database(postgres_url)
    try:
        shared = database.store("loop-on-postgresql")
        publish(shared, bundle, activate=True)
        shared.append_events(new_walks(150, step=3, seed=1)).result()
        done = LearningLoop(shared, QUICK).round()
        assert done.decision is Decision.LIVE
        assert active(shared).version == done.version
        assert rollback(shared) != done.version
        assert not shared.documents(KIND)
    finally:
        database.close()
