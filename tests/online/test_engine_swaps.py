"""One bundle takes the place of another while answers go on, and what was erased leaves the counts."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from zhiyin.domain import Vocabulary
from zhiyin.domain.errors import ConfigError, StoreError, UnknownUser, ZhiyinError
from zhiyin.online import swapping
from zhiyin.online.asked import Answer, AskedSlate, Wanted
from zhiyin.online.engine import EngineSettings, LiveEngine
from zhiyin.online.live import Live
from zhiyin.online.trials.definition import KIND, parse_trial
from zhiyin.online.versions import bundle_to_serve, bundle_version
from zhiyin.pipeline.bundle import save_bundle
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.stores.events import BATCH_SCHEMA, Database
from zhiyin.stores.opening import open_database
from zhiyin.stores.records import Changes, Event, StoredDocument


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return open_database(f"sqlite:///{tmp_path}/store.db")


@pytest.fixture
def versions(pipeline: Pipeline, database: Database, tmp_path: Path) -> list[str]:
    """The same bundle under two versions; the first is active."""
    made = []
    for name in ("first", "second"):
        folder = save_bundle(pipeline, tmp_path / name)
        card = folder / "bundle.toml"
        card.write_text(f"# {name}\n{card.read_text()}")
        made.append(bundle_version(folder))
        database.store().put_bundle(made[-1], folder, position=0, facts={})
    database.store().activate_bundle(made[0]).result()
    return made


@pytest.fixture
def engine(database: Database, versions: list[str]) -> Iterator[LiveEngine]:
    assert versions
    store = database.store()
    engine = LiveEngine(bundle_to_serve(store, None), store, settings=EngineSettings(count_anew_seconds=0.0))
    yield engine
    engine.close()
    database.close()
    engine.close_lives()


def answer(engine: LiveEngine, user_id: str = "u1") -> Answer:
    [made] = engine.answer([AskedSlate(user_id, Wanted(n=30), "r")])
    assert isinstance(made, Answer), made
    return made


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 15
    while not holds():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def test_nobody_waits_for_the_language_model(
    database: Database, versions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is loaded when the service starts and before another bundle takes over, and may be missing."""
    warmed: list[tuple[Pipeline, Pipeline | None]] = []

    def warm_up(pipeline: Pipeline) -> None:
        warmed.append((pipeline, serving[0].live.pipeline if serving else None))
        raise ConfigError("There is no such model here.")

    serving: list[LiveEngine] = []
    monkeypatch.setattr(Pipeline, "warm_up", warm_up)
    store = database.store()
    engine = LiveEngine(bundle_to_serve(store, None), store, settings=EngineSettings())
    until(lambda: len(warmed) == 1)
    serving.append(engine)
    before = engine.live.pipeline
    assert warmed[0][0] is before
    engine.activate(versions[1]).result()
    assert warmed[1] == (engine.live.pipeline, before)
    assert engine.live.version == versions[1]
    assert answer(engine).items
    engine.close()
    database.close()
    engine.close_lives()


def test_answers_go_on_while_bundles_are_exchanged(engine: LiveEngine, versions: list[str]) -> None:
    engine.intake.accept([Event("e", "new", "i3", "view", 1_700_000_000)]).result()
    expected, stop, seen, wrong = answer(engine, "new"), threading.Event(), set[str](), list[object]()

    def ask() -> None:
        while not stop.is_set():
            got = answer(engine, "new")
            seen.add(got.bundle)
            if [item.item_id for item in got.items] != [item.item_id for item in expected.items]:
                wrong.append(got)

    asking = [threading.Thread(target=ask) for _ in range(3)]
    for thread in asking:
        thread.start()
    for nth in range(6):
        assert engine.activate(versions[(nth + 1) % 2]).result(timeout=20) == versions[(nth + 1) % 2]
        assert engine.bundle == versions[(nth + 1) % 2]
    stop.set()
    for thread in asking:
        thread.join()
    assert seen == set(versions)
    assert not wrong
    assert len(engine.following.lives) == 1


def test_a_version_that_is_not_there_or_damaged_leaves_the_one_in_use(
    engine: LiveEngine, versions: list[str], pipeline: Pipeline, database: Database, tmp_path: Path
) -> None:
    with pytest.raises(ZhiyinError):
        engine.activate("nobody").result(timeout=20)
    folder = save_bundle(pipeline, tmp_path / "damaged")
    (folder / "bundle.toml").write_text("format = 1\n")
    database.store().put_bundle("damaged", folder, position=0, facts={})
    with pytest.raises(ZhiyinError):
        engine.activate("damaged").result(timeout=20)
    assert engine.bundle == versions[0]
    assert answer(engine).bundle == versions[0]
    assert len(engine.following.lives) == 1


def test_forth_and_back_at_once_ends_where_the_log_ends(engine: LiveEngine, versions: list[str]) -> None:
    """Two activations by another process, read before the first of them was carried out."""
    for version in (versions[1], versions[0], versions[1], versions[0]):
        engine._hear(Changes(0, (), (), (), BATCH_SCHEMA.to_frame(), (), version))
    engine._swaps.in_turn(lambda: None).result(timeout=20)
    assert engine.bundle == versions[0]


def assert_counts_are_rid_of_who_was_erased(engine: LiveEngine) -> None:
    before = {item.item_id: item.score for item in answer(engine, "stranger").items}
    events = [Event(f"e{n}", "busy", f"i{20 + n % 5}", "view", 1_700_000_000 + n) for n in range(60)]
    engine.intake.accept(events).result()
    until(lambda: {item.item_id: item.score for item in answer(engine, "stranger").items} != before)
    engine.intake.delete_user("busy").result()
    until(lambda: {item.item_id: item.score for item in answer(engine, "stranger").items} == before)


def test_counts_are_rid_of_who_was_erased(engine: LiveEngine, versions: list[str]) -> None:
    """As if they had never been: the same scores as before their events, bit by bit."""
    assert_counts_are_rid_of_who_was_erased(engine)
    assert engine.bundle == versions[0]


def test_counts_are_rid_of_who_was_erased_also_where_a_store_was_away_first(
    engine: LiveEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, refused = swapping.load_version, []

    def load_later(*which: Any) -> Any:
        if len(refused) < 2:
            refused.append(which)
            raise StoreError("It is away.")
        return load(*which)

    monkeypatch.setattr(swapping, "load_version", load_later)
    assert_counts_are_rid_of_who_was_erased(engine)
    assert len(refused) == 2


def test_counts_of_bundles_of_experiments_are_rid_of_them_too(
    engine: LiveEngine, versions: list[str]
) -> None:
    arms = {"now": {"share": 0.5}, "new": {"share": 0.5, "bundle": versions[1]}}
    trial = parse_trial({"name": "t", "arms": arms, "control": "now", "start": 0})
    body = {"trial": trial.model_dump(mode="json"), "buckets": [[0, 10_000]], "stopped": None}
    engine.take_documents([StoredDocument(KIND, "t", body)])
    until(lambda: len(engine.following.lives) == 2)
    main, of_arm = engine.following.lives
    engine.intake.accept([Event("e", "busy", "i3", "view", 1_700_000_000)]).result()
    engine.intake.delete_user("busy").result()
    until(lambda: not {main, of_arm} & set(engine.following.lives))
    until(lambda: len(engine.following.lives) == 2)
    assert {live.version for live in engine.following.lives} == set(versions)
    assert {answer(engine, f"v{n}").bundle for n in range(40)} == set(versions)


def test_what_became_active_while_the_first_bundle_was_loaded_is_served(
    database: Database, versions: list[str]
) -> None:
    store = database.store()
    loaded = bundle_to_serve(store, None)
    assert loaded.version == versions[0]
    store.activate_bundle(versions[1]).result()
    engine = LiveEngine(loaded, store)
    until(lambda: engine.bundle == versions[1])
    engine.close()
    database.close()
    engine.close_lives()


def test_who_is_known_to_the_bundle_of_an_experiment_alone_is_told_and_erased(
    engine: LiveEngine, pipeline: Pipeline
) -> None:
    ids = pipeline.users.ids.to_list()
    arm = Live(
        pipeline, version="arm", users=Vocabulary([ids[0], *(f"arm-{user_id}" for user_id in ids[1:])])
    )
    alone = engine.intake.export_user(ids[0]).remembered
    engine.following.add(arm)
    assert engine.intake.export_user(ids[0]).remembered == alone, "what both know is told once"
    of_main = engine.intake.export_user(ids[1]).remembered
    assert engine.intake.export_user(f"arm-{ids[1]}").remembered == of_main != ()
    engine.intake.delete_user(f"arm-{ids[1]}").result()
    with pytest.raises(UnknownUser):
        engine.intake.export_user(f"arm-{ids[1]}")
    assert not arm.histories.is_user(f"arm-{ids[1]}")
    engine.following.drop(arm)
    arm.close()
