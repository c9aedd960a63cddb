"""Events of a stream, Redis that is away, and stale answers, seen through the metrics of a service."""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis

from zhiyin.contracts import TrainingData
from zhiyin.domain.errors import StoreError
from zhiyin.online.streams.consumer import StreamCounts
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.pipeline.recipes import recipe
from zhiyin.serving.access.keys import SCOPES, Allowance, ApiKeys
from zhiyin.serving.app import create_app
from zhiyin.serving.label_values import Tenants
from zhiyin.serving.settings import AnswerSettings, ServingSettings, SharingSettings
from zhiyin.serving.stream_readings import StreamReadings
from zhiyin.testing.tea_shop import tea_shop

Start = Callable[..., TestClient]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running: list[TestClient] = []

    def start(**sharing: Any) -> TestClient:
        pipeline = Pipeline(recipe("popular"))
        pipeline.fit(TrainingData(tea_shop(), pipeline.language))
        settings = ServingSettings(
            log_requests=False,
            answers=AnswerSettings(budget_ms=30_000.0),
            sharing=SharingSettings(**sharing),
        )
        app = create_app(pipeline, f"sqlite:///{tmp_path}/store.db", settings)
        client = TestClient(app, raise_server_exceptions=False, client=("127.0.0.1", 50_000))
        running.append(client.__enter__())
        return client

    yield start
    for client in running:
        client.__exit__(None, None, None)


def value(client: TestClient, name: str, **labels: str) -> float | None:
    for family in text_string_to_metric_families(client.app.state.metrics.text().decode()):  # type: ignore[attr-defined]
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return float(sample.value)
    return None


def eventually(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until, "it never came to that"
        time.sleep(0.05)


STREAM = {"stream": "events", "tenant": "default"}


def test_events_of_a_stream_count_like_those_of_requests(start: Start, redis_url: str) -> None:
    client = start(streams=(f"{redis_url}?stream=events",))
    assert value(client, "zhiyin_events_stored_total") == 0
    with Redis.from_url(redis_url) as redis:
        for number in range(50):
            event = {"user_id": f"u{number % 5}", "item_id": "i1", "event": "view"}
            redis.xadd("events", {"json": json.dumps(event)})
        redis.xadd("events", {"json": json.dumps({"user_id": "u", "item_id": "i1", "event_id": "same"})})
        redis.xadd("events", {"json": json.dumps({"user_id": "u", "item_id": "i1", "event_id": "same"})})
        redis.xadd("events", {"json": "{"})
    eventually(lambda: value(client, "zhiyin_stream_messages_total", **STREAM, outcome="dead") == 1)
    eventually(lambda: value(client, "zhiyin_stream_messages_total", **STREAM, outcome="stored") == 52)
    assert value(client, "zhiyin_events_stored_total") == 51
    assert value(client, "zhiyin_events_duplicate_total") == 1
    assert value(client, "zhiyin_tenant_events_total", tenant="default") == 51
    assert value(client, "zhiyin_events_by_kind_total", kind="view") == 50
    assert (value(client, "zhiyin_freshness_seconds_count", tenant="default") or 0) > 0
    assert value(client, "zhiyin_stream_failures_total", **STREAM) == 0
    lines = b'{"user_id": "u", "item_id": "i2"}\n' * 3
    client.post("/v1/events/bulk", content=lines, headers={"Content-Type": "application/x-ndjson"})
    client.post("/v1/events", json={"user_id": "u", "item_id": "i1"})
    assert value(client, "zhiyin_events_stored_total") == 55


def test_a_stream_that_is_away_is_no_empty_stream(start: Start, redis_server: Any) -> None:
    client = start(streams=(f"{redis_server.url}?stream=events",))
    eventually(lambda: value(client, "zhiyin_stream_answers", **STREAM) == 1)
    assert value(client, "zhiyin_queue_depth", queue="stream events") == 0
    redis_server.kill()
    eventually(lambda: (value(client, "zhiyin_stream_failures_total", **STREAM) or 0) > 1)
    assert value(client, "zhiyin_queue_depth", queue="stream events") is None
    assert value(client, "zhiyin_stream_answers", **STREAM) == 0
    redis_server.start()
    eventually(lambda: value(client, "zhiyin_queue_depth", queue="stream events") == 0)
    assert value(client, "zhiyin_stream_answers", **STREAM) == 1


def test_a_store_that_does_not_take_the_events_of_a_stream_is_counted(
    start: Start, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = start(streams=(f"{redis_url}?stream=events",))

    def fail(*_: object, **__: object) -> Future[None]:
        failed: Future[None] = Future()
        failed.set_exception(StoreError("The disk is full."))
        return failed

    store = client.app.state.service.engines["default"].store  # type: ignore[attr-defined]
    monkeypatch.setattr(store._desk, "submit", fail)
    with Redis.from_url(redis_url) as redis:
        redis.xadd("events", {"json": json.dumps({"user_id": "u", "item_id": "i1"})})
    eventually(lambda: (value(client, "zhiyin_store_errors_total", store="database") or 0) > 0)
    monkeypatch.undo()
    eventually(lambda: value(client, "zhiyin_events_stored_total") == 1)


def test_redis_that_is_away_is_counted_and_nobody_waits_for_it(start: Start, redis_server: Any) -> None:
    client = start(redis=redis_server.url)
    access = client.app.state.service.database.access  # type: ignore[attr-defined]
    made = ApiKeys(access).create("shop", Allowance(SCOPES))
    client.headers["Authorization"] = f"Bearer {made.text}"
    assert client.post("/v1/recommend", json={"user_id": "u1"}).status_code == 200
    assert value(client, "zhiyin_store_errors_total", store="redis") is None
    redis_server.kill()
    assert client.post("/v1/recommend", json={"user_id": "u1"}).status_code == 200
    assert value(client, "zhiyin_store_errors_total", store="redis") == 1


def test_keys_that_cannot_be_looked_up_are_a_failure_of_the_store(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = start()
    access = client.app.state.service.database.access  # type: ignore[attr-defined]
    made = ApiKeys(access).create("shop", Allowance(SCOPES))

    def fail(*_: object) -> None:
        raise StoreError("The database is away.")

    monkeypatch.setattr(access, "key", fail)
    with_key = {"Authorization": f"Bearer {made.text}"}
    assert client.post("/v1/recommend", json={"user_id": "u1"}, headers=with_key).status_code == 503
    assert value(client, "zhiyin_store_errors_total", store="database") == 1


def test_stale_answers_are_counted(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    client = start()
    following = client.app.state.service.engines["default"].following  # type: ignore[attr-defined]
    monkeypatch.setattr(following, "catch_up", lambda: False)
    for _ in range(5):
        assert client.post("/v1/recommend", json={"user_id": "u1"}).json()["degraded"] == "stale"
    assert value(client, "zhiyin_fallbacks_total", reason="stale") == 5
    assert value(client, "zhiyin_store_errors_total", store="database") == 5


def test_streams_of_one_name_are_added_up_and_one_that_is_unknown_hides_no_other() -> None:
    readings = StreamReadings(Tenants())
    here, there, other = (StreamCounts(consumed=n, lag=n) for n in (1, 2, 4))
    lag = readings.add("events", "a", here)
    readings.add("events", "a", there)
    readings.add("events", "b", other)

    def told(name: str) -> dict[str, float]:
        return {
            sample.labels["tenant"]: sample.value
            for family in readings.collect()
            for sample in family.samples
            if sample.name == name and sample.labels.get("outcome", "stored") == "stored"
        }

    assert told("zhiyin_stream_messages_total") == {"a": 3, "b": 4}
    assert lag() == 7
    there.lag = None
    assert told("zhiyin_stream_answers") == {"a": 0, "b": 1}
    assert lag() is None
