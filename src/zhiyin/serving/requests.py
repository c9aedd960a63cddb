"""Around every request: an id, a line in the log, a measurement, and no error that leaks."""

from __future__ import annotations

import re
import sys
import time
import uuid
from typing import Any

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zhiyin.serving.metrics import Metrics
from zhiyin.serving.problems import internal_error

HEADER = "X-Request-ID"
_SAFE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def make_log() -> Any:
    """Return a logger that writes JSON lines to the standard error stream; no global setting is touched."""
    return structlog.wrap_logger(
        structlog.WriteLogger(sys.stderr),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
    )


class Requests:
    """ASGI middleware; the outermost one.

    Args:
        app: What answers.
        metrics: Counts.
        log: Writes a line for each failure and, where wanted, for each request.
        log_requests: Whether successful requests are worth a line.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics, log: Any, log_requests: bool) -> None:
        self._app = app
        self._metrics = metrics
        self._log = log
        self._log_requests = log_requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _given_id(scope) or uuid.uuid4().hex[:16]
        scope.setdefault("state", {})["request_id"] = request_id
        answered: list[int] = []

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                answered.append(message["status"])
                message["headers"] = [
                    *message.get("headers", []),
                    (HEADER.lower().encode(), request_id.encode()),
                ]
            await send(message)

        start = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_with_id)
            except Exception:
                self._log.exception("request failed", method=scope["method"], path=scope["path"])
                if not answered:
                    await internal_error().response(request_id)(scope, receive, send_with_id)
            self._count(scope, answered[0] if answered else 499, time.perf_counter() - start)

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unknown")
        self._metrics.requests.labels(route, _method(scope), str(status)).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)
        if self._log_requests:
            self._log.info(
                "request", method=scope["method"], route=route, status=status, ms=round(seconds * 1000, 2)
            )


def _method(scope: Scope) -> str:
    """The method, if it is one; anybody may send any word, and each would become a time series."""
    method = str(scope["method"])
    return method if method in {"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"} else "OTHER"


def _given_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            given = value.decode("latin-1")
            return given if _SAFE_ID.fullmatch(given) else None
    return None
