"""The short road to a route: the same answers as the long one, and only for what it knows."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response

from zhiyin.domain.errors import StoreError
from zhiyin.serving.access.gate import SOMEBODY_LOCAL
from zhiyin.serving.body import JsonRoute
from zhiyin.serving.direct import Direct
from zhiyin.serving.metrics import Metrics
from zhiyin.serving.problems import Refused
from zhiyin.serving.receiving import Received

router = APIRouter(route_class=JsonRoute)


@router.post("/double")
async def double(request: Request, body: dict[str, int]) -> Response:  # noqa: ARG001
    return Response(str(2 * body["n"]))


@router.post("/refused")
async def refused(request: Request) -> Response:  # noqa: ARG001
    raise Refused("overloaded", "No.")


@router.post("/away")
async def away(request: Request) -> Response:  # noqa: ARG001
    raise StoreError("The store is away.")


@router.post("/with/{name}")
async def with_name(request: Request, name: str) -> Response:  # noqa: ARG001
    return Response(name)


class _State:
    metrics = Metrics()
    received = Received(lambda: None)

    class settings:  # noqa: N801
        max_body_bytes = 100


class _App:
    state = _State()


def asked(method: str, path: str, body: bytes = b"") -> tuple[int | None, bytes, str | None]:
    """Return status, body, and the template of the route; the framework behind answers 299."""
    sent: list[Any] = []

    async def framework(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 299, "headers": []})

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
        "app": _App(),
        "state": {"request_id": "r1", "principal": SOMEBODY_LOCAL},
    }
    asyncio.run(Direct(framework, routes=router.routes)(scope, receive, send))  # type: ignore[arg-type]
    route = getattr(scope.get("route"), "path", None)
    return sent[0]["status"], b"".join(part.get("body", b"") for part in sent[1:]), route


def test_a_known_route_is_answered_without_the_framework() -> None:
    assert asked("POST", "/double", b'{"n": 21}') == (200, b"42", "/double")


def test_what_is_wrong_with_a_body_is_said_as_everywhere() -> None:
    status, told, route = asked("POST", "/double", b'{"n": "x"}')
    assert (status, route) == (422, "/double")
    assert b'"path":"n"' in told
    assert asked("POST", "/double", b"{")[0] == 400
    assert asked("POST", "/double", b'{"n": 1' + b" " * 200 + b"}")[0] == 413


def test_refusals_and_errors_of_the_engine_become_problem_documents() -> None:
    assert asked("POST", "/refused")[0] == 503
    status, told, _ = asked("POST", "/away")
    assert status == 503
    assert b"store-unavailable" in told
    assert b'"request_id":"r1"' in told


def test_everything_else_goes_to_the_framework() -> None:
    for method, path in (("GET", "/double"), ("POST", "/nowhere"), ("POST", "/with/a"), ("POST", "/double/")):
        assert asked(method, path) == (299, b"", None)
