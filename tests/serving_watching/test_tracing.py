"""Spans, as OpenTelemetry's own exporter in memory saw them."""
# ruff: noqa: ARG001 - what ASGI hands over

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Response
from fastapi.testclient import TestClient
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from zhiyin.contracts import TrainingData
from zhiyin.domain.errors import ConfigError
from zhiyin.pipeline.pipeline import Pipeline
from zhiyin.pipeline.recipes import recipe
from zhiyin.serving.app import create_app
from zhiyin.serving.log import make_log
from zhiyin.serving.metrics import Metrics
from zhiyin.serving.requests import Requests
from zhiyin.serving.settings import ServingSettings
from zhiyin.serving.tracing import Tracer, tracer_from_environment
from zhiyin.testing.tea_shop import tea_shop

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(spans: InMemorySpanExporter) -> Tracer:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return Tracer(provider)


def service(tracer: Tracer | None) -> TestClient:
    app = FastAPI()

    @app.get("/v1/users/{user_id}")
    async def answer(user_id: str) -> dict[str, Any]:
        assert tracer is not None
        here = tracer.here()
        tracer.stage("gate", 0.001)

        def work() -> None:
            tracer.stage("rank", 0.25, here)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return tracer.headers()

    @app.get("/fail")
    async def fail() -> Response:
        raise RuntimeError

    app.add_middleware(Requests, metrics=Metrics(), log=make_log(), log_requests=True, tracer=tracer)
    return TestClient(app, raise_server_exceptions=False)


def test_a_request_and_its_stages_are_one_trace(
    tracer: Tracer, spans: InMemorySpanExporter, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = service(tracer).get("/v1/users/anna", headers={"traceparent": PARENT})
    gate, rank, request = spans.get_finished_spans()
    assert [span.name for span in (gate, rank, request)] == ["gate", "rank", "GET /v1/users/{user_id}"]
    assert {f"{span.context.trace_id:032x}" for span in (gate, rank, request)} == {PARENT[3:35]}
    assert f"{request.parent.span_id:016x}" == PARENT[36:52]
    assert gate.parent.span_id == rank.parent.span_id == request.context.span_id
    assert rank.end_time - rank.start_time == 250_000_000
    assert dict(request.attributes) == {
        "http.request.method": "GET",
        "http.route": "/v1/users/{user_id}",
        "http.response.status_code": 200,
    }
    here = f"00-{PARENT[3:35]}-{request.context.span_id:016x}-01"
    assert answer.json()["traceparent"] == here
    assert answer.headers["traceresponse"] == here
    assert f'"trace_id":"{PARENT[3:35]}"' in capsys.readouterr().err


@pytest.mark.parametrize("given", [None, "nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
def test_without_a_valid_parent_a_trace_begins(
    tracer: Tracer, spans: InMemorySpanExporter, given: str | None
) -> None:
    service(tracer).get("/nowhere", headers={"traceparent": given} if given else {})
    (request,) = spans.get_finished_spans()
    assert request.parent is None
    assert request.name == "GET unknown"


def test_a_failure_is_an_error_of_its_span(tracer: Tracer, spans: InMemorySpanExporter) -> None:
    service(tracer).get("/fail")
    (request,) = spans.get_finished_spans()
    assert not request.status.is_ok
    assert not request.events  # a recorded exception would carry its words


def test_a_stage_outside_of_requests_makes_no_span(tracer: Tracer, spans: InMemorySpanExporter) -> None:
    tracer.stage("commit", 0.1)
    assert tracer.headers() == {}
    assert not spans.get_finished_spans()


def test_a_client_that_leaves_ends_the_span(tracer: Tracer, spans: InMemorySpanExporter) -> None:
    async def leave(scope: Any, receive: Any, send: Any) -> None:
        raise asyncio.CancelledError

    wrapped = Requests(leave, metrics=Metrics(), log=make_log(), log_requests=False, tracer=tracer)
    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(wrapped(scope, None, None))  # type: ignore[arg-type]
    (request,) = spans.get_finished_spans()
    assert request.attributes["http.response.status_code"] == 499


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:4318", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:4318", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_nothing_is_traced_unless_asked_for(environment: dict[str, str]) -> None:
    assert tracer_from_environment(environment) is None


def test_another_protocol_is_refused_in_words() -> None:
    given = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    with pytest.raises(ConfigError, match="'grpc'"):
        tracer_from_environment(given)


def test_spans_go_to_a_collector_over_http(listener: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", listener.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=tea")
    tracer = tracer_from_environment()
    assert tracer is not None
    started = time.monotonic()
    with tracer.request("GET", []) as span:
        tracer.stage("rank", 0.1)
        span.end("/v1/recommend", "GET", 200)
    assert time.monotonic() - started < 1  # sent later, by another thread
    tracer.close()
    (sent,) = listener.heard
    assert sent.path == "/v1/traces"
    assert sent.headers["x-team"] == "tea"
    (resource,) = ExportTraceServiceRequest.FromString(sent.body).resource_spans
    assert {a.key: a.value.string_value for a in resource.resource.attributes}["service.name"] == "zhiyin"
    names = [span.name for scope in resource.scope_spans for span in scope.spans]
    assert names == ["rank", "GET /v1/recommend"]


def test_stages_of_the_service_are_children_of_their_requests(
    tmp_path: Path, spans: InMemorySpanExporter, tracer: Tracer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zhiyin.serving.app.tracer_from_environment", lambda: tracer)
    pipeline = Pipeline(recipe("fast"))
    pipeline.fit(TrainingData(tea_shop(), pipeline.language))
    app = create_app(pipeline, f"sqlite:///{tmp_path}/store.db", ServingSettings(log_requests=False))
    with TestClient(app, client=("127.0.0.1", 50000)) as client:
        for user in ("u1", "u2"):
            wish = {"user_id": user, "explain": True, "filter": {"item_id": {"in": ["i1", "i2", "i3"]}}}
            assert client.post("/v1/recommend", json=wish).status_code == 200
        assert client.post("/v1/events", json={"user_id": "u1", "item_id": "i1"}).status_code == 202
    made = spans.get_finished_spans()
    requests = [span for span in made if span.parent is None]
    stages = {
        request.context.span_id: [
            span
            for span in made
            if span.parent is not None and span.parent.span_id == request.context.span_id
        ]
        for request in requests
    }
    assert [request.name for request in requests] == ["POST /v1/recommend"] * 2 + ["POST /v1/events"]
    first, second, event = ([span.name for span in stages[r.context.span_id]] for r in requests)
    of_sources = [f"{what} {name}" for what in ("propose", "score") for name in ("item_graph", "popularity")]
    ranking = [*of_sources, "merge", "policy", "rank", "reason item_graph"]
    assert first == second == ["gate", "queue", "history", "filter", *ranking, "explain"]
    assert event == ["gate", "commit"]
    assert sum(map(len, stages.values())) + len(requests) == len(made)
    for request in requests:
        for span in stages[request.context.span_id]:
            assert request.start_time <= span.end_time <= request.end_time
