"""The outermost middleware, around an application of a few lines."""
# ruff: noqa: ARG001 - what ASGI hands over

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response
from fastapi.testclient import TestClient

from zhiyin.serving.access.scopes import Principal
from zhiyin.serving.log import make_log
from zhiyin.serving.metrics import Metrics
from zhiyin.serving.requests import Requests

SECRET_USER = "anna-4711"


def service(metrics: Metrics | None = None, **options: Any) -> TestClient:
    app = FastAPI()

    @app.post("/v1/users/{user_id}")
    async def told(user_id: str, request: Request) -> Response:
        request.state.principal = Principal("k1", "shop", frozenset())
        request.state.bundle = "v7"
        request.state.degraded = "time"
        return Response(status_code=201)

    @app.get("/v1/fail/{user_id}")
    async def fail(user_id: str) -> Response:
        raise KeyError(f"no such user: {user_id}")

    app.add_middleware(Requests, metrics=metrics or Metrics(), log=make_log(), log_requests=True, **options)
    return TestClient(app, raise_server_exceptions=False)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_says_everything_and_names_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    service().post(
        f"/v1/users/{SECRET_USER}?user={SECRET_USER}",
        headers={"X-Request-ID": "r-7", "Authorization": "Bearer zy_secret"},
    )
    text = capsys.readouterr().err
    assert SECRET_USER not in text
    assert "zy_secret" not in text
    (line,) = [json.loads(line) for line in text.splitlines()]
    assert line.pop("ms") >= 0
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "request",
        "level": "info",
        "request_id": "r-7",
        "tenant": "shop",
        "key_id": "k1",
        "bundle": "v7",
        "degraded": "time",
        "method": "POST",
        "route": "/v1/users/{user_id}",
        "status": 201,
    }


def test_a_failure_tells_its_place_but_not_its_words(capsys: pytest.CaptureFixture[str]) -> None:
    answer = service().get(f"/v1/fail/{SECRET_USER}")
    assert answer.status_code == 500
    assert answer.json()["type"] == "urn:zhiyin:problem:internal-error"
    text = capsys.readouterr().err
    assert SECRET_USER not in text
    failed, counted = (json.loads(line) for line in text.splitlines())
    assert (failed["event"], failed["level"], failed["error"]) == ("request failed", "error", "KeyError")
    assert failed["route"] == "/v1/fail/{user_id}"
    assert "fail" in failed["traceback"][-1]
    assert failed["request_id"] == counted["request_id"] == answer.headers["X-Request-ID"]
    assert counted["status"] == 500


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "line\tbreak"])
def test_an_id_that_is_none_is_replaced(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    answered = service().get("/nowhere", headers={"X-Request-ID": given}).headers["X-Request-ID"]
    assert answered != given
    assert len(answered) == 16
    assert lines(capsys)[0]["route"] == "unknown"


def test_requests_are_counted_by_template_method_and_status() -> None:
    metrics = Metrics()
    client = service(metrics)
    client.post("/v1/users/one")
    client.post("/v1/users/two")
    client.request("BREW", "/v1/users/two")
    client.get("/v1/fail/x")
    value = metrics.registry.get_sample_value
    route = "/v1/users/{user_id}"
    assert value("zhiyin_requests_total", {"route": route, "method": "POST", "status": "201"}) == 2
    assert value("zhiyin_requests_total", {"route": route, "method": "OTHER", "status": "405"}) == 1
    assert value("zhiyin_request_seconds_count", {"route": "/v1/fail/{user_id}"}) == 1
    assert value("zhiyin_tenant_requests_total", {"tenant": "shop", "outcome": "ok"}) == 2
    assert value("zhiyin_requests_in_progress", {}) == 0


def run(app: Callable[..., Any], scope: dict[str, Any], metrics: Metrics) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(Requests(app, metrics=metrics, log=make_log(), log_requests=True)(scope, receive, send))
    return sent


def scope_of() -> dict[str, Any]:
    return {"type": "http", "method": "GET", "path": "/", "headers": []}


def test_a_client_that_leaves_is_counted_as_one() -> None:
    async def leave(scope: Any, receive: Any, send: Any) -> None:
        raise asyncio.CancelledError

    metrics = Metrics()
    with pytest.raises(asyncio.CancelledError):
        run(leave, scope_of(), metrics)
    labels = {"route": "unknown", "method": "GET", "status": "499"}
    assert metrics.registry.get_sample_value("zhiyin_requests_total", labels) == 1
    assert metrics.in_progress == 0


def test_a_client_that_leaves_before_its_body_has_come_is_no_failure(
    capsys: pytest.CaptureFixture[str],
) -> None:
    app = FastAPI()

    @app.post("/v1/events")
    async def events(request: Request) -> Response:
        return Response(await request.body(), status_code=202)

    parts = [{"type": "http.request", "body": b'{"user_id"', "more_body": True}, {"type": "http.disconnect"}]
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return parts.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    metrics = Metrics()
    app.add_middleware(Requests, metrics=metrics, log=make_log(), log_requests=True)
    scope = {
        "type": "http", "method": "POST", "path": "/v1/events", "query_string": b"", "scheme": "http",
        "server": ("127.0.0.1", 80), "headers": [(b"content-type", b"application/json")],
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    assert sent == []
    labels = {"route": "/v1/events", "method": "POST", "status": "499"}
    assert metrics.registry.get_sample_value("zhiyin_requests_total", labels) == 1
    (line,) = lines(capsys)
    assert (line["event"], line["level"], line["status"]) == ("request", "info", 499)


def test_a_failure_after_the_first_byte_does_not_answer_twice() -> None:
    async def break_off(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError

    sent = run(break_off, scope_of(), Metrics())
    assert [message["type"] for message in sent] == ["http.response.start"]


def test_what_is_no_request_passes_through() -> None:
    seen = []

    async def remember(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    metrics = Metrics()
    run(remember, {"type": "lifespan"}, metrics)
    assert seen == ["lifespan"]


def test_the_middleware_is_cheap(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """40 µs a request is what it may cost; the test allows five times that on a busy machine."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive() -> dict[str, Any]:
        return {}

    async def send(message: Any) -> None:
        pass

    asking = Principal("k1", "shop", frozenset())

    async def measure(app: Any, n: int = 2_000) -> float:
        start = time.perf_counter()
        for _ in range(n):
            await app({**scope_of(), "state": {"principal": asking, "bundle": "v"}}, receive, send)
        return (time.perf_counter() - start) / n

    with (tmp_path / "log").open("w") as stream:
        monkeypatch.setattr("sys.stderr", stream)
        wrapped = Requests(answer, metrics=Metrics(), log=make_log(), log_requests=True)
        cost = min(asyncio.run(measure(wrapped)) - asyncio.run(measure(answer)) for _ in range(3))
    assert cost < 200e-6
    print(f"{cost * 1e6:.1f} µs a request")
