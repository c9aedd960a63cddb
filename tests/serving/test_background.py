"""What runs beside the requests: loops for every tenant, streams for a tenant, drift that is remembered."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from zhiyin.domain.errors import ConfigError, StoreError
from zhiyin.experiments.refreshing.loop import DRIFT_KIND
from zhiyin.online.asked import Accepted
from zhiyin.online.streams.consumer import StreamCounts
from zhiyin.online.streams.settings import StreamSettings
from zhiyin.serving import background as background_module
from zhiyin.serving.background import Background
from zhiyin.serving.metrics import Metrics
from zhiyin.serving.settings import AnswerSettings, LearningSettings, ServingSettings, SharingSettings
from zhiyin.stores.records import Event

LEARNING = ServingSettings(
    log_requests=False,
    answers=AnswerSettings(budget_ms=30_000.0),
    learning=LearningSettings(every_minutes=0.001),
)


def eventually(holds: Callable[[], Any], seconds: float = 20.0) -> Any:
    until = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < until, "it never came to that"
        time.sleep(0.02)
    return found


def test_a_loop_in_the_service_is_heard_and_counted(
    start: Callable[..., TestClient], caplog: pytest.LogCaptureFixture
) -> None:
    """A folder that is served without being published leaves the loop without a bundle to go on from."""
    caplog.set_level(logging.INFO, logger="zhiyin.serving.background")
    client = start(LEARNING)

    def failed() -> list[logging.LogRecord]:
        return [record for record in caplog.records if vars(record).get("step") == "error"]

    [record, *_] = eventually(failed)
    assert (record.levelno, vars(record)["tenant"]) == (logging.WARNING, "default")
    assert "zhiyin publish" in record.message
    counted = 'zhiyin_learning_steps_total{step="error",tenant="default"}'
    assert counted in client.get("/metrics").text


def test_a_loop_of_an_unknown_recipe_does_not_begin() -> None:
    learning = {"every_minutes": 5, "refresh": {"recipe": "hybird"}}
    settings = ServingSettings.parse({"learning": learning}, where="service")
    service: Any = SimpleNamespace(settings=settings, metrics=Metrics(), engines={})
    with pytest.raises(ConfigError, match="Did you mean 'hybrid'"):
        Background(service)


def test_tenants_that_come_later_learn_too(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []

    class Loop:
        def __init__(self, store: str, *_: object, **__: object) -> None:
            self._store = store

        def run(self, stop: threading.Event) -> None:
            begun.append(self._store)
            stop.wait()

    monkeypatch.setattr(background_module, "LearningLoop", Loop)
    monkeypatch.setattr(background_module, "_LOOK_AGAIN_SECONDS", 0.01)
    service: Any = SimpleNamespace(
        settings=LEARNING,
        metrics=Metrics(),
        engines={"default": SimpleNamespace(store="default")},
        border=SimpleNamespace(people_of_bundle=lambda _, user_ids: user_ids),
    )
    running = Background(service)
    running.start()
    eventually(lambda: begun == ["default"])
    service.engines = service.engines | {"coffee": SimpleNamespace(store="coffee")}
    eventually(lambda: begun == ["default", "coffee"])
    time.sleep(0.05)
    running.stop()
    assert begun == ["default", "coffee"], "one loop for each"


def test_unused_memory_is_given_back_until_the_service_stops(start: Callable[..., TestClient]) -> None:
    others = threading.enumerate()
    client = start(ServingSettings(log_requests=False))
    [giving] = [one for one in threading.enumerate() if one.name == "zhiyin-memory" and one not in others]
    client.__exit__(None, None, None)
    giving.join(10)
    assert not giving.is_alive()


def test_settings_of_stages_and_vectors_reach_the_engines(start: Callable[..., TestClient]) -> None:
    answers = AnswerSettings(stage_budget_ms=250.0)
    app: Any = start(ServingSettings(log_requests=False, answers=answers)).app
    assert app.state.service.engines["default"].pipeline.stages.budget_seconds == 0.25
    sharing = SharingSettings(vectors="usearch:")  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="not kept in 'usearch:'"):
        start(ServingSettings(log_requests=False, sharing=sharing))


def test_events_of_a_stream_are_those_of_its_tenant(monkeypatch: pytest.MonkeyPatch) -> None:
    def open_stream(url: str, accept: Any) -> Any:
        return SimpleNamespace(settings=StreamSettings.from_url(url), accept=accept, counts=StreamCounts())

    monkeypatch.setattr(background_module, "open_stream", open_stream)
    taken: dict[str, list[Event]] = {"default": [], "coffee": []}

    def engine(tenant: str) -> Any:
        def accept(events: list[Event]) -> Future[Accepted]:
            taken[tenant] += events
            return Future()

        return SimpleNamespace(intake=SimpleNamespace(accept=accept))

    border = SimpleNamespace(
        people=lambda tenant, user_ids: [f"{tenant} {user_id}" for user_id in user_ids],
        attributes=lambda _, context: context,
    )
    streams = ["redis://localhost:1/0?stream=tea", "redis://localhost:1/0?stream=beans&tenant=coffee"]
    service: Any = SimpleNamespace(
        unserved=SimpleNamespace(tenants=()),
        settings=ServingSettings(sharing=SharingSettings(streams=streams)),
        metrics=Metrics(),
        engines=taken,
        engine=engine,
        border=border,
    )
    opened: list[Any] = Background(service).streams
    for stream in opened:
        stream.accept([Event("e", "anna", "item", "view", 1)])
    assert [event.user_id for event in taken["default"]] == ["default anna"]
    assert [event.user_id for event in taken["coffee"]] == ["coffee anna"]
    for reader in ("&tenant=coffee", "&tenant=coffee&group=coffee"):
        both = ServingSettings(sharing=SharingSettings(streams=[streams[0], streams[0] + reader]))
        with pytest.raises(ConfigError, match="in one group") if "group" not in reader else nullcontext():
            Background(SimpleNamespace(**{**vars(service), "settings": both}))  # type: ignore[arg-type]
    del service.engines["coffee"]
    with pytest.raises(ConfigError, match="tenant 'coffee', which is not served"):
        Background(service)


def test_drift_that_was_measured_is_told_after_a_restart(start: Callable[..., TestClient]) -> None:
    client = start()
    assert "zhiyin_drift_score{" not in client.get("/metrics").text
    store = client.app.state.service.engines["default"].store  # type: ignore[attr-defined]
    measured = [{"name": "popularity", "level": "alert"}]
    store.put_document(DRIFT_KIND, "newest", {"measured": measured}).result()
    again = start()
    assert 'zhiyin_drift_score{measure="popularity",tenant="default"} 2.0' in again.get("/metrics").text
