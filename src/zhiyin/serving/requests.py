"""Around every request: an id, a line in the log, a measurement, a span, and no error that leaks."""

from __future__ import annotations

import os
import re
import time
from contextlib import AbstractContextManager, nullcontext
from itertools import count
from typing import Any

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zhiyin.serving.log import make_log
from zhiyin.serving.metrics import Metrics
from zhiyin.serving.problems import internal_error
from zhiyin.serving.tracing import RequestSpan, Tracer

HEADER = "X-Request-ID"
NOTED = ("bundle", "degraded")
"""What routes write into ``request.state`` for the log line: the version that answered, and why an answer was
not computed in full. Whose data it was, and the public part of the key, stand in its ``principal``."""

_HEADER = HEADER.lower().encode()
_SAFE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_METHODS = frozenset({"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"})
_CLIENT_LEFT = 499
_NOTHING: AbstractContextManager[None] = nullcontext()


class Requests:
    """ASGI middleware; the outermost one.

    The line of a request names the template of its route and never its path, because paths hold ids of users.

    Args:
        app: What answers.
        metrics: Counts.
        log: Writes a line for each failure and, where wanted, for each request.
        log_requests: Whether successful requests are worth a line.
        tracer: Makes a span for each request; None where nobody collects them.
    """

    def __init__(
        self, app: ASGIApp, *, metrics: Metrics, log: Any, log_requests: bool, tracer: Tracer | None = None
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._log = log
        self._log_requests = log_requests
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = _Running(scope, send)
        self._metrics.in_progress += 1
        tokens = structlog.contextvars.bind_contextvars(request_id=request.request_id)
        try:
            with self._span(scope) as span:
                request.span = span
                await self._answer(request, scope, receive)
                self._finish(request, scope)
        finally:
            self._metrics.in_progress -= 1
            structlog.contextvars.reset_contextvars(**tokens)

    async def _answer(self, request: _Running, scope: Scope, receive: Receive) -> None:
        try:
            await self._app(scope, receive, request.send)
        except ClientDisconnect:
            return  # It left before its body had come: no fault of the service, and nobody to be answered.
        except Exception:
            self._log.error("request failed", method=scope["method"], route=_route(scope), exc_info=True)
            if not request.status:
                await internal_error().response(request.request_id)(scope, receive, request.send)
        except BaseException:  # The server stops, or the client has left; both are worth a count.
            self._finish(request, scope)
            raise

    def _span(self, scope: Scope) -> AbstractContextManager[RequestSpan | None]:
        return _NOTHING if self._tracer is None else self._tracer.request(scope["method"], scope["headers"])

    def _finish(self, request: _Running, scope: Scope) -> None:
        seconds = time.perf_counter() - request.start
        status = request.status or _CLIENT_LEFT
        route, method, noted = _route(scope), _method(scope), scope["state"]
        self._metrics.count_request(route, method, status, seconds)
        principal = noted.get("principal")
        if principal is not None:
            self._metrics.count_tenant(principal.tenant, status)
        if request.span is not None:
            request.span.end(route, method, status)
        if self._log_requests:
            line = {name: noted[name] for name in NOTED if noted.get(name) is not None}
            if principal is not None:
                line["tenant"] = principal.tenant
                line["key_id"] = principal.key_id
            if request.span is not None:
                line["trace_id"] = request.span.trace_id
            ms = round(seconds * 1000, 2)
            self._log.info("request", method=method, route=route, status=status, ms=ms, **line)


_process = os.urandom(5).hex()
_numbers = count()


def _new_id() -> str:
    """Return an id that no other request has: of this process, and a number.

    Asking the system for chance each time would cost more than all the rest around a request.
    """
    return f"{_process}{next(_numbers):06x}"


class _Running:
    """One request that is being answered."""

    __slots__ = ("_send", "request_id", "span", "start", "status")

    def __init__(self, scope: Scope, send: Send) -> None:
        self.start = time.perf_counter()
        self.request_id = _given_id(scope) or _new_id()
        self.status = 0
        self.span: RequestSpan | None = None
        self._send = send
        scope.setdefault("state", {})["request_id"] = self.request_id

    async def send(self, message: Message) -> None:
        """Pass a message on; the first one takes the ids along."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message.get("headers", ()), (_HEADER, self.request_id.encode())]
            if self.span is not None:
                headers.append((b"traceresponse", self.span.traceparent.encode()))
            message["headers"] = headers
        await self._send(message)


def _route(scope: Scope) -> str:
    return getattr(scope.get("route"), "path", "unknown")


def _method(scope: Scope) -> str:
    """The method, if it is one; anybody may send any word, and each would become a time series."""
    method = scope["method"]
    return method if method in _METHODS else "OTHER"


def _given_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == _HEADER:
            given = value.decode("latin-1")
            return given if _SAFE_ID.fullmatch(given) else None
    return None


__all__ = ["HEADER", "NOTED", "Requests", "make_log"]
